"""What to do with a BatchNorm that follows no linear layer: factors of a head, and normalizations
of spikes, sums and pools.

A factor a head behind a product of matrices (SpikingResformer's scales) goes into the weights of
the layer that makes the product's real factor, through the views between. Any other becomes a
convolution of its own: 1x1, a weight and a bias a channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.layout import strided_index
from neurocompile.ir.spiking_rules import FOLDED_BATCH_NORM, IS_IMPORTED, NO_BATCH_NORM
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass

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


def _affine(rewriter: Rewriter, norm: s.BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    """(factor, offset) a channel."""
    scale, shift, mean, var = (np.asarray(rewriter.tensors[t], np.float64) for t in norm.tensors)
    factor = scale / np.sqrt(var + norm.eps)
    return factor, shift - factor * mean


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
    factor, offset = _affine(rewriter, norm)
    if offset.any():
        return False
    value = np.broadcast_to(
        factor.reshape(-1, *[1] * (len(size[norm.x]) - 1 - norm.axis)), size[norm.x]
    )
    old = graph.node[norm.x]
    while len(graph.users[old.name]) == 1:
        if isinstance(old, s.Rearrange):
            source = np.ones(int(np.prod(size[old.x])))
            source[strided_index(old.sizes, old.strides, old.offset)] = value.reshape(-1)
            value, old = source.reshape(size[old.x]), graph.node[old.x]
        elif isinstance(old, s.Scale):
            old = graph.node[old.x]
        elif isinstance(old, s.MatMul):
            rows, columns = (value == value[..., :1]).all(), (value == value[..., :1, :]).all()
            for name, fits, kept in (
                (old.a, rows, value[..., :1]),
                (old.b, columns, value[..., :1, :]),
            ):
                if fits and _layer_before(graph, name) is not None:
                    value, old = np.broadcast_to(kept, size[name]), graph.node[name]
                    break
            else:
                return False
        else:
            break
    layer = made.get(rewriter.resolve(Ref(old.name)))
    if not isinstance(layer, (s.Conv2d, s.Linear)) or len(graph.users[old.name]) != 1:
        return False
    channel = 0 if isinstance(layer, s.Conv2d) else value.ndim - 1
    flat = np.moveaxis(value, channel, 0).reshape(value.shape[channel], -1)
    if (flat != flat[:, :1]).any():
        return False
    _replace(rewriter, made, layer, _scaled(rewriter, layer, flat[:, 0], np.zeros(len(flat))))
    return True


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
    conv = _scaled(rewriter, one, *_affine(rewriter, norm))
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
