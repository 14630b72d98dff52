"""Fold the small constants that exporters leave in a graph: indices, axes, shapes, scalars of
neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["Partial", "evaluate"]

Partial = list[int | None]
"""A one-dimensional integer tensor of which some elements are unknown."""

_LARGEST = 1 << 12
"""Elements of a folded value; weights are left to the importer."""


def evaluate(
    node: onnx.NodeProto, constants: Mapping[str, np.ndarray], partial: Mapping[str, Partial]
) -> np.ndarray | Partial | None:
    """The node's first output from its operands' values; None where it is not known, large, or of
    another operator.
    """
    if node.domain not in ("", "ai.onnx"):
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant":
        return _constant(attributes)
    if (rule := _RULES.get(node.op_type)) is None:
        return None
    operands: list[Any] = []
    for name in node.input:
        if name and name not in constants and name not in partial:
            return None
        value: Any = (
            constants.get(name)
            if name in constants or not name
            else np.asarray(partial[name], dtype=object)
        )
        if value is not None and value.size > _LARGEST:
            return None
        operands.append(value)
    try:
        with np.errstate(all="ignore"):
            value = rule(operands, attributes)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    if value is None or value.size > _LARGEST:
        return None
    return _tidy(value)


def _constant(attributes: dict[str, Any]) -> np.ndarray | None:
    if "value" in attributes:
        return numpy_helper.to_array(attributes["value"])
    for key, dtype in (
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if key in attributes:
            return np.asarray(attributes[key], dtype)
    return None


def _tidy(value: np.ndarray) -> np.ndarray | Partial | None:
    """Objects that are all known become integers; a vector with unknowns becomes a list; other
    unknowns are dropped.
    """
    if value.dtype != object:
        return np.asarray(value)
    if all(v is not None for v in value.flat):
        return value.astype(np.int64)
    return list(value) if value.ndim == 1 else None


Operands = list[Any]
Attributes = dict[str, Any]
Rule = Callable[[Operands, Attributes], "np.ndarray | None"]


def _divided(x: Operands, attributes: Attributes) -> np.ndarray:
    exact = x[0].dtype.kind in "iuO"
    return np.asarray(x[0] // x[1] if exact else np.divide(x[0], x[1]))


def _clipped(x: Operands, attributes: Attributes) -> np.ndarray | None:
    if x[0].dtype.kind != "f":
        return None
    low, high = (x[k] if len(x) > k and x[k] is not None else None for k in (1, 2))
    if low is None and high is None:
        low, high = attributes.get("min"), attributes.get("max")
    return x[0] if low is None and high is None else np.asarray(np.clip(x[0], low, high))


def _cast(x: Operands, attributes: Attributes) -> np.ndarray:
    to = helper.tensor_dtype_to_np_dtype(attributes["to"])
    return x[0] if x[0].dtype == object else x[0].astype(to)


def _shape(x: Operands, attributes: Attributes) -> np.ndarray:
    start, end = attributes.get("start", 0), attributes.get("end", x[0].ndim)
    return np.asarray(x[0].shape[start:end], np.int64)


def _gathered(x: Operands, attributes: Attributes) -> np.ndarray:
    return np.asarray(np.take(x[0], x[1].astype(np.int64), axis=attributes.get("axis", 0)))


def _axes(x: Operands, attributes: Attributes) -> tuple[int, ...]:
    return tuple(attributes.get("axes") or [int(a) for a in x[1]])


def _sliced(x: Operands, attributes: Attributes) -> np.ndarray | None:
    if len(x) < 4:
        return None
    where = [slice(None)] * x[0].ndim
    strides = x[4] if len(x) > 4 and x[4] is not None else np.ones(len(x[1]), np.int64)
    for begin, end, axis, stride in zip(x[1], x[2], x[3], strides):
        where[int(axis)] = slice(int(begin), int(end), int(stride))
    return np.asarray(x[0][tuple(where)])


def _filled(x: Operands, attributes: Attributes) -> np.ndarray | None:
    fill, shape = np.zeros(1, np.float32), [int(n) for n in x[0]]
    if "value" in attributes:
        fill = numpy_helper.to_array(attributes["value"])
    if np.prod(shape, dtype=np.float64) > _LARGEST:
        return None
    return np.full(shape, fill.flat[0], fill.dtype)


def _expanded(x: Operands, attributes: Attributes) -> np.ndarray | None:
    whole = np.broadcast_shapes(x[0].shape, tuple(int(n) for n in x[1]))
    return np.broadcast_to(x[0], whole) if np.prod(whole, dtype=np.float64) <= _LARGEST else None


def _unary(function: Callable[[Any], Any]) -> Rule:
    return lambda x, attributes: np.asarray(function(x[0])).astype(x[0].dtype, copy=False)


def _binary(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda x, attributes: np.asarray(function(x[0], x[1]))


_RULES: dict[str, Rule] = {
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divided,
    "Identity": _unary(lambda x: x),
    "Neg": _unary(np.negative),
    "Reciprocal": _unary(lambda x: 1 / x),
    "Sqrt": _unary(np.sqrt),
    "Exp": _unary(np.exp),
    "Sigmoid": _unary(lambda x: 1 / (1 + np.exp(-x))),
    "Clip": _clipped,
    "Cast": _cast,
    "Shape": _shape,
    "Gather": _gathered,
    "Concat": lambda x, attributes: np.concatenate(x, axis=attributes["axis"]),
    "Unsqueeze": lambda x, attributes: np.expand_dims(x[0], _axes(x, attributes)),
    "Squeeze": lambda x, attributes: np.squeeze(x[0], _axes(x, attributes)),
    "Reshape": lambda x, attributes: x[0].reshape([int(n) for n in x[1]]),
    "Slice": _sliced,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
}
"""Operator -> (operands, attributes) -> its output, None where it is not folded."""
