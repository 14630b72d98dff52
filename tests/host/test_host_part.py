"""The host part of a stranger's artifact is checked before it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

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


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"not onnx at all", b"\x08\x0a:\x00"])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(REFUSED):
        checked(content)


def test_an_artifact_with_another_host_part_is_refused(tmp_path: Path) -> None:
    """Hashes computed again, as a forger does: the cut's size gives it away."""
    import neurocompile
    from neurocompile.artifact.store import save_program
    from neurocompile.errors import NeurocompileError

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
