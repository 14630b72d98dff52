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
            elif layers := _recurrent_sum(graph, node, size):
                _fold_sum(rewriter, layers, node)
                rewriter.forward(node, rewriter.resolve(node.x))
            else:
                made[node.name] = rewriter.resolved(node)
                rewriter.emit(made[node.name])
        return rewriter.finish()


def _recurrent_sum(
    graph: s.SpikingGraph, norm: s.BatchNorm, size: dict[str, tuple[int, ...]]
) -> list[s.Conv2d | s.Linear]:
    """The layers whose sum ``norm`` reads, one of them of spikes that feed back, if nothing else reads
    any of them: what stood between would take a step that these spikes do not have.
    """
    found: list[s.Conv2d | s.Linear] = []
    stack, loop = [norm.x], False
    while stack:
        node = graph.node[stack.pop()]
        if len(graph.users[node.name]) != 1:
            return []
        if isinstance(node, s.Add):
            stack += node.inputs
        elif isinstance(node, (s.Conv2d, s.Linear)) and size[node.name] == size[norm.x]:
            channels = 0 if graph.tensors[node.weight].ndim == 4 else len(size[node.name]) - 1
            if norm.axis != channels:
                return []
            loop |= isinstance(graph.node[node.x], s.Previous)
            found.append(node)
        else:
            return []
    return found if loop else []


def _fold_sum(rewriter: Rewriter, layers: list[s.Conv2d | s.Linear], norm: s.BatchNorm) -> None:
    """``norm`` of a sum into each of its layers, in place; the shift into one of them."""
    factor = np.asarray(rewriter.tensors[norm.scale], np.float64)
    factor = factor / np.sqrt(np.asarray(rewriter.tensors[norm.var], np.float64) + norm.eps)
    zero = rewriter.tensor(f"{norm.name}.zero", np.zeros_like(factor))
    scale = rewriter.tensor(f"{norm.name}.factor", factor)
    one = rewriter.tensor(f"{norm.name}.one", np.ones_like(factor))
    plain = replace(norm, scale=scale, shift=zero, mean=zero, var=one, eps=0.0)
    names = {layer.name: norm if k == 0 else plain for k, layer in enumerate(layers)}
    for place, node in enumerate(rewriter.nodes):
        if node.name in names:
            assert isinstance(node, (s.Conv2d, s.Linear))
            rewriter.nodes[place] = replace(_fold(rewriter, node, names[node.name]), name=node.name)


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
