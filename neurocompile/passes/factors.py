"""A constant factor as weights: of the layer in front where it is private, of a depthwise 1x1
convolution otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter

__all__ = ["multiplied", "multiplied_in_place"]


def multiplied(rewriter: Rewriter, x: Ref, shape: tuple[int, ...], factor: float, name: str) -> Ref:
    """``factor * x`` by a convolution ``name``.connected, between views where ``x``, of ``shape``,
    is no feature map.
    """
    plain = len(shape) == 3
    channels = shape[0] if plain else prod(shape)
    made = rewriter.fresh(f"{name}.connected")
    if not plain:
        x = rewriter.emit(_view(rewriter.fresh(f"{name}.map"), x, (channels, 1, 1)))
    weight = rewriter.tensor(f"{made}.weight", np.full((channels, 1, 1, 1), factor, np.float32))
    x = rewriter.emit(s.Conv2d(name=made, x=x, weight=weight, groups=channels))
    return x if plain else rewriter.emit(_view(rewriter.fresh(f"{name}.seen"), x, shape))


def multiplied_in_place(
    rewriter: Rewriter, graph: s.SpikingGraph, name: str, factor: float
) -> bool:
    """True if the linear layer that makes the value ``name`` of ``graph``, and whose value nothing
    but factors read on the way, now has ``factor`` in its weights and bias.
    """
    node = graph.node[name]
    while isinstance(node, s.Scale) and len(graph.users[node.name]) == 1:
        node = graph.node[node.x]
    if not isinstance(node, (s.Conv2d, s.Linear)) or len(graph.users[node.name]) != 1:
        return False
    place = next((k for k, n in enumerate(rewriter.nodes) if n.name == node.name), None)
    if place is None:
        return False
    layer = rewriter.nodes[place]
    assert isinstance(layer, (s.Conv2d, s.Linear))
    fields: dict[str, Any] = {
        name: rewriter.tensor(
            f"{ref}.scaled", np.asarray(rewriter.tensors[ref], np.float64) * factor
        )
        for name, ref in (("weight", layer.weight), ("bias", layer.bias))
        if ref is not None
    }
    rewriter.nodes[place] = replace(layer, **fields)
    return True


def _view(name: str, x: Ref, shape: tuple[int, ...]) -> s.Rearrange:
    return s.Rearrange(name=name, x=x, shape=shape, sizes=(prod(shape),), strides=(1,))
