"""Fold BatchNorm into the convolution or linear layer before it, in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.spiking_rules import FOLDED_BATCH_NORM, IS_IMPORTED
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["FoldBatchNorm"]


@dataclass(frozen=True)
class FoldBatchNorm(SpikingPass):
    """Requires any float graph. Ensures that no BatchNorm over channels directly follows a linear
    layer.
    """

    name: ClassVar[str] = "fold-batch-norm"
    requires = (IS_IMPORTED,)
    ensures = (FOLDED_BATCH_NORM,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        made: dict[str, s.Node] = {}
        for node in graph.nodes:
            if not isinstance(node, s.BatchNorm):
                made[node.name] = rewriter.resolved(node)
                rewriter.emit(made[node.name])
                continue
            producer = made[rewriter.resolve(node.x)]
            channels = 0 if isinstance(producer, s.Conv2d) else len(size[node.x]) - 1
            if isinstance(producer, (s.Conv2d, s.Linear)) and node.axis == channels:
                folded = _fold(rewriter, producer, node)
                made[folded.name] = folded
                rewriter.forward(node, rewriter.emit(folded))
            else:
                made[node.name] = rewriter.resolved(node)
                rewriter.emit(made[node.name])
        return rewriter.finish()


def _fold(
    rewriter: Rewriter, linear: s.Conv2d | s.Linear, norm: s.BatchNorm
) -> s.Conv2d | s.Linear:
    scale, shift, mean, var = (np.asarray(rewriter.tensors[t], np.float64) for t in norm.tensors)
    factor = scale / np.sqrt(var + norm.eps)
    weight = np.asarray(rewriter.tensors[linear.weight], np.float64)
    old = 0.0 if linear.bias is None else np.asarray(rewriter.tensors[linear.bias], np.float64)
    return replace(
        linear,
        name=rewriter.fresh(f"{linear.name}.bn"),
        weight=rewriter.tensor(
            f"{linear.weight}.bn", weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        ),
        bias=rewriter.tensor(f"{linear.weight}.bn.bias", shift + factor * (old - mean)),
    )
