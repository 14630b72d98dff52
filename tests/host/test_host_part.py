"""The host part of a stranger's artifact is checked before it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurocompile.errors import NeurocompileError
from neurocompile.host.check import CUT, ONNX_ERRORS, STEPWISE, checked
from neurocompile.host.part import HostPart

REFUSED = (ValueError, *ONNX_ERRORS)


def part(
    nodes: list[onnx.NodeProto] | None = None,
    constants: dict[str, np.ndarray] | None = None,
    cut: tuple[int | str, ...] = ("samples", 4),
    output: tuple[int | str, ...] = ("samples", 3),
) -> onnx.ModelProto:
    """ReLU(W cut)."""
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = nodes or [
        helper.make_node("MatMul", [CUT, "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "host",
        [helper.make_tensor_value_info(CUT, TensorProto.FLOAT, cut)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(v, k) for k, v in (constants or {"w": weight}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_any_number_of_samples_runs() -> None:
    found = HostPart.of(part().SerializeToString())
    assert found.outputs[0].shape == (3,) and found.main == "y"
    x = np.random.default_rng(1).normal(size=(150, 4))
    weight = numpy_helper.to_array(part().graph.initializer[0])
    outputs, steps = found.run(x)
    np.testing.assert_allclose(outputs["y"], np.maximum(x @ weight, 0), rtol=1e-4, atol=1e-6)
    assert not steps and found.run(x[:0])[0]["y"].shape == (0, 3)


def test_a_fixed_batch_is_filled_up() -> None:
    fixed = HostPart.of(part(cut=(2, 4), output=(2, 3)).SerializeToString())
    free, x = HostPart.of(part().SerializeToString()), np.ones((5, 4)) * np.arange(5)[:, None]
    np.testing.assert_array_equal(fixed.run(x)[0]["y"], free.run(x)[0]["y"])


def node(kind: str, *inputs: str, domain: str = "", **attributes: object) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, [CUT, *inputs], ["y"], domain=domain, **attributes)]


def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    proto = part()
    change(proto)
    return proto


def outside(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


BODY = helper.make_graph([], "b", [], [])
HOSTILE = {
    "an operator of another domain": lambda: part(node("Foo", domain="evil")),
    "a loop": lambda: part([helper.make_node("Loop", ["", ""], ["y"], body=BODY)]),
    "a body in a plain operator": lambda: part(node("Relu", body=BODY)),
    "random numbers": lambda: part(node("RandomNormalLike")),
    "external data": lambda: changed(outside),
    "a function": lambda: changed(lambda p: p.functions.add(name="f", domain="g")),
    "two inputs": lambda: changed(
        lambda p: p.graph.input.append(helper.make_tensor_value_info("z", 1, [1]))
    ),
    "another shape than it has": lambda: part(output=("samples", 4)),
    "an enormous value": lambda: part(
        node("Expand", "s"), {"s": np.array([1 << 20, 1, 4])}, output=("samples", 3)
    ),
    "a size that nobody knows": lambda: part(
        [helper.make_node("Expand", ["w", CUT], ["y"])], output=("samples", 3)
    ),
    "NaN": lambda: part(constants={"w": np.full((4, 3), np.nan, np.float32)}),
    "steps that are not there": lambda: changed(
        lambda p: helper.set_model_props(p, {STEPWISE: json.dumps(["y"])})
    ),
    "other metadata": lambda: changed(lambda p: helper.set_model_props(p, {"x": "y"})),
    "an opset of the future": lambda: changed(lambda p: setattr(p.opset_import[0], "version", 999)),
    "a cycle": lambda: part(
        [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("Relu", ["y"], ["h"])]
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_we_do_not_write_is_refused(what: str) -> None:
    with pytest.raises(REFUSED):
        checked(HOSTILE[what]().SerializeToString())


def large() -> onnx.ModelProto:
    """An outer product of what the chip gives: 2^26 values of one sample."""
    nodes = [
        helper.make_node("MatMul", [CUT, "w"], ["h"]),
        helper.make_node("Unsqueeze", ["h", "1"], ["a"]),
        helper.make_node("Unsqueeze", ["h", "2"], ["b"]),
        helper.make_node("MatMul", ["b", "a"], ["c"]),
        helper.make_node("ReduceSum", ["c", "12"], ["y"], keepdims=0),
    ]
    constants = {"w": np.ones((1, 1 << 13), np.float32), "12": np.array([1, 2])}
    constants |= {"1": np.array([1]), "2": np.array([2])}
    return part(nodes, constants, ("samples", 1), ("samples",))


WHY = {
    "an IR of the future": (
        lambda: changed(lambda p: setattr(p, "ir_version", 99)),
        "IR version 99, 2 nodes",
    ),
    "text": (
        lambda: part(constants={"w": np.array([["a"]] * 4, object)}),
        "a tensor of object, or with NaN",
    ),
    "a cut of four axes": (
        lambda: part(node("Relu"), cut=("n", 4, 2, 3), output=("n", 4, 2, 3)),
        r"a cut is float32 \(samples, elements\)",
    ),
    "a cut of an open size": (lambda: part(node("Relu"), cut=("n", "m")), "a cut is float32"),
    "an output without axes": (lambda: part(output=()), "'y' has no shape"),
    "no output": (
        lambda: changed(lambda p: p.graph.ClearField("output")),
        "one input, the cut, and one output or more",
    ),
    "outputs of a fixed number of samples": (
        lambda: part(cut=("n", 4), output=(3, 3)),
        r"output \[3, 3\], for samples 0",
    ),
    "large": (large, r"value 'c' of size \[3, 8192, 8192\]"),
}


@pytest.mark.parametrize("what", WHY)
def test_each_reason_is_named(what: str) -> None:
    make, why = WHY[what]
    with pytest.raises(ValueError, match=why):
        checked(make().SerializeToString())


def test_a_host_part_of_more_bytes_than_any_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocompile.host.check._LARGEST_BYTES", 100)
    with pytest.raises(ValueError, match=r"^\d+ bytes$"):
        checked(part().SerializeToString())


def test_values_of_every_step_go_in_as_they_are() -> None:
    shape = ("samples", "steps", 4)
    nodes = [helper.make_node("Relu", [CUT], ["y"], name="relu")]
    timed = part(nodes, {"w": np.zeros(1, np.float32)}, shape, shape)
    helper.set_model_props(timed, {STEPWISE: json.dumps(["y"])})
    found = HostPart.of(timed.SerializeToString())
    assert found.stepwise and str(found) == "Relu; reads 4 values, every step"
    x = np.random.default_rng(2).normal(size=(3, 5, 4))
    means, steps = found.run(x)
    wanted = np.maximum(x, 0)
    np.testing.assert_allclose(steps["y"], wanted, rtol=1e-6)
    np.testing.assert_allclose(means["y"], wanted.mean(1), rtol=1e-6)
    found.check_steps(7)  # any number of steps
    three = part(nodes, {"w": np.zeros(1, np.float32)}, ("n", 3, 4), ("n", 3, 4))
    with pytest.raises(NeurocompileError, match="NC1007 T is 7, .* each of 3 steps"):
        HostPart.of(three.SerializeToString()).check_steps(7)


def test_what_onnxruntime_refuses_is_told() -> None:
    """The checker takes an index that is out of range; the runtime finds it."""
    nodes = [helper.make_node("Gather", [CUT, "i"], ["y"], axis=1)]
    found = HostPart.of(
        part(nodes, {"i": np.array([0, 1, 9])}, output=("samples", 3)).SerializeToString()
    )
    with pytest.raises(NeurocompileError, match="^NC5004 onnxruntime refuses the host part: "):
        found.run(np.zeros((2, 4)))


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"not onnx at all", b"\x08\x0a:\x00"])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(REFUSED):
        checked(content)


def test_an_artifact_with_another_host_part_is_refused(tmp_path: Path) -> None:
    """Hashes computed again, as a forger does: the cut's size gives it away."""
    import neurocompile
    from neurocompile.artifact.store import save_program

    digits = neurocompile.load(_built(tmp_path))
    forged = HostPart.of(part().SerializeToString())
    from dataclasses import replace

    save_program(replace(digits, host=forged), tmp_path / "f.nca")
    with pytest.raises(NeurocompileError, match="^NC5001 .*reads other values"):
        neurocompile.load(tmp_path / "f.nca")


def _built(folder: Path) -> Path:
    from onnx_cases import small

    import neurocompile

    onnx.save(small(constants={"w": np.eye(5, 4, dtype=np.float32).T.copy()}), folder / "m.onnx")
    neurocompile.compile(folder / "m.onnx", calibration=np.eye(4, dtype=np.float32)).save(
        folder / "m.nca"
    )
    return folder / "m.nca"
