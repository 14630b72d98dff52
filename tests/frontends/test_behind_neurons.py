"""What lies behind a model's last neurons: on the chip as far as it is linear, on the host beyond,
and all of it what onnxruntime makes of the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_cases import imported, ints, lif, model, normal, op, timed

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir.evaluate import evaluate, step_outputs, step_source

T = 4
ROW = np.float32([0.5, -1, 2, 1, -0.5, 1])
CONSTANTS = {
    "w": normal(6, 6),
    "v": normal(6, 3, seed=1),
    "u": normal(6, 1, seed=4),
    "b": normal(3, seed=2),
    "row": ROW,
    "steps": np.float32([0.1, 0.2, 0.3, 0.4]).reshape(T, 1, 1),
    "half": np.float32(0.5),
    "one": np.float32(1),
    "two": np.float32(2),
    "last": ints(-1),
    "end": np.array(3),
    "first": ints(1),
    "begin": ints(2),
    "stop": ints(4),
    "pairs": ints(-1, 3, 2),
    "mix": normal(T, T, seed=3),
    "as_row": ints(1, 6),
    "as_steps": ints(1, T),
    "begun": np.zeros((1, 2, 6), np.float32),
    "flat": ints(T, -1),
    "back": ints(T, -1, 6),
}
MEAN = [op("ReduceMean", "l zero", "m", keepdims=0), op("MatMul", "m w", "h")]
STEPS = [op("MatMul", "l w", "h")]


def network(
    tail: list[onnx.NodeProto], outputs: str = "out", every: str = "", batch: int | str = "batch"
) -> onnx.ModelProto:
    """x (batch, 6) over four steps, a layer, a LIF 'l' (T, batch, 6), and ``tail``; outputs
    ``every`` have one value a step."""
    nodes, fixed = timed((6,), [op("MatMul", "t w", "f"), lif("f", "l"), *tail], T)
    proto = model(nodes, {**CONSTANTS, **fixed}, (batch, 6))
    del proto.graph.output[:]
    for name in outputs.split():
        maker = next(n for n in tail if name in n.output)
        kind = TensorProto.INT64 if maker.op_type == "ArgMax" else TensorProto.FLOAT
        rank = 1 if maker.op_type == "ArgMax" else 3 if name in every else 2
        dims = [f"{name}{k}" for k in range(rank)]
        proto.graph.output.append(helper.make_tensor_value_info(name, kind, dims))
    return proto


def layer_norm(x: str, y: str) -> list[onnx.NodeProto]:
    """As exporters write it below opset 17."""
    return [
        op("ReduceMean", f"{x} last", "mu"),
        op("Sub", f"{x} mu", "d"),
        op("Mul", "d d", "sq"),
        op("ReduceMean", "sq last", "var"),
        op("Add", "var half", "eps"),
        op("Sqrt", "eps", "sd"),
        op("Div", "d sd", y),
    ]


TAILS = {
    "relu_mlp": [*MEAN, op("Relu", "h", "r"), op("Gemm", "r v b", "out")],
    "gelu": [
        *MEAN,
        op("Div", "h two", "e"),
        op("Erf", "e", "g"),
        op("Add", "g one", "a"),
        op("Mul", "h a", "out"),
    ],
    "tanh_then_layers": [
        *MEAN,
        op("Tanh", "h", "r"),
        op("MatMul", "r v", "q"),
        op("Add", "q b", "out"),
    ],
    "layer_norm": [
        *MEAN,
        helper.make_node("LayerNormalization", ["h", "row"], ["n"]),
        op("MatMul", "n v", "out"),
    ],
    "layer_norm_written_out": [*MEAN, *layer_norm("h", "out")],
    "softmax": [*MEAN, op("Softmax", "h", "out", axis=-1)],
    "log_softmax": [*MEAN, op("LogSoftmax", "h", "out", axis=1)],
    "batch_norm_behind_relu": [
        *MEAN,
        op("Relu", "h", "r"),
        op("BatchNormalization", "r row row row one6", "out"),
    ],
    "unit_length_expanded": [
        *MEAN,
        op("ReduceL2", "h last", "n", keepdims=1),
        op("Expand", "n as_row", "e"),
        op("Div", "h e", "out"),
    ],
    "expanded_to_as_many_as_steps": [
        *MEAN,
        op("ReduceL2", "h last", "n", keepdims=1),
        op("Expand", "n as_steps", "out"),
    ],
    "unit_length": [*MEAN, op("ReduceL2", "h last", "n", keepdims=1), op("Div", "h n", "out")],
    "product_of_means": [*MEAN, op("Mul", "h m", "out")],
    "reshaped_and_pooled": [
        *MEAN,
        op("Reshape", "h pairs", "p"),
        op("Softmax", "p", "q", axis=1),
        op("ReduceSum", "q last", "out", keepdims=0),
    ],
    "largest_class": [*MEAN, op("ArgMax", "h", "out", axis=1, keepdims=0)],
    "of_each_step": [*STEPS, op("Relu", "h", "r"), op("ReduceMean", "r zero", "out", keepdims=0)],
    "at_every_step": [*STEPS, op("Sigmoid", "h", "out")],
    "weights_for_each_step": [
        *STEPS,
        op("Mul", "h steps", "r"),
        op("ReduceSum", "r zero", "out", keepdims=0),
    ],
    "a_matrix_over_steps": [
        *STEPS,
        op("Reshape", "h flat", "q"),
        op("MatMul", "mix q", "r"),
        op("Reshape", "r back", "y"),
        op("Gather", "y end", "out", axis=0),
    ],
    "the_last_step": [*STEPS, op("Gather", "h end", "out", axis=0)],
    "the_last_two_steps": [
        *STEPS,
        op("Slice", "h begin stop zero", "r"),
        op("ReduceMean", "r zero", "out", keepdims=0),
    ],
    "largest_over_time": [*STEPS, op("ReduceMax", "h zero", "out", keepdims=0)],
    "samples_first": [
        *STEPS,
        op("Transpose", "h", "p", perm=[1, 0, 2]),
        op("Softmax", "p", "q", axis=2),
        op("ReduceMean", "q first", "out", keepdims=0),
    ],
}
CONSTANTS["one6"] = np.ones(6, np.float32)
CONSTANTS |= {
    "maps": ints(-1, 2, 1, 3),
    "wide": np.float32([1, 1, 2, 1]),
    "rest": ints(-1, 12),
    "two_groups": np.float32([0.5, 2]),
    "none2": np.zeros(2, np.float32),
    "no_axes": ints(),
    "of_sample": np.tile(ROW, (2, 1)),
    "apart": np.arange(12, dtype=np.float32).reshape(2, 6),
    "more": np.arange(18, dtype=np.float32).reshape(3, 1, 6),
}
COUNT = [op("Shape", "x", "n"), op("Gather", "n zero", "g0", axis=0), op("Cast", "g0", "k", to=1)]
WIDTH = [
    op("Shape", "x", "n"),
    op("Cast", "n", "real", to=1),
    op("Gather", "real first", "k", axis=0),
]
RELU = [*MEAN, op("Relu", "h", "r")]
MAPS = [*RELU, op("Reshape", "r maps", "p")]
TAILS |= {
    "a_larger_map": [
        *MAPS,
        helper.make_node("Resize", ["p", "", "wide"], ["q"], mode="nearest"),
        op("Reshape", "q rest", "out"),
    ],
    "groups": [
        *MAPS,
        op("InstanceNormalization", "p two_groups none2", "q"),
        op("Flatten", "q", "out"),
    ],
    "no_axis": [*RELU, op("ReduceSum", "r no_axes", "out", noop_with_empty_axes=1)],
    "a_constant_of_more_axes": [
        *RELU,
        op("Add", "r more", "q"),
        op("ReduceSum", "q zero", "out", keepdims=0),
    ],
}
SEVERAL = {
    "two": ([*MEAN, op("MatMul", "h v", "q")], "h q"),
    "one_of_them_classes": (
        [*MEAN, op("Softmax", "h", "p"), op("MatMul", "m u", "q"), op("Sigmoid", "q", "s")],
        "s p",
    ),
    "of_steps_and_of_their_mean": (
        [*STEPS, op("ReduceMean", "l zero", "m", keepdims=0), op("MatMul", "m v", "q")],
        "h q",
    ),
    "auxiliary": ([*MEAN, op("Relu", "h", "r"), op("MatMul", "r v", "q")], "q m"),
    "the_same_twice": ([*MEAN, op("Identity", "h", "q")], "h q"),
}
ALL = {name: (tail, "out") for name, tail in TAILS.items()} | SEVERAL
ALL["at_every_step"] += ("out",)
ALL["of_steps_and_of_their_mean"] += ("h",)


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("form", ALL)
def test_chip_and_host_compute_what_onnxruntime_does(form: str, batch, tmp_path: Path) -> None:
    loaded, found = imported(network(*ALL[form], batch=batch), tmp_path)
    x = np.random.default_rng(0).uniform(-1, 2, (5, 6)).astype(np.float32)
    reference = run_onnx(loaded, found, x)
    host, graph = found.host, found.graph
    assert host is not None and [o.name for o in host.outputs] == ALL[form][1].split()
    source = step_source(graph)
    values = evaluate(graph, x, T, ["l", source, graph.output.name])
    np.testing.assert_array_equal(values["l"], reference.layers["l"])
    cut = step_outputs(graph, values[source]) if host.stepwise else values[graph.output.name]
    outputs, steps = host.run(cut)
    for ours, theirs in zip(outputs.values(), reference.outputs, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for name, ours in steps.items():
        np.testing.assert_allclose(ours.mean(axis=1), outputs[name], rtol=1e-6)


def test_the_host_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    """Of x and x - mean(x) the first alone; linear layers stay on the chip."""
    elements = {}
    for form in ("layer_norm_written_out", "gelu", "relu_mlp", "product_of_means"):
        host = imported(network(TAILS[form]), tmp_path)[1].host
        elements[form] = host.interface.elements, host.stepwise, host.operators
    assert [e[:2] for e in elements.values()] == [(6, False), (6, False), (6, False), (12, False)]
    assert elements["relu_mlp"][2] == {"Gemm": 1, "Relu": 1}


REFUSED = {
    "over_samples": (
        [*MEAN, op("Softmax", "h", "out", axis=0)],
        "NC1008.*samples are computed alone",
    ),
    "of_one_sample": (
        [*MEAN, op("Relu", "h", "r"), op("Gather", "r end", "out", axis=0)],
        "NC1008.*some samples",
    ),
    "a_constant_of_samples": (
        [*RELU, op("Add", "r apart", "out")],
        "NC1009.*differs between samples",
    ),
    "all_of_the_batch": (
        [*RELU, op("ReduceSum", "r", "out", keepdims=1)],
        "NC1008.*samples are computed alone",
    ),
    "counts_samples": (
        [*RELU, *COUNT, op("Mul", "r k", "out")],
        "NC1009.*depends on the number of samples",
    ),
    "counts_samples_on_the_chip": (
        [*MEAN, *COUNT, op("Mul", "h k", "out")],
        "NC1009.*depends on the number of samples",
    ),
    "counts_samples_in_front_of_a_neuron": (
        [
            *COUNT,
            op("Mul", "f k", "g"),
            lif("g", "s"),
            op("ReduceMean", "s zero", "out", keepdims=0),
        ],
        "NC1009.*depends on the number of samples",
    ),
    "no_function": ([*MEAN, op("RandomNormalLike", "h", "out")], "NC1003 .*RandomNormalLike"),
    "in_front_of_a_neuron": (
        [op("Round", "f", "r"), lif("r", "s"), op("ReduceMean", "s zero", "out", keepdims=0)],
        "NC1003 .*Round",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_no_host_may_do_is_refused(form: str, tmp_path: Path) -> None:
    tail, why = REFUSED[form]
    with pytest.raises(NeurocompileError, match=why):
        imported(network(tail), tmp_path)


def test_a_constant_of_the_examples_samples_is_named(tmp_path: Path) -> None:
    tail = [op("Concat", "l begun", "c", axis=0), op("MatMul", "c w", "h")]
    tail.append(op("ReduceMean", "h zero", "out", keepdims=0))
    why = "NC1009.*the example's number of samples.*fires before it adds its input"
    with pytest.raises(NeurocompileError, match=why):
        imported(network(tail, batch=2), tmp_path)


@pytest.mark.parametrize("form", ["weights_for_each_step", "one_of_them_classes"])
def test_a_program_returns_what_the_file_does(form: str, tmp_path: Path) -> None:
    """Run, artifact, parity: integers at the cut, float behind it, the same bytes again."""
    tail, names, *_ = ALL[form]
    proto, path = network(tail, names), tmp_path / "m.onnx"
    onnx.save(proto, path)
    x = np.random.default_rng(0).uniform(-1, 2, (12, 6)).astype(np.float32)
    program = neurocompile.compile(path, calibration=x)
    result = program.run(x)
    loaded, found = imported(proto, tmp_path)
    for ours, theirs in zip(
        result.outputs.values(), run_onnx(loaded, found, x).outputs, strict=True
    ):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).mean() < 0.05 * np.abs(theirs).max()
    main = "p" if form == "one_of_them_classes" else "out"
    np.testing.assert_array_equal(result.logits, result.outputs[main])
    np.testing.assert_array_equal(result.predictions, result.outputs[main].argmax(1))
    report = program.parity(x, against=("emulator",), reference=path)
    assert report.exact and report.host == tuple(program.host.operators)
    assert [h.name for h in report.reference.heads] == names.split()
    assert all(h.output_error < 0.2 for h in report.reference.heads)
    files = [tmp_path / "a.nca", tmp_path / "b.nca"]
    program.save(files[0])
    again = neurocompile.load(files[0])
    again.save(files[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.fingerprint == program.fingerprint and again.host == program.host
    np.testing.assert_array_equal(again.run(x).logits, result.logits)
    summary = program.summary()
    assert summary.host == program.host.operators and list(summary.outputs) == names.split()


def test_weights_for_each_step_hold_for_these_steps_alone(tmp_path: Path) -> None:
    onnx.save(network(TAILS["weights_for_each_step"]), tmp_path / "m.onnx")
    with pytest.raises(NeurocompileError, match=r"^NC1007 T is 8.*each of 4 steps"):
        neurocompile.compile(tmp_path / "m.onnx", T=8, calibration=np.eye(6, dtype=np.float32))
    onnx.save(network(*ALL["of_steps_and_of_their_mean"]), tmp_path / "m.onnx")
    x = np.eye(6, dtype=np.float32)
    assert neurocompile.compile(tmp_path / "m.onnx", T=8, calibration=x).run(x).logits.shape == (
        6,
        6,
    )
