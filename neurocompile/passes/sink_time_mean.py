"""Move the mean over time behind the linear head, where the host computes it: ``W mean_t(x_t) = mean_t(W x_t)``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["SinkTimeMean"]


@dataclass(frozen=True)
class SinkTimeMean(SpikingPass):
    """Requires any float graph. Ensures that Output reads a TimeMean and nothing else does."""

    name: ClassVar[str] = "sink-time-mean"

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
        averaged: set[str] = set()  # values that now stand before their mean over time
        for node in graph.nodes:
            pending = [i in averaged for i in node.inputs]
            if isinstance(node, s.TimeMean):
                rewriter.forward(node, rewriter.resolve(node.x))
                averaged.add(node.name)
                continue
            if isinstance(node, s.Output):
                mean = rewriter.emit(s.TimeMean(name=rewriter.fresh("time_mean"), x=rewriter.resolve(node.x)))
                rewriter.emit(replace(node, x=mean))
                continue
            if any(pending):
                linear = isinstance(node, (s.Linear, s.Scale, s.Sum, s.SumPool2d, s.Offset, s.Rearrange, s.BatchNorm, s.Add))
                if not linear or not all(pending):
                    raise NeurocompileError(
                        "NC2001",
                        f"layer '{node.name}' ({type(node).__name__}) follows the mean over time; only linear layers may",
                    )
                averaged.add(node.name)
            rewriter.emit(rewriter.resolved(node))
        return rewriter.finish()
