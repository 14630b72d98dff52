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

_BINARY: dict[str, Callable[..., Any]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
_UNARY: dict[str, Callable[..., Any]] = {
    "Identity": lambda x: x,
    "Neg": np.negative,
    "Reciprocal": lambda x: 1 / x,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


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
            value = _apply(node.op_type, operands, attributes)
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


def _apply(kind: str, x: list[Any], attributes: dict[str, Any]) -> np.ndarray | None:
    if kind in _BINARY:
        return np.asarray(_BINARY[kind](x[0], x[1]))
    if kind == "Div":
        exact = x[0].dtype.kind in "iuO"
        return np.asarray(x[0] // x[1] if exact else np.divide(x[0], x[1]))
    if kind in _UNARY:
        return np.asarray(_UNARY[kind](x[0])).astype(x[0].dtype, copy=False)
    if kind == "Clip" and x[0].dtype.kind == "f":
        low, high = (x[k] if len(x) > k and x[k] is not None else None for k in (1, 2))
        if low is None and high is None:
            low, high = attributes.get("min"), attributes.get("max")
        return x[0] if low is None and high is None else np.asarray(np.clip(x[0], low, high))
    if kind == "Cast":
        to = helper.tensor_dtype_to_np_dtype(attributes["to"])
        return x[0] if x[0].dtype == object else x[0].astype(to)
    if kind == "Shape":
        return np.asarray(
            x[0].shape[attributes.get("start", 0) : attributes.get("end", x[0].ndim)], np.int64
        )
    if kind == "Gather":
        return np.asarray(np.take(x[0], x[1].astype(np.int64), axis=attributes.get("axis", 0)))
    if kind == "Concat":
        return np.concatenate(x, axis=attributes["axis"])
    if kind in ("Unsqueeze", "Squeeze"):
        axes = attributes.get("axes") or [int(a) for a in x[1]]
        return (
            np.expand_dims(x[0], tuple(axes))
            if kind == "Unsqueeze"
            else np.squeeze(x[0], tuple(axes))
        )
    if kind == "Reshape":
        return x[0].reshape([int(n) for n in x[1]])
    if kind == "Slice" and len(x) > 3:
        where = [slice(None)] * x[0].ndim
        strides = x[4] if len(x) > 4 and x[4] is not None else np.ones(len(x[1]), np.int64)
        for begin, end, axis, stride in zip(x[1], x[2], x[3], strides):
            where[int(axis)] = slice(int(begin), int(end), int(stride))
        return x[0][tuple(where)]
    if kind == "ConstantOfShape":
        fill = (
            numpy_helper.to_array(attributes["value"])
            if "value" in attributes
            else np.zeros(1, np.float32)
        )
        shape = [int(n) for n in x[0]]
        return (
            np.full(shape, fill.flat[0], fill.dtype)
            if np.prod(shape, dtype=np.float64) <= _LARGEST
            else None
        )
    if kind == "Expand":
        whole = np.broadcast_shapes(x[0].shape, tuple(int(n) for n in x[1]))
        return (
            np.broadcast_to(x[0], whole) if np.prod(whole, dtype=np.float64) <= _LARGEST else None
        )
    return None
