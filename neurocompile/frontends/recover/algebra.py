"""Elementwise arithmetic as polynomials in named atoms: membranes, spikes, currents.

A polynomial is a dict from monomials (tuples of atoms, spikes first, each part sorted) to
coefficients; ``{("s", "h"): -1.0, ("h",): 1.0}`` is ``h - h s``. A spike s is 0 or 1, so ``s s =
s``. A coefficient is a number, or an array of one for each channel, which broadcasts as its
operands do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx

from neurocompile.frontends.recover.graph import Graph, attributes_of

__all__ = [
    "CONSTANT",
    "ELEMENTWISE",
    "Number",
    "Polynomial",
    "arithmetic_below",
    "expand",
    "spike_atom",
]

Monomial = tuple[str, ...]
Number = float | np.ndarray
Polynomial = dict[Monomial, Number]

CONSTANT: Monomial = ()
"""The monomial of the constant term."""

ELEMENTWISE = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Not",
        "Identity",
        "Cast",
        "CastLike",
        "Where",
        "Sum",
        "Expand",
        "Dropout",
    }
)
"""Operators that :func:`expand` sees through."""

_LARGEST_CONE = 64
"""Values of the arithmetic between two steps."""
_LARGEST = 64
"""Monomials of a polynomial; larger ones, which no neuron makes, are atoms."""
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)


def spike_atom(comparison: str) -> str:
    """The atom of the spike that the value ``comparison`` tells."""
    return f"spike:{comparison}"


def expand(
    value: str, graph: Graph, atoms: Mapping[str, Polynomial], descend: Callable[[str], bool]
) -> Polynomial:
    """``value`` as a polynomial.

    Args:
        atoms: what is known of values; a value that is not there and not expanded becomes an atom
            under its own name.
        descend: whether to look into the node that makes a value.
    """
    return _expand(value, graph, atoms, descend, {})


def _expand(
    value: str,
    graph: Graph,
    atoms: Mapping[str, Polynomial],
    descend: Callable[[str], bool],
    known: dict[str, Polynomial],
) -> Polynomial:
    """:func:`expand`, with what is expanded already in ``known``."""
    if value in atoms:
        return atoms[value]
    if value in known:
        return known[value]
    number = graph.number(value)
    if number is not None:
        return _monomial(CONSTANT, number)
    node = graph.producer.get(value)
    if node is None or node.op_type not in ELEMENTWISE or not descend(value):
        return {(value,): 1.0}
    operands = node.input[:1] if node.op_type == "Expand" else node.input
    inner = [_expand(i, graph, atoms, descend, known) for i in operands]
    found = _apply(node, inner, graph)
    if found is None or len(found) > _LARGEST:
        found = {(value,): 1.0}
    known[value] = found
    return found


def _apply(node: onnx.NodeProto, inner: list[Polynomial], graph: Graph) -> Polynomial | None:
    kind = node.op_type
    if kind in ("Identity", "CastLike", "Expand", "Dropout"):
        return inner[0]
    if kind == "Cast":
        to = attributes_of(node)["to"]
        return inner[0] if to in _FLOATS or _is_spike(inner[0]) else None
    if kind in ("Add", "Sum"):
        total: Polynomial = {}
        for part in inner:
            total = _plus(total, part)
        return total
    if kind == "Sub":
        return _plus(inner[0], inner[1], -1.0)
    if kind == "Neg":
        return _plus({}, inner[0], -1.0)
    if kind == "Not":
        return _plus({CONSTANT: 1.0}, inner[0], -1.0)
    if kind == "Mul":
        return _times(inner[0], inner[1])
    if kind == "Div":
        by = inner[1].get(CONSTANT, 0.0) if set(inner[1]) <= {CONSTANT} else 0.0
        return _times(inner[0], {CONSTANT: 1.0 / by}) if np.all(by) else None
    if kind == "Where" and (
        _is_spike(inner[0]) or _is_spike(_plus({CONSTANT: 1.0}, inner[0], -1.0))
    ):
        rest = _plus({CONSTANT: 1.0}, inner[0], -1.0)
        return _plus(_times(inner[0], inner[1]), _times(rest, inner[2]))
    return None


def _is_spike(p: Polynomial) -> bool:
    return (
        len(p) == 1 and bool(np.all(next(iter(p.values())) == 1.0)) and _only_spikes(next(iter(p)))
    )


def _only_spikes(monomial: Collection[str]) -> bool:
    return len(monomial) == 1 and all(a.startswith("spike:") for a in monomial)


def _monomial(monomial: Monomial, coefficient: Number) -> Polynomial:
    return {monomial: coefficient} if np.any(coefficient) else {}


def _plus(p: Polynomial, q: Polynomial, factor: float = 1.0) -> Polynomial:
    total = dict(p)
    for monomial, coefficient in q.items():
        both = total.get(monomial, 0.0) + factor * coefficient
        # What cancels up to rounding is gone, such as the v_reset of a reset and of a leak.
        if np.all(
            np.abs(both) <= 1e-9 * np.maximum(np.abs(coefficient), np.abs(total.get(monomial, 0.0)))
        ):
            total.pop(monomial, None)
        else:
            total[monomial] = both
    return total


def _times(p: Polynomial, q: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for a, x in p.items():
        for b, y in q.items():
            product = _plus(product, _monomial(_joined(a, b), x * y))
    return product


def _joined(a: Monomial, b: Monomial) -> Monomial:
    spikes = {s for s in (*a, *b) if s.startswith("spike:")}
    return (*sorted(spikes), *sorted(s for s in (*a, *b) if s not in spikes))


def arithmetic_below(value: str, graph: Graph) -> set[str]:
    """Values that make ``value`` by elementwise arithmetic alone, itself among them."""
    stack, seen = [value], {value}
    while stack and len(seen) <= _LARGEST_CONE:
        place = stack.pop()
        node = graph.producer.get(place)
        if node is None or node.op_type not in ELEMENTWISE or graph.number(place) is not None:
            continue
        operands = node.input[: 1 if node.op_type == "Expand" else None]
        fresh = [i for i in operands if i not in seen]
        seen.update(fresh)
        stack += fresh
    return seen
