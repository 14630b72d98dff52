"""Softmax of mean scores in an ONNX file: imported as onnxruntime computes it, compiled, exact on
Lava; anything else named.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import imported, ints, lif, model, normal, op, timed

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

TOKENS, D, T = 3, 4, 6


def attention(middle: list[onnx.NodeProto] | None = None, again: int = T) -> onnx.ModelProto:
    """x (batch, 3, 4); Q, K and V by LIF, ``middle`` from q, k, v to 'y', repeated over time, a
    projection and LIF.
    """
    middle = middle or [
        op("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        op("MatMul", "q kt", "s"),
        op("ReduceMean", "s zero", "sm", keepdims=1),
        op("Mul", "sm scale", "sc"),
        op("Softmax", "sc", "p", axis=-1),
        op("ReduceMean", "v zero", "vm", keepdims=1),
        op("MatMul", "p vm", "y"),
    ]
    nodes, constants = timed(
        (TOKENS, D),
        [
            op("MatMul", "t wq", "fq"),
            lif("fq", "q"),
            op("MatMul", "t wk", "fk"),
            lif("fk", "k"),
            op("MatMul", "t wv", "fv"),
            lif("fv", "v"),
            *middle,
            op("MatMul", "y wo", "o"),
            op("Tile", "o again", "r"),
            lif("r", "l"),
            op("ReduceMean", "l tokens", "m", keepdims=0),
            op("ReduceMean", "m zero", "out", keepdims=0),
        ],
        T,
    )
    weights = {f"w{i}": normal(D, D, seed=k) for k, i in enumerate("qkvo")}
    more = {
        "scale": np.float32(0.7),
        "again": ints(again, 1, 1, 1),
        "tokens": ints(2),
        "four": np.ones(D, np.float32),
    }
    return model(nodes, {**constants, **weights, **more}, ("batch", TOKENS, D))


def test_the_file_is_imported_as_onnxruntime_computes_it(tmp_path: Path) -> None:
    loaded, found = imported(attention(), tmp_path)
    x = np.random.default_rng(0).uniform(-2, 2, (5, TOKENS, D)).astype(np.float32)
    assert [type(n) for n in found.graph.nodes].count(s.Softmax) == 1
    assert [type(n) for n in found.graph.nodes].count(s.TimeMean) == 3
    reference = run_onnx(loaded, found, x)
    ours = evaluate(found.graph, x, T)
    assert set(reference.layers) == {"q", "k", "v", "l"}
    for name, spikes in reference.layers.items():
        np.testing.assert_array_equal(ours[name].reshape(spikes.shape), spikes, err_msg=name)
    np.testing.assert_allclose(
        ours[found.graph.output.name].reshape(reference.logits.shape),
        reference.logits,
        rtol=1e-5,
        atol=1e-6,
    )


def test_it_compiles_and_lava_finds_no_difference(tmp_path: Path) -> None:
    (tmp_path / "attention.onnx").write_bytes(attention().SerializeToString())
    x = np.random.default_rng(1).uniform(-2, 2, (3, TOKENS, D)).astype(np.float32)
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    program = neurocompile.compile(tmp_path / "attention.onnx", T=T, calibration=x)
    report = program.parity(x, against=("emulator", "lava"), reference=tmp_path / "attention.onnx")
    assert [(b.backend, b.differences) for b in report.backends] == [("emulator", 0), ("lava", 0)]
    program.save(tmp_path / "attention.nca")
    np.testing.assert_array_equal(
        neurocompile.load(tmp_path / "attention.nca").run(x).logits, program.run(x).logits
    )


def test_a_softmax_of_samples_is_refused(tmp_path: Path) -> None:
    middle = [op("ReduceMean", "q zero", "qm"), op("Softmax", "qm", "y", axis=1)]
    why = r"NC2012 node 'n_y' \(Softmax\): a softmax over axis 1 of \[1, "
    with pytest.raises(NeurocompileError, match=why):
        imported(attention(middle), tmp_path)


def test_a_softmax_of_means_over_another_axis(tmp_path: Path) -> None:
    middle = [op("ReduceMean", "q zero", "qm"), op("Softmax", "qm", "y", axis=2)]
    proto = attention(middle)
    loaded, found = imported(proto, tmp_path)
    x = np.random.default_rng(1).uniform(-2, 2, (3, TOKENS, D)).astype(np.float32)
    reference = run_onnx(loaded, found, x)
    ours = evaluate(found.graph, x, T)[found.graph.output.name]
    np.testing.assert_allclose(ours.reshape(reference.logits.shape), reference.logits, atol=1e-6)


def test_time_goes_on_with_as_many_steps_as_before(tmp_path: Path) -> None:
    with pytest.raises(
        NeurocompileError,
        match=rf"NC1008 node 'n_r' \(Tile\): repeats a value 5 times; the steps of time are {T}",
    ):
        imported(attention(again=5), tmp_path)


def test_a_softmax_that_no_product_reads_is_refused_by_the_compiler(tmp_path: Path) -> None:
    middle = [op("ReduceMean", "q zero", "qm"), op("Softmax", "qm", "p"), op("Mul", "p four", "y")]
    (tmp_path / "m.onnx").write_bytes(attention(middle).SerializeToString())
    with pytest.raises(
        NeurocompileError,
        match=r"NC2012 layer '.*' \(\w+\) reads the softmax 'n_p'; a product softmax @ V",
    ):
        neurocompile.compile(
            tmp_path / "m.onnx", T=T, calibration=np.ones((2, TOKENS, D), np.float32)
        )
