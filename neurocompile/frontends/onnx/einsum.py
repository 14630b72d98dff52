"""Einsum: attention and linear layers in index notation, as the matrix products that they are.

Each index of ``bhnd,bhmd->bhnm`` is of one kind: kept in both operands, summed over, or only the
left's or the right's. Axes of one kind are merged, which moves no data, and one MatMul, or a linear
layer for a constant operand, remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.convolutions import linear
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout

__all__ = ["EINSUM_RULES", "indices_of"]


def indices_of(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The indices of each operand and of the result, ``...`` written out; ValueError for what is no
    such equation.
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    named = set(equation) & set(ascii_letters)
    free = [letter for letter in ascii_letters if letter not in named]
    if len(terms) != len(ranks):
        raise ValueError(f"{len(terms)} terms for {len(ranks)} operands")
    hidden = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks)]
    if any(n if "..." not in term else n < 0 for term, n in zip(terms, hidden)):
        raise ValueError("its terms do not have the operands' numbers of axes")
    most = max(hidden)
    terms = [term.replace("...", "".join(free[most - n : most])) for term, n in zip(terms, hidden)]
    if arrow:
        result = result.replace("...", "".join(free[:most]))
    else:
        once = sorted(c for c in set("".join(terms)) if "".join(terms).count(c) == 1 and c in named)
        result = "".join([*free[:most], *once])
    if any(len(set(term)) != len(term) for term in (*terms, result)) or not set(result) <= set(
        "".join(terms)
    ):
        raise ValueError("an index stands twice in a term, or only in the result")
    if not set("".join([*terms, result])) <= set(ascii_letters):
        raise ValueError("an index that is no letter")
    return terms, result


@dataclass(frozen=True)
class _Kinds:
    """Indices of a product, each in the order in which the result needs them."""

    kept: str
    left: str
    summed: str
    right: str

    @classmethod
    def of(cls, a: str, b: str, result: str) -> _Kinds:
        return cls(
            kept="".join(c for c in result if c in a and c in b),
            left="".join(c for c in result if c not in b),
            summed="".join(c for c in a if c in b and c not in result),
            right="".join(c for c in result if c not in a),
        )


def _einsum(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    equation = attributes["equation"].decode()
    if len(node.input) != 2:
        raise im.error(
            "NC1009", f"'{equation}' has {len(node.input)} operands; two are supported, a product"
        )
    ranks = [len(im.traced[i].dims) if i in im.traced else im.constants[i].ndim for i in node.input]
    try:
        (a, b), result = indices_of(equation, ranks)
    except ValueError as error:
        raise im.error("NC1009", f"'{equation}': {error}") from error
    operands = list(node.input)
    if operands[0] not in im.traced:
        operands, a, b = operands[::-1], b, a
    kinds = _Kinds.of(a, b, result)
    alone = set(a + b) - set(result) - set(kinds.summed)
    if alone or not kinds.summed:
        what = f"sums '{''.join(sorted(alone))}' of one operand alone" if alone else "sums nothing"
        raise im.error(
            "NC1009",
            f"'{equation}' {what}; a product that sums indices of both operands is supported",
        )
    x = im.traced[operands[0]]
    sizes = dict(zip(a, x.layout.shape))
    if operands[1] in im.traced:
        y = im.traced[operands[1]]
        sizes |= {c: n for c, n in zip(b, y.layout.shape) if sizes.get(c, 1) == 1}
        made = _product(
            im,
            node,
            _merged(x, a, kinds.kept, kinds.left, kinds.summed),
            _merged(y, b, kinds.kept, kinds.summed, kinds.right),
        )
        order = kinds.kept + kinds.left + kinds.right
    else:
        if kinds.kept:
            raise im.error(
                "NC1009",
                f"'{equation}' with a constant that differs along '{kinds.kept}'; a matrix is supported",
            )
        weight = im.constants[operands[1]]
        sizes |= dict(zip(b, weight.shape))
        weight = weight.transpose([b.index(c) for c in kinds.right + kinds.summed])
        weight = weight.reshape(prod(sizes[c] for c in kinds.right), -1)
        y = linear(im, node, weight, operands[1], None, _merged(x, a, kinds.left, kinds.summed))
        im.keep(node, y)
        made, order = im.traced[node.output[0]], kinds.left + kinds.right
    whole = made.layout.reshape(tuple(sizes[c] for c in order))
    im.keep(node, Traced(made.ref, whole.transpose(tuple(order.index(c) for c in result))))


def _merged(x: Traced, indices: str, single: str, *groups: str) -> Traced:
    """``x`` with the axes ``single`` first, and one axis for each of the ``groups``."""
    dim = dict(zip(indices, x.dims))
    merged = [tuple(atom for c in group for atom in dim[c]) for group in groups]
    return Traced(x.ref, Layout((*(dim[c] for c in single), *merged)))


def _product(im: Importer, node: onnx.NodeProto, a: Traced, b: Traced) -> Traced:
    """``a @ b`` over the last two axes."""
    pattern = im.common(a, b, len(a.dims) - 2)
    if pattern[-1] is not None or pattern[-2] is not None:
        raise im.error(
            "NC1008", "time and batch must be indices of both operands and of the result"
        )
    left, right = im.features(a, pattern), im.features(b, pattern)
    lead = np.broadcast_shapes(im.shapes[left][:-2], im.shapes[right][:-2])
    shape = (*lead, im.shapes[left][-2], im.shapes[right][-1])
    return im.fresh(
        im.emit(s.MatMul, node.name or node.output[0], tuple(shape), a=left, b=right), pattern
    )


EINSUM_RULES: dict[str, Rule] = {"Einsum": _einsum}
