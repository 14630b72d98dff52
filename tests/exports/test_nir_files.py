"""A program as a NIR file: our own importer finds the same integers and spikes in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.discretization import EXPORTED
from neurocompile.errors import NeurocompileError
from neurocompile.exports.nir import export_nir, nir_nodes
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

pytest.importorskip("h5py", reason="the extra 'nir' is not installed")
STEPS = 4

TEXT = """spiking "g" {stage = "quantized"}
%x = Input {shape = [2, 6, 6], unit = 1.0, low = 0, high = 1, steps = 4}
%c = Conv2d {x = %x, weight = @c.weight, padding = [1, 1]}
%a = IntegerLIF {x = %c, vth = 90, dv = 2048, bias = @a.bias}
%c2 = Conv2d {x = %a, weight = @c2.weight, stride = [2, 2], groups = 2}
%b = IntegerLIF {x = %c2, vth = 40, dv = 0}
%p = SumPool2d {x = %b, kernel = [2, 2], stride = [2, 2]}
%f = Rearrange {x = %p, shape = [4], sizes = [4], strides = [1]}
%l = Linear {x = %f, weight = @l.weight}
%n = IntegerLIF {x = %l, vth = 30, dv = 1024}
%h = Linear {x = %n, weight = @h.weight}
%m = TimeMean {x = %h}
%out = Output {x = %m, unit = 0.125, bias = @h.bias}
"""


def network() -> s.SpikingGraph:
    rng = np.random.default_rng(3)

    def even(*shape: int) -> np.ndarray:
        return (2 * rng.integers(-60, 64, shape)).astype(np.int16)

    tensors = {
        "c.weight": even(4, 2, 3, 3),
        "a.bias": rng.integers(-200, 400, (4, 1, 1)).astype(np.int16),
        "c2.weight": even(4, 2, 3, 3),
        "l.weight": even(5, 4),
        "h.weight": even(3, 5),
        "h.bias": rng.integers(-9, 9, 3).astype(np.int32),
    }
    return s.SpikingGraph.parse(TEXT, tensors)


def test_the_same_integers_and_spikes_are_read_back(tmp_path: Path) -> None:
    graph = network()
    path = export_nir(graph, tmp_path / "out.nir")
    rng = np.random.default_rng(0)
    x = (rng.random((6, STEPS, 2, 6, 6)) < 0.5).astype(np.float32)
    program = neurocompile.compile(path, calibration=x, discretize=EXPORTED)
    meant = evaluate(graph, x.astype(np.int64), STEPS, ["a", "b", "n", "out"])
    found = evaluate(program.quantized, x.astype(np.int64), STEPS, ["a", "b", "n", "out"])
    for name in ("a", "b", "n"):
        assert 0 < meant[name].mean() < 1
        np.testing.assert_array_equal(found[name], meant[name], err_msg=name)
    for name in ("c", "c2", "l"):
        a, b = (g.tensors[g.node[name].weight].astype(np.int64) for g in (graph, program.quantized))
        ratio = np.unique((b.reshape(-1) / a.reshape(-1))[a.reshape(-1) != 0])
        assert ratio.size == 1, f"{name}: other integers"
    np.testing.assert_allclose(program.run(x).logits, meant["out"].reshape(6, -1), rtol=1e-6)


@pytest.mark.slow
def test_the_package_nir_reads_it(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir", reason="a tool of development")
    graph = nir.read(export_nir(network(), tmp_path / "out.nir"))
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    assert kinds["a"] == "LIF" and kinds["b"] == "IF" and kinds["h"] == "Affine"
    assert ("c", "a") in graph.edges and ("h", "out") in graph.edges
    np.testing.assert_allclose(graph.nodes["a"].tau, 2.0)
    np.testing.assert_allclose(graph.nodes["n"].v_threshold, 30.0)


def test_what_nir_has_no_node_for_is_refused_by_name() -> None:
    text = TEXT.replace("SumPool2d {x = %b", "MaxPool2d {x = %b")
    with pytest.raises(NeurocompileError, match=r"NC5009 layer 'p' \(MaxPool2d\)") as caught:
        nir_nodes(s.SpikingGraph.parse(text, network().tensors))
    assert caught.value.layer == "p"
    turned = TEXT.replace("sizes = [4], strides = [1]", "sizes = [2, 2], strides = [1, 2]")
    with pytest.raises(NeurocompileError, match="NC5009.*another order"):
        nir_nodes(s.SpikingGraph.parse(turned, network().tensors))
