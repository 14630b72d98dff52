"""Small ONNX models for the tests: node lists with initializers, and our LIF."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx import lif as onnx_lif
from neurocompile.frontends.onnx.importer import ImportedModel, import_onnx
from neurocompile.frontends.onnx.load import LoadedModel, load_onnx

ZOO = Path(__file__).parents[1] / "models/zoo/qkformer_digits/qkformer.onnx"


def lif(x: str, y: str, **changes: object) -> onnx.NodeProto:
    fields = {"tau": 2.0, "v_threshold": 0.5, "v_reset": 0.0, "decay_input": 1, "soft_reset": 0}
    return helper.make_node(
        "LIF", [x], [y], name=y, domain=onnx_lif.DOMAIN, **{**fields, **changes}
    )


def op(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    """``inputs`` separated by spaces."""
    return helper.make_node(kind, inputs.split(), [output], name=f"n_{output}", **attributes)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[int | str | None, ...],
    output: str = "out",
    elem_type: int = TensorProto.FLOAT,
    more_inputs: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, elem_type, shape) for name in ("x", *more_inputs)]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "logits"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(onnx_lif.DOMAIN, onnx_lif.VERSION)]
    proto = helper.make_model(
        graph, opset_imports=opsets, functions=[onnx_lif.lif_function(18)], ir_version=10
    )
    helper.set_model_props(proto, metadata or {})
    return proto


def timed(
    shape: tuple[int, ...], nodes: list[onnx.NodeProto], steps: int = 4
) -> tuple[list[onnx.NodeProto], dict]:
    """``nodes`` behind the repetition of x over time, read as 't' (steps, batch, *shape); the batch
    is dynamic.
    """
    head = [op("Unsqueeze", "x zero", "x1"), op("Tile", "x1 repeats", "t")]
    return head + nodes, {"zero": ints(0), "repeats": ints(steps, *[1] * (len(shape) + 1))}


def imported(proto: onnx.ModelProto, folder: Path) -> tuple[LoadedModel, ImportedModel]:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    loaded = load_onnx(path)
    return loaded, import_onnx(loaded, "model")


def small(nodes: list[onnx.NodeProto] | None = None, **changes: object) -> onnx.ModelProto:
    """x (batch, 4) over four steps, a product, a LIF, a mean; ``nodes`` stand between 't' and 'f'."""
    nodes = [op("MatMul", "t w", "f")] if nodes is None else nodes
    nodes, fixed = timed(
        (4,), [*nodes, lif("f", "l"), op("ReduceMean", "l zero", "out", keepdims=0)]
    )
    constants = {"w": normal(4, 4), **fixed, **changes.pop("constants", {})}
    return model(nodes, constants, **{"shape": ("batch", 4), **changes})


def refused(proto: onnx.ModelProto, folder: Path, code: str, why: str = ".") -> None:
    started = time.monotonic()
    with pytest.raises(NeurocompileError, match=why) as caught:
        imported(proto, folder)
    assert caught.value.code == code, caught.value
    assert time.monotonic() - started < 5


MLP = {
    "w": normal(4, 5),
    "v": normal(5, 5, seed=1),
    "b": normal(5, seed=2),
    "h": normal(5, 3, seed=3),
}
TAIL = [op("ReduceMean", "l zero", "m", keepdims=0), op("MatMul", "m h", "out")]


def mlp(
    nodes: list[onnx.NodeProto], tail: list[onnx.NodeProto] = TAIL, **constants: np.ndarray
) -> onnx.ModelProto:
    found, fixed = timed((4,), [*nodes, *tail])
    return model(found, {**MLP, **fixed, **constants}, ("batch", 4))
