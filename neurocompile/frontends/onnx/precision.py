"""Files of half or double precision, read as the same model in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, numpy_helper

from neurocompile.advice import warn
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.load import LoadedModel

__all__ = ["in_float32"]

_OTHERS: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
_NAMES_A_TYPE = frozenset({"to", "dtype"})
"""Attributes that hold an ONNX type (of Cast, ConstantOfShape's relatives)."""


@dataclass
class _Lost:
    """What rounding double to single does to weights."""

    kinds: set[str] = field(default_factory=set)
    values: int = 0
    rounded: int = 0
    largest: float = 0.0
    """Relative, of a value that float32 resolves."""


def in_float32(loaded: LoadedModel) -> LoadedModel:
    """``loaded`` itself if its tensors and its input are float32; else the same graph with every
    floating-point type float32, and a warning that says how many weights that rounds. Half and
    bfloat16 weights are float32 numbers: nothing of them is lost. NC1004 for what is beyond float32.
    """
    if not any(kind in _OTHERS for kind in _types(loaded.proto)):
        return loaded
    proto, lost = onnx.ModelProto(), _Lost()
    proto.CopyFrom(loaded.proto)
    try:
        for message in list(_messages(proto)):
            _convert(message, lost)
        _drop_casts(proto)
    except NeurocompileError:
        raise
    except Exception as error:  # a damaged tensor or graph, which the checker let pass
        raise NeurocompileError(
            "NC1002", f"'{loaded.path}' is damaged: {type(error).__name__}: {str(error)[:160]}"
        ) from error
    warn(_said(loaded, lost))
    return loaded.rewritten(proto, recovered=False)


def _types(proto: onnx.ModelProto) -> Iterator[int]:
    """Types of the tensors that hold numbers, and of the input."""
    for message in _messages(proto):
        if isinstance(message, TensorProto):
            yield message.data_type
    for value in proto.graph.input:
        yield value.type.tensor_type.elem_type


def _messages(message: Message) -> Iterator[Message]:
    """``message`` and everything within, tensors not opened."""
    stack = [message]
    while stack:
        found = stack.pop()
        yield found
        if isinstance(found, TensorProto):
            continue
        for about, value in found.ListFields():
            if about.type == about.TYPE_MESSAGE:
                stack += [value] if isinstance(value, Message) else list(value)


def _convert(message: Message, lost: _Lost) -> None:
    if isinstance(message, TensorProto) and message.data_type in _OTHERS:
        lost.kinds.add(_OTHERS[message.data_type])
        array = numpy_helper.to_array(message)
        message.CopyFrom(numpy_helper.from_array(_single(array, message.name, lost), message.name))
    elif isinstance(message, onnx.TypeProto.Tensor) and message.elem_type in _OTHERS:
        lost.kinds.add(_OTHERS[message.elem_type])
        message.elem_type = TensorProto.FLOAT
    elif isinstance(message, onnx.AttributeProto) and message.name in _NAMES_A_TYPE:
        if message.type == message.INT and message.i in _OTHERS:
            message.i = TensorProto.FLOAT


def _drop_casts(proto: onnx.ModelProto) -> None:
    """A cast of float32 to float32, which was one to another precision, is no cast."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    known = {v.name for v in (*graph.value_info, *graph.input, *graph.output) if _is_float(v)} | {
        t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT
    }
    for node in proto.graph.node:
        if node.op_type == "Cast" and not node.domain and node.input[0] in known:
            if node.attribute[0].i == TensorProto.FLOAT:
                node.op_type = "Identity"
                del node.attribute[:]


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == TensorProto.FLOAT


def _single(array: np.ndarray, name: str, lost: _Lost) -> np.ndarray:
    wide = array.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        single = wide.astype(np.float32)
    if np.isfinite(wide).all() and not np.isfinite(single).all():
        raise NeurocompileError("NC1004", f"'{name}' has values beyond float32, {wide.max():.3g}")
    differs = (single != wide) & np.isfinite(wide)
    lost.values += array.size
    lost.rounded += int(differs.sum())
    if differs.any():
        error = np.abs(single[differs] - wide[differs]) / np.abs(wide[differs])
        lost.largest = max(lost.largest, float(error.max()))
    return np.ascontiguousarray(single).reshape(array.shape)


def _said(loaded: LoadedModel, lost: _Lost) -> str:
    names = " and ".join(sorted(lost.kinds))
    what = (
        "no weight is rounded"
        if not lost.rounded
        else f"{lost.rounded:,} of {lost.values:,} weights are rounded, by at most {lost.largest:.1g} of their value"
    )
    return f"'{loaded.path}' is {names}: it is compiled, and compared, in float32; {what}"
