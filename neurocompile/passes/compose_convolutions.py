"""Two convolutions without a neuron between them are one: ``W = W2 * W1``, in float64.

Meta-SpikeFormer's RepConv (1x1, depthwise 3x3, 1x1) becomes one 3x3 convolution, its separable convolutions one 7x7. The
product is quantized once, where factors would pass a real value between two cores and lose bits twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["ComposeConvolutions"]


@dataclass(frozen=True)
class ComposeConvolutions(SpikingPass):
    """Requires a float graph without BatchNorm. Merges a Conv2d into the only Conv2d that reads it, where that is exact.

    Exact means: the first has stride 1, neither is dilated, and the second does not pad (a border of zeros is not what
    the first would give there). Pairs whose product has more than ``largest`` weights stay apart.
    """

    name: ClassVar[str] = "compose-convolutions"

    largest: int = 4_000_000

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
        made: dict[str, s.Node] = {}
        for old in graph.nodes:
            node = rewriter.resolved(old)
            first = made.get(getattr(node, "x", ""))
            if isinstance(node, s.Conv2d) and isinstance(first, s.Conv2d) and len(graph.users[old.x]) == 1:
                node = self.composed(rewriter, first, node) or node
            made[node.name] = node
            rewriter.emit(node)
        return rewriter.finish()

    def composed(self, rewriter: Rewriter, first: s.Conv2d, second: s.Conv2d) -> s.Conv2d | None:
        """The product, under the second's name; None where the two must stay apart."""
        if first.stride != (1, 1) or {first.dilation, second.dilation} != {(1, 1)} or second.padding != (0, 0):
            return None
        a, b = (_dense(np.asarray(rewriter.tensors[n.weight], np.float64), n.groups) for n in (first, second))
        height, width = (m + n - 1 for m, n in zip(a.shape[2:], b.shape[2:]))
        if len(b) * a.shape[1] * height * width > self.largest:
            return None
        weight = np.zeros((len(b), a.shape[1], height, width))
        for u, v in np.ndindex(*b.shape[2:]):
            weight[:, :, u : u + a.shape[2], v : v + a.shape[3]] += np.einsum("oc,ciyx->oiyx", b[:, :, u, v], a)
        bias = np.zeros(len(b)) if second.bias is None else np.asarray(rewriter.tensors[second.bias], np.float64)
        if first.bias is not None:
            bias = bias + np.einsum("oc,c->o", b.sum(axis=(2, 3)), np.asarray(rewriter.tensors[first.bias], np.float64))
        return replace(
            second, x=first.x, weight=rewriter.tensor(f"{second.weight}.composed", weight), padding=first.padding, groups=1,
            bias=None if first.bias is None and second.bias is None else
            rewriter.tensor(f"{second.weight}.composed.bias", bias),
        )  # fmt: skip


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights (C', C, kH, kW) of an ungrouped convolution, from (C', C / groups, kH, kW)."""
    out, group_in = weight.shape[:2]
    dense = np.zeros((out, group_in * groups, *weight.shape[2:]))
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        dense[rows, g * group_in : (g + 1) * group_in] = weight[rows]
    return dense
