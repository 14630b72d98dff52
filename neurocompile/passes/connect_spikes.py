"""Spikes that are added to real values go through a convolution of ones, as any layer of the
residual.

The classical spiking ResNet adds a block's spikes to the next block's normalized convolution,
before the LIF. What is added must count in one unit, which only a layer with weights can choose
(:mod:`neurocompile.passes.trunk`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.ir.spiking_rules import ALIKE_SUMS, IS_IMPORTED, NO_SCALE
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass
from neurocompile.passes.factors import multiplied

__all__ = ["ConnectSpikes"]


@dataclass(frozen=True)
class ConnectSpikes(SpikingPass):
    """Ensures that a sum adds two integers or two real values: an integer beside a real value
    passes a depthwise 1 x 1 convolution of ones."""

    name: ClassVar[str] = "connect-spikes"
    requires = (IS_IMPORTED, NO_SCALE)
    ensures = (ALIKE_SUMS,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, integer, size = Rewriter(graph), ranges(graph), shapes(graph)
        connected: dict[str, Ref] = {}

        def connect(ref: Ref) -> Ref:
            if ref not in connected:
                connected[ref] = multiplied(rewriter, rewriter.resolve(ref), size[ref], 1.0, ref)
            return connected[ref]

        for node in graph.nodes:
            if (
                isinstance(node, s.Add)
                and size[node.a] == size[node.b]
                and (integer[node.a] is None) != (integer[node.b] is None)
            ):
                if integer[node.a] is not None:
                    node = replace(node, a=connect(node.a), b=rewriter.resolve(node.b))
                else:
                    node = replace(node, a=rewriter.resolve(node.a), b=connect(node.b))
                rewriter.emit(node)
            else:
                rewriter.emit(rewriter.resolved(node))
        return rewriter.finish()
