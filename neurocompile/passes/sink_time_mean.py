"""Move the mean over time behind the linear head, where the host computes it: ``W mean_t(x_t) =
mean_t(W x_t)``.

Around a softmax means stay where the model has them: the chip counts there
(:mod:`neurocompile.circuits.latch`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.spiking_rules import IS_IMPORTED, MEAN_LAST
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["LINEAR", "SinkTimeMean"]


LINEAR = (
    s.Conv2d,
    s.Linear,
    s.Scale,
    s.Sum,
    s.SumPool2d,
    s.Offset,
    s.Rearrange,
    s.BatchNorm,
    s.Add,
)


@dataclass(frozen=True)
class SinkTimeMean(SpikingPass):
    """Requires any float graph. Ensures that Output reads a TimeMean; without a softmax, nothing
    else does.
    """

    name: ClassVar[str] = "sink-time-mean"
    requires = (IS_IMPORTED,)
    ensures = (MEAN_LAST,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
        averaged: set[str] = set()  # values that now stand before their mean over time
        inner = _inner_means(graph)
        for node in graph.nodes:
            pending = [i in averaged for i in node.inputs]
            if isinstance(node, s.TimeMean) and node.name not in inner:
                rewriter.forward(node, rewriter.resolve(node.x))
                averaged.add(node.name)
                continue
            if isinstance(node, s.Output):
                mean = rewriter.emit(
                    s.TimeMean(name=rewriter.fresh("time_mean"), x=rewriter.resolve(node.x))
                )
                rewriter.emit(replace(node, x=mean))
                continue
            if any(pending):
                if not isinstance(node, LINEAR) or not all(pending):
                    raise NeurocompileError(
                        "NC2001",
                        f"layer '{node.name}' ({type(node).__name__}) follows the mean over time; only linear layers may",
                        layer=node.name,
                    )
                averaged.add(node.name)
            rewriter.emit(rewriter.resolved(node))
        return rewriter.finish()


def _inner_means(graph: s.SpikingGraph) -> set[str]:
    """Means of a graph with a softmax that more than the linear head reads."""
    if not any(isinstance(n, s.Softmax) for n in graph.nodes):
        return set()
    head: set[str] = set()
    for node in reversed(graph.nodes):
        if all(
            isinstance(user, s.Output)
            or user.name in head
            and isinstance(user, (*LINEAR, s.TimeMean))
            for user in graph.users[node.name]
        ):
            head.add(node.name)
    return {n.name for n in graph.nodes if isinstance(n, s.TimeMean) and n.name not in head}
