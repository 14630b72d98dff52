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

_WITHOUT_WEIGHTS = (
    s.Input,
    s.Function,
    s.Normalization,
    s.StepSoftmax,
    s.Mul,
    s.MatMul,
    s.Quotient,
    s.TokenMean,
    s.Integrator,
)


@dataclass(frozen=True)
class ConnectSpikes(SpikingPass):
    """Ensures that a sum adds two integers or two layers' values: an integer beside a real value, and
    the input itself or an operator's value, pass a depthwise 1 x 1 convolution of ones."""

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

        def plain(ref: Ref) -> bool:
            """Without weights of its own."""
            node = graph.node[ref]
            while isinstance(node, (s.Rearrange, s.Offset, s.Delay)):
                node = graph.node[node.x]
            return integer[ref] is not None or isinstance(node, _WITHOUT_WEIGHTS)

        for node in graph.nodes:
            if (
                isinstance(node, s.Add)
                and size[node.a] == size[node.b]
                and (integer[node.a] is None or integer[node.b] is None)
            ):
                a, b = (connect(i) if plain(i) else rewriter.resolve(i) for i in node.inputs)
                rewriter.emit(replace(node, a=a, b=b))
            else:
                rewriter.emit(rewriter.resolved(node))
        return rewriter.finish()
