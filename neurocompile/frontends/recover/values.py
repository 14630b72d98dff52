"""Values of an unrolled file: which are the same of several steps, and new ones made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from neurocompile.frontends.recover.affine import affine_path, close
from neurocompile.frontends.recover.algebra import Number
from neurocompile.frontends.recover.graph import Graph, attributes_of

__all__ = ["alike", "constant", "emit", "same_constant", "scaled", "unscaled"]


def alike(value: str, other: str, graph: Graph) -> bool:
    """True if two values of different steps may be the same value of the model."""
    value, other = graph.alias(value), graph.alias(other)
    here, there = graph.step(value), graph.step(other)
    if value == other or here is not None and there is not None and here[0] == there[0]:
        return True
    node, twin = graph.producer.get(value), graph.producer.get(other)
    if (
        node is None
        or twin is None
        or node.op_type != twin.op_type
        or len(node.input) != len(twin.input)
    ):
        return False
    fixed = [
        (i, j)
        for i, j in zip(node.input, twin.input)
        if i not in graph.dynamic or j not in graph.dynamic
    ]
    return attributes_of(node).keys() == attributes_of(twin).keys() and all(
        same_constant(i, j, graph) for i, j in fixed
    )


def same_constant(value: str, other: str, graph: Graph) -> bool:
    """The same constant, or equal ones."""
    left, right = graph.constants.get(value), graph.constants.get(other)
    if value == other or left is None or right is None:
        return value == other
    return left.dtype == right.dtype and np.array_equal(left, right)


def constant(wanted: str, value: Number, graph: Graph) -> str:
    """A float32 initializer."""
    name = graph.fresh(wanted)
    graph.constants[name] = np.asarray(value, np.float32)
    graph.initializers[name] = numpy_helper.from_array(graph.constants[name], name)
    return name


def emit(kind: str, inputs: list[str], graph: Graph, like: str, **fields: Any) -> str:
    """The value of a new node ``kind``, named after ``like`` and of its place."""
    name = graph.fresh(f"{like}.{kind.lower()}")
    graph.add(helper.make_node(kind, inputs, [name], name=name, **fields), like=like)
    return name


def scaled(values: list[str], factor: Number, graph: Graph) -> list[str]:
    """``factor * x`` for every value, as new nodes."""
    times, made = constant("current_scale", factor, graph), []
    for value in values:
        made.append(graph.fresh(f"{value}.scaled"))
        graph.add(helper.make_node("Mul", [value, times], [made[-1]], name=made[-1]), like=value)
    return made


def unscaled(value: str, factor: Number, graph: Graph) -> str | None:
    """x, where ``value`` is ``factor * x``."""
    path = affine_path(value, graph)
    return next(
        (p.value for p in path[1:] if close(p.scale, factor) and not np.any(p.offset)), None
    )
