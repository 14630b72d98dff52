"""Choose the order of attention's products by what it costs: ``(Q K^T) V = Q (K^T V)``, exactly,
because all are integers.

Each product of matrices unrolls into gates, one for each pair of numbers that meet; the order with
fewer gates wins. With n tokens and d channels a head, Q K^T first takes 2 n^2 d gates, K^T V first
2 n d^2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.ir.spiking_rules import IS_IMPORTED, NO_SCALE
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["Reassociate"]


@dataclass(frozen=True)
class Reassociate(SpikingPass):
    """Requires a float graph without Scale. Products of three integer matrices take the order with
    fewer gates.
    """

    name: ClassVar[str] = "reassociate"
    requires = (IS_IMPORTED, NO_SCALE)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size, integer = Rewriter(graph), shapes(graph), ranges(graph)
        for old in graph.nodes:
            node = rewriter.resolved(old)
            if (
                isinstance(node, s.MatMul)
                and isinstance(old, s.MatMul)
                and integer[old.name] is not None
            ):
                node = _cheaper(rewriter, graph, old, node, size)
            rewriter.emit(node)
        return rewriter.finish()


def _cheaper(
    rewriter: Rewriter,
    graph: s.SpikingGraph,
    old: s.MatMul,
    node: s.MatMul,
    size: dict[str, tuple[int, ...]],
) -> s.MatMul:
    """``node``, or the same product in the other order, whose first product is emitted."""
    for left in (True, False):
        inner = graph.node[old.a if left else old.b]
        if not isinstance(inner, s.MatMul) or len(graph.users[inner.name]) != 1:
            continue
        a, b, c = (inner.a, inner.b, old.b) if left else (old.a, inner.a, inner.b)
        shapes_ = [size[i] for i in (a, b, c)]
        if len({shape[:-2] for shape in shapes_}) != 1:
            continue
        (n, k), (_, m), (_, p) = (shape[-2:] for shape in shapes_)
        lead = prod(shapes_[0][:-2])
        left_first, right_first = lead * (n * k * m + n * m * p), lead * (k * m * p + n * k * p)
        if (right_first if left else left_first) < (left_first if left else right_first):
            first = (b, c) if left else (a, b)
            made = s.MatMul(
                name=rewriter.fresh(f"{old.name}.first"),
                a=rewriter.resolve(Ref(first[0])),
                b=rewriter.resolve(Ref(first[1])),
            )
            rewriter.emit(made)
            outer = (
                {"a": rewriter.resolve(Ref(a)), "b": Ref(made.name)}
                if left
                else {"a": Ref(made.name), "b": rewriter.resolve(Ref(c))}
            )
            return replace(node, **outer)
    return node
