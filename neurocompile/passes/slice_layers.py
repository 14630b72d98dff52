"""Cut a layer instead of its output: where only pieces of a convolution's channels are read, each
piece gets its own rows.

SpikingResformer computes both factors of its attention in one convolution and splits them
(``chunk``); on a chip two populations that nobody has to take apart cost nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.layout import strided_index
from neurocompile.ir.spiking_rules import FOLDED_BATCH_NORM, IS_IMPORTED
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["SliceLayers"]


@dataclass(frozen=True)
class SliceLayers(SpikingPass):
    """Requires a float graph without BatchNorm. A slice of whole channels of a Conv2d, through at
    most one view, becomes a view of a Conv2d with those channels alone; other slices stay."""

    name: ClassVar[str] = "slice-layers"
    requires = (IS_IMPORTED, FOLDED_BATCH_NORM)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        for node in graph.nodes:
            piece = _cut(rewriter, graph, node, size) if isinstance(node, s.Rearrange) else None
            rewriter.emit(piece or rewriter.resolved(node))
        return rewriter.finish()


def _cut(
    rewriter: Rewriter, graph: s.SpikingGraph, node: s.Rearrange, size: dict[str, tuple[int, ...]]
) -> s.Rearrange | None:
    """``node`` over a layer of its own, which is emitted; None where it is no slice of channels."""
    if prod(node.shape) == prod(size[node.x]):
        return None
    conv, views = graph.node[node.x], [node]
    while isinstance(conv, s.Rearrange):
        views.append(conv)
        conv = graph.node[conv.x]
    if not isinstance(conv, s.Conv2d) or conv.groups != 1:
        return None
    index = np.arange(prod(size[conv.name]))  # one sample's values: small beside the weights
    for view in reversed(views):
        index = index[strided_index(view.sizes, view.strides, view.offset)]
    area = prod(size[conv.name][1:])
    rows = distinct(index // area)
    if len(rows) * area != len(index) or len(distinct(index)) != len(index):
        return None
    moved = np.searchsorted(rows, index // area) * area + index % area
    digits = _digits(moved)
    if digits is None:
        return None
    bias = (
        None
        if conv.bias is None
        else rewriter.tensor(f"{conv.bias}.rows", rewriter.tensors[conv.bias][rows])
    )
    layer = rewriter.resolved(conv)
    assert isinstance(layer, s.Conv2d)
    own = replace(
        layer,
        name=rewriter.fresh(f"{conv.name}.rows"),
        bias=bias,
        weight=rewriter.tensor(
            f"{conv.weight}.rows", np.ascontiguousarray(rewriter.tensors[conv.weight][rows])
        ),
    )
    return replace(node, x=rewriter.emit(own), sizes=digits[0], strides=digits[1], offset=0)


def _digits(index: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Sizes and strides that enumerate ``index`` from 0, or None if it is no such pattern."""
    sizes: list[int] = []
    strides: list[int] = []
    rest = index
    while len(rest) > 1:
        step = int(rest[1] - rest[0])
        jumps = np.flatnonzero(np.diff(rest) != step)
        n = int(jumps[0]) + 1 if len(jumps) else len(rest)
        if step <= 0 or len(rest) % n:
            return None
        sizes.insert(0, n)
        strides.insert(0, step)
        rest = rest[::n]
    found = tuple(sizes) or (1,), tuple(strides) or (1,)
    return found if np.array_equal(strided_index(*found), index) else None
