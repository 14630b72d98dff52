"""Linear recurrences over time that are no neuron's membrane: a synaptic current, or a membrane that
never fires.

Values ``y_0, y_1, ..``, one a step, are one where ``y_t = a y_(t-1) + b x_t`` with equal a and b in
all steps and ``y_0 = b x_0``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import helper

from neurocompile.frontends.recover.affine import affine_path, close
from neurocompile.frontends.recover.algebra import (
    ELEMENTWISE,
    Number,
    Polynomial,
    arithmetic_below,
    expand,
)
from neurocompile.frontends.recover.graph import Graph
from neurocompile.frontends.recover.values import alike, scaled

__all__ = ["Recurrence", "find_recurrence"]


@dataclass(frozen=True)
class Recurrence:
    """``y_t = decay y_(t-1) + x_t``."""

    decay: float
    inputs: tuple[str, ...]
    """x_t, by t."""


def find_recurrence(lanes: tuple[str, ...], graph: Graph) -> Recurrence | None:
    """What the values ``lanes``, one a step, are; None if they are no recurrence. Sums and products
    that their inputs need are entered into ``graph``.
    """
    if len(lanes) < 2 or len(set(lanes)) != len(lanes):
        return None
    found = [_step(after, before, graph) for before, after in zip(lanes, lanes[1:])]
    if any(f is None for f in found):
        return None
    decays, factors, inputs = zip(*(f for f in found if f is not None))
    a = decays[-1]
    if np.ndim(a) or not all(close(d, a) for d in decays) or not -1e-6 <= a <= 1 + 1e-6:
        return None
    b = factors[-1]
    if not all(close(f, b) for f in factors):
        return None
    first = [p for p in affine_path(lanes[0], graph) if close(p.scale, b) and not np.any(p.offset)]
    if not first:
        return None
    x = next((p.value for p in first if alike(p.value, inputs[-1], graph)), first[-1].value)
    currents = [x, *inputs]
    if not close(b, 1.0):
        currents = scaled(currents, b, graph)
    return Recurrence(float(np.clip(a, 0.0, 1.0)), tuple(currents))


def _step(after: str, before: str, graph: Graph) -> tuple[Number, Number, str] | None:
    """(a, b, x), where ``after`` is ``a before + b x``."""
    marked = _between(after, before, graph)
    if not marked:
        return None
    p = expand(after, graph, {before: {(before,): 1.0}}, marked.__contains__)
    a = p.pop((before,), 0.0)
    if not p and np.all(a >= 1):  # an input that is the first value itself
        return a - 1.0, 1.0, before
    if not np.any(a) or not p or any(len(m) != 1 for m in p):
        return None
    return _input(a, p, after, graph)


def _input(a: Number, p: Polynomial, like: str, graph: Graph) -> tuple[Number, Number, str] | None:
    """x with its factor; several of one factor are added up."""
    factors = list(p.values())
    if not all(close(f, factors[0]) for f in factors):
        return None
    total, *rest = (m[0] for m in p)
    for value in rest:
        both = graph.fresh(f"{total}.sum")
        graph.add(helper.make_node("Add", [total, value], [both], name=both), like=like)
        total = both
    return a, factors[0], total


def _between(after: str, before: str, graph: Graph) -> set[str]:
    """Values of the arithmetic that makes ``after`` and depends on ``before``; none if it does not."""
    seen = arithmetic_below(after, graph)
    if before not in seen:
        return set()
    marked = {before}
    for value in sorted(seen, key=lambda v: graph.order.get(v, -1)):
        node = graph.producer.get(value)
        if node is not None and node.op_type in ELEMENTWISE and marked.intersection(node.input):
            marked.add(value)
    return marked
