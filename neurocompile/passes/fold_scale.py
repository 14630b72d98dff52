"""Carry constant factors forward until weights, a LIF's gain or the output absorbs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.base import Rewriter, SpikingPass
from neurocompile.passes.factors import multiplied, multiplied_in_place

__all__ = ["FoldScale"]


@dataclass(frozen=True)
class FoldScale(SpikingPass):
    """Requires a float graph without BatchNorm. Ensures that no Scale is left: where the summands
    of a sum have unequal factors, one goes into the weights of its layer, or into a convolution of
    its own, and so does a factor <= 0 of a maximum or a LIF.
    """

    name: ClassVar[str] = "fold-scale"

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        factor: dict[str, float] = {}  # old value = factor * new value
        for old in graph.nodes:
            factors = [factor[i] for i in old.inputs]
            node = rewriter.resolved(old)
            factor[old.name] = 1.0
            if isinstance(node, s.Scale):
                rewriter.forward(old, node.x)
                factor[old.name] = node.factor * factors[0]
                continue
            if isinstance(node, (s.Rearrange, s.Sum, s.SumPool2d, s.TimeMean, s.Integrator)):
                factor[old.name] = factors[0]
            elif isinstance(node, (s.Mul, s.MatMul)):
                factor[old.name] = factors[0] * factors[1]
            elif isinstance(node, s.Add):
                node, factor[old.name] = _alike(rewriter, graph, old, node, factors, size)
            elif isinstance(node, s.MaxPool2d):
                if factors[0] <= 0:  # the largest value becomes the smallest
                    x = _multiplied(rewriter, graph, old.inputs[0], factors[0], size)
                    node, factors = replace(node, x=x), [1.0]
                factor[old.name] = factors[0]
            elif isinstance(node, (s.Conv2d, s.Linear)) and factors[0] != 1.0:
                node = replace(node, weight=_scaled(rewriter, node.weight, factors[0]))
            elif isinstance(node, s.Offset):
                factor[old.name] = factors[0]
                if factors[0] == 0:
                    raise NeurocompileError(
                        "NC2001", f"layer '{old.name}' adds to a value scaled by 0"
                    )
                if factors[0] != 1.0:
                    node = replace(node, offset=_scaled(rewriter, node.offset, 1.0 / factors[0]))
            elif isinstance(node, s.LIF):
                if not factors[0]:
                    raise NeurocompileError(
                        "NC2001", f"layer '{old.name}' reads a value scaled by 0"
                    )
                if factors[0] < 0:
                    x = _multiplied(rewriter, graph, old.inputs[0], factors[0], size)
                    node, factors = replace(node, x=x), [1.0]
                node = replace(node, gain=node.gain * factors[0])
            elif isinstance(node, s.Softmax):
                if not node.gain * factors[0] > 0:
                    raise NeurocompileError(
                        "NC2012",
                        f"layer '{old.name}' is a softmax of scores times {factors[0]}; factors > 0 are supported",
                    )
                node = replace(node, gain=node.gain * factors[0])
            elif isinstance(node, s.Output):
                if factors[0] == 0:
                    raise NeurocompileError(
                        "NC2001", f"output '{old.name}' reads a value scaled by 0"
                    )
                bias = node.bias
                if bias is not None and factors[0] != 1.0:
                    bias = _scaled(rewriter, bias, 1.0 / factors[0])
                node = replace(node, unit=node.unit * factors[0], bias=bias)
            rewriter.emit(node)
        return rewriter.finish()


def _alike(
    rewriter: Rewriter,
    graph: s.SpikingGraph,
    old: s.Node,
    node: s.Add,
    factors: list[float],
    size: dict[str, tuple[int, ...]],
) -> tuple[s.Add, float]:
    """A sum whose summands have one factor, and that factor."""
    if factors[0] == factors[1]:
        return node, factors[0]
    names = old.inputs
    for moved, kept in ((1, 0), (0, 1)):
        if factors[kept] and multiplied_in_place(
            rewriter, graph, names[moved], factors[moved] / factors[kept]
        ):
            return node, factors[kept]
    kept = 0 if factors[0] else 1
    x = _multiplied(rewriter, graph, names[1 - kept], factors[1 - kept] / factors[kept], size)
    return replace(node, b=x) if kept == 0 else replace(node, a=x), factors[kept]


def _multiplied(
    rewriter: Rewriter,
    graph: s.SpikingGraph,
    name: Ref,
    factor: float,
    size: dict[str, tuple[int, ...]],
) -> Ref:
    """The value ``name`` of ``graph`` without its own factor, times ``factor``."""
    return multiplied(rewriter, rewriter.resolve(name), size[name], factor, name)


def _scaled(rewriter: Rewriter, weight: TensorRef, factor: float) -> TensorRef:
    return rewriter.tensor(
        f"{weight}.scaled", np.asarray(rewriter.tensors[weight], np.float64) * factor
    )
