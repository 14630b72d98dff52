"""What to do with a BatchNorm that follows no linear layer: factors of a head, and normalizations
of spikes, sums and pools.

A factor a head behind a product of matrices (SpikingResformer's scales) goes into the weights of
the layer that makes the product's real factor, through the views between. Any other becomes a
convolution of its own: 1x1, a weight and a bias a channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.layout import strided_index
from neurocompile.ir.spiking_rules import FOLDED_BATCH_NORM, IS_IMPORTED, NO_BATCH_NORM
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass
from neurocompile.passes.fold_batch_norm import affine

__all__ = ["SettleBatchNorm"]


@dataclass(frozen=True)
class SettleBatchNorm(SpikingPass):
    """Requires a float graph whose foldable BatchNorms are folded. Ensures that no BatchNorm is
    left.
    """

    name: ClassVar[str] = "settle-batch-norm"
    requires = (IS_IMPORTED, FOLDED_BATCH_NORM)
    ensures = (NO_BATCH_NORM,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        made: dict[str, s.Node] = {}
        for node in graph.nodes:
            if not isinstance(node, s.BatchNorm):
                made[node.name] = rewriter.resolved(node)
                rewriter.emit(made[node.name])
            elif _scale_backwards(rewriter, graph, made, node, size):
                rewriter.forward(node, rewriter.resolve(node.x))
            else:
                rewriter.forward(node, _convolution(rewriter, made, node, size[node.x]))
        return rewriter.finish()


def _scale_backwards(
    rewriter: Rewriter,
    graph: s.SpikingGraph,
    made: dict[str, s.Node],
    norm: s.BatchNorm,
    size: dict[str, tuple[int, ...]],
) -> bool:
    """True if pure factors behind views and products now are in the weights of the layer before
    these.
    """
    factor, offset = affine(rewriter.tensors, norm)
    if offset.any():
        return False
    value = np.broadcast_to(
        factor.reshape(-1, *[1] * (len(size[norm.x]) - 1 - norm.axis)), size[norm.x]
    )
    at: Factors | None = Factors(graph, size, graph.node[norm.x], value)
    while at is not None and len(graph.users[at.node.name]) == 1:
        if (rule := BACKWARDS.get(at.node)) is None:
            break
        at = rule(at, at.node)
    if at is None:
        return False
    old, value = at.node, at.value
    layer = made.get(rewriter.resolve(Ref(old.name)))
    if not isinstance(layer, (s.Conv2d, s.Linear)) or len(graph.users[old.name]) != 1:
        return False
    channel = 0 if isinstance(layer, s.Conv2d) else value.ndim - 1
    flat = np.moveaxis(value, channel, 0).reshape(value.shape[channel], -1)
    if (flat != flat[:, :1]).any():
        return False
    _replace(rewriter, made, layer, _scaled(rewriter, layer, flat[:, 0], np.zeros(len(flat))))
    return True


@dataclass(frozen=True)
class Factors:
    """``value``: factors of the value of ``node``, of its shape."""

    graph: s.SpikingGraph
    size: dict[str, tuple[int, ...]]
    node: s.Node
    value: np.ndarray

    def of(self, name: str, value: np.ndarray) -> Factors:
        """Of an operand of the node."""
        return replace(self, node=self.graph.node[name], value=value)


BACKWARDS: KindTable[Callable[[Factors, Any], Factors | None]] = KindTable(
    "factors backwards", (), "how a factor behind it becomes one in front"
)
"""(factors behind a node, the node) -> factors of one of its operands; None if there are none."""
BACKWARDS.add(lambda at, node: at.of(node.x, at.value), s.Scale)


@BACKWARDS.rule(s.Rearrange)
def _before_view(at: Factors, node: s.Rearrange) -> Factors | None:
    source, index = (
        np.ones(int(np.prod(at.size[node.x]))),
        strided_index(node.sizes, node.strides, node.offset),
    )
    source[index] = at.value.reshape(-1)
    if (source[index] != at.value.reshape(-1)).any():  # a value that repeats, with several factors
        return None
    return at.of(node.x, source.reshape(at.size[node.x]))


@BACKWARDS.rule(s.MatMul)
def _before_product(at: Factors, node: s.MatMul) -> Factors | None:
    for name, kept in ((node.a, at.value[..., :1]), (node.b, at.value[..., :1, :])):
        if (at.value == kept).all() and _layer_before(at.graph, name) is not None:
            return at.of(name, np.broadcast_to(kept, at.size[name]))
    return None


def _layer_before(graph: s.SpikingGraph, name: str) -> s.Node | None:
    """The linear layer that makes a value, through views, factors and normalizations that nothing
    else reads.
    """
    node = graph.node[name]
    while (
        isinstance(node, (s.Rearrange, s.Scale, s.BatchNorm)) and len(graph.users[node.name]) == 1
    ):
        node = graph.node[node.x]
    return node if isinstance(node, (s.Conv2d, s.Linear)) else None


def _replace(rewriter: Rewriter, made: dict[str, s.Node], old: s.Node, new: s.Node) -> None:
    """Put ``new`` where ``old`` stands, under the name of ``old``."""
    rewriter.nodes[rewriter.nodes.index(old)] = new
    made[old.name] = new


def _convolution(
    rewriter: Rewriter, made: dict[str, s.Node], norm: s.BatchNorm, shape: tuple[int, ...]
) -> Ref:
    """The normalization as a 1x1 convolution in each channel, between views where the value is no
    (C, H, W).
    """
    x = rewriter.resolve(norm.x)
    channels, strides = shape[norm.axis], [int(np.prod(shape[k + 1 :])) for k in range(len(shape))]
    plain = len(shape) == 3 and norm.axis == 0
    order = (norm.axis, *(k for k in range(len(shape)) if k != norm.axis))
    if not plain:
        view = s.Rearrange(
            name=rewriter.fresh(f"{norm.name}.in"),
            x=x,
            shape=(channels, int(np.prod(shape)) // channels, 1),
            sizes=tuple(shape[k] for k in order),
            strides=tuple(strides[k] for k in order),
        )
        made[view.name], x = view, rewriter.emit(view)
    weight = rewriter.tensor(f"{norm.scale}.one", np.ones((channels, 1, 1, 1)))
    one = s.Conv2d(name=rewriter.fresh(f"{norm.name}.conv"), x=x, weight=weight, groups=channels)
    conv = _scaled(rewriter, one, *affine(rewriter.tensors, norm))
    made[conv.name], x = conv, rewriter.emit(conv)
    if not plain:
        moved = [shape[k] for k in order]
        back = {k: int(np.prod(moved[i + 1 :])) for i, k in enumerate(order)}
        view = s.Rearrange(
            name=rewriter.fresh(f"{norm.name}.out"),
            x=x,
            shape=shape,
            sizes=shape,
            strides=tuple(back[k] for k in range(len(shape))),
        )
        made[view.name], x = view, rewriter.emit(view)
    return x


def _scaled(
    rewriter: Rewriter, linear: s.Conv2d | s.Linear, factor: np.ndarray, offset: np.ndarray
) -> s.Conv2d | s.Linear:
    """``factor * linear(x) + offset``, under the same name."""
    weight = np.asarray(rewriter.tensors[linear.weight], np.float64)
    old = 0.0 if linear.bias is None else np.asarray(rewriter.tensors[linear.bias], np.float64)
    bias = factor * old + offset
    return replace(
        linear,
        weight=rewriter.tensor(
            f"{linear.weight}.scaled", weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        ),
        bias=rewriter.tensor(f"{linear.weight}.scaled.bias", bias) if bias.any() else None,
    )
