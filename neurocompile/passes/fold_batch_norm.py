"""Fold BatchNorm into the convolution or linear layer before it, in float64.

One that only shifts, between a value that others read too and neurons, stays a bias of these: in the
layer it would make that layer twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.spiking_rules import FOLDED_BATCH_NORM, IS_IMPORTED
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["FoldBatchNorm", "affine"]


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
            if (offset := _bias_of_neurons(rewriter, graph, node, size)) is not None:
                made[offset.name] = offset
                rewriter.forward(node, rewriter.emit(offset))
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


def _bias_of_neurons(
    rewriter: Rewriter, graph: s.SpikingGraph, norm: s.BatchNorm, size: dict[str, tuple[int, ...]]
) -> s.Offset | None:
    """``norm`` as an offset, if it has factors of 1, neurons alone read it, and its layer, if any,
    has other readers.
    """
    readers, producer = graph.users[norm.name], graph.node[norm.x]
    alone = isinstance(producer, (s.Conv2d, s.Linear)) and len(graph.users[norm.x]) == 1
    if alone or not readers or not all(isinstance(reader, s.LIF) for reader in readers):
        return None
    factor, offset = affine(rewriter.tensors, norm)
    if (factor != 1).any():
        return None
    shape = tuple(-1 if k == norm.axis else 1 for k in range(len(size[norm.x])))
    return s.Offset(
        name=rewriter.fresh(f"{norm.name}.offset"),
        x=rewriter.resolve(norm.x),
        offset=rewriter.tensor(f"{norm.shift}.offset", offset.reshape(shape)),
    )


def affine(tensors: Mapping[str, np.ndarray], norm: s.BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    """(factor, offset) a channel, float64."""
    scale, shift, mean, var = (np.asarray(tensors[t], np.float64) for t in norm.tensors)
    factor = scale / np.sqrt(var + norm.eps)
    return factor, shift - factor * mean


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
