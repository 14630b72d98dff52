"""Carry constant factors forward until weights, a LIF's gain or the output absorbs them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.text import TensorRef
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["FoldScale"]


@dataclass(frozen=True)
class FoldScale(SpikingPass):
    """Requires a float graph without BatchNorm. Ensures that no Scale is left; NC2001 for a sum of
    unequal factors.
    """

    name: ClassVar[str] = "fold-scale"

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
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
            elif isinstance(node, (s.Add, s.MaxPool2d)):
                if len(set(factors)) > 1 or (isinstance(node, s.MaxPool2d) and factors[0] <= 0):
                    shown = ", ".join(f"{f:.6g}" for f in factors)
                    raise NeurocompileError(
                        "NC2001",
                        f"layer '{old.name}' ({type(old).__name__}) joins values that are scaled differently, by {shown}: scale "
                        "them alike, or let a layer with weights, or a LIF, take the factor first",
                    )
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
                if not node.gain * factors[0] > 0:
                    raise NeurocompileError(
                        "NC2001",
                        f"layer '{old.name}' reads a value scaled by {factors[0]}; factors > 0 are supported",
                    )
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


def _scaled(rewriter: Rewriter, weight: TensorRef, factor: float) -> TensorRef:
    return rewriter.tensor(
        f"{weight}.scaled", np.asarray(rewriter.tensors[weight], np.float64) * factor
    )
