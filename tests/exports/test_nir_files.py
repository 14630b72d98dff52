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


FORMS = """spiking "g" {stage = "quantized"}
%x = Input {shape = [6], unit = 1.0, low = 0, high = 1, steps = 4}
%l = Linear {x = %x, weight = @l.weight, exponent = 1}
%a = IntegerLIF {x = %l, vth = 90, dv = 1024, current = 2048}
%k = Linear {x = %a, weight = @k.weight, bias = @k.bias}
%k2 = Linear {x = %x, weight = @k2.weight}
%s = Add {a = %k, b = %k2}
%b = IntegerLIF {x = %s, vth = 70, dv = 4096}
%o = Or {x = %b}
%h = Linear {x = %o, weight = @h.weight}
%m = TimeMean {x = %h}
%out = Output {x = %m, unit = 0.125, bias = @h.bias}
"""


def forms(text: str = FORMS) -> s.SpikingGraph:
    rng = np.random.default_rng(5)
    weights = {"l": (5, 6), "k": (4, 5), "k2": (4, 6), "h": (3, 4), "one": (1, 6)}
    tensors = {
        f"{name}.weight": (2 * rng.integers(-50, 60, shape)).astype(np.int16)
        for name, shape in weights.items()
    }
    biases = {
        "k.bias": np.array([4, -6, 8, 30], np.int32),
        "h.bias": np.array([1, 0, -2], np.int32),
    }
    return s.SpikingGraph.parse(text, tensors | biases)


def test_currents_sums_and_thresholds_are_read_back(tmp_path: Path) -> None:
    graph = forms()
    nodes, edges = nir_nodes(graph)
    kinds = {name: kind for name, (kind, _) in nodes.items()}
    assert kinds == {
        "x": "Input",
        "l": "Linear",
        "a": "CubaLIF",
        "k": "Affine",
        "k2": "Linear",
        "b": "LIF",
        "o": "Threshold",
        "h": "Affine",
        "out": "Output",
    }
    assert {("k", "b"), ("k2", "b")} < set(edges)  # a sum is two edges
    path = export_nir(graph, tmp_path / "forms.nir")
    rng = np.random.default_rng(0)
    x = (rng.random((8, STEPS, 6)) < 0.5).astype(np.float32)
    program = neurocompile.compile(path, calibration=x, discretize=EXPORTED)
    meant = evaluate(graph, x.astype(np.int64), STEPS, ["a", "b", "out"])
    read = evaluate(program.quantized, x.astype(np.int64), STEPS, ["a", "b", "out"])
    for name in ("a", "b"):
        assert 0 < meant[name].mean() < 1
        np.testing.assert_array_equal(read[name], meant[name], err_msg=name)
    np.testing.assert_allclose(program.run(x).logits, meant["out"].reshape(8, -1), rtol=1e-6)


@pytest.mark.parametrize(
    "old, new, why",
    [
        (
            "vth = 70, dv = 4096",
            "vth = 70, dv = 0, bias = @k.bias",
            "without a leak and with a bias",
        ),
        (
            "dv = 1024, current = 2048",
            "dv = 0, current = 2048",
            "synaptic current in front of neurons without a leak",
        ),
        ("@k2.weight", "@one.weight", "a sum of (4,) and (1,)"),
        ("b = %k2}", "b = %k}", "a sum of a value and itself"),
        ("%m = TimeMean {x = %h}", "%m = TimeMean {x = %o}", "logits that are no layer's"),
        ("shape = [6]", "shape = [3, 6]", "a Linear over (3, 6), several tokens"),
    ],
)
def test_each_layer_beyond_nir_is_refused(old: str, new: str, why: str) -> None:
    text = FORMS.replace(old, new)
    assert text != FORMS
    with pytest.raises(NeurocompileError) as refused:
        nir_nodes(forms(text))
    assert refused.value.code == "NC5009" and why in refused.value.message


def test_a_pool_with_one_longer_border_is_refused() -> None:
    text = TEXT.replace("kernel = [2, 2], stride", "kernel = [2, 2], more = [1, 1], stride")
    with pytest.raises(NeurocompileError, match="NC5009.*a longer border on one side"):
        nir_nodes(s.SpikingGraph.parse(text, network().tensors))
