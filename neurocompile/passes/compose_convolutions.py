"""Two convolutions without a neuron between them are one: ``W = W2 * W1``, in float64.

Meta-SpikeFormer's RepConv (1x1, depthwise 3x3, 1x1) becomes one 3x3 convolution, its separable convolutions one 7x7. The
product is quantized once, where factors pass a real value between two cores and lose bits twice. But it has 4.5 times the
weights, and every core that holds a part of the map holds its own copy of them: on small maps of many channels the factors
take fewer cores. ``policy`` says whether to merge, to keep factors, or to choose by the number of cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["POLICIES", "ComposeConvolutions"]

POLICIES = ("auto", "merge", "factor")


@dataclass(frozen=True)
class ComposeConvolutions(SpikingPass):
    """Requires a float graph without BatchNorm. Merges chains of Conv2d (and SumPool2d) that nothing else reads, where
    that is exact.

    Exact means: the first has stride 1, neither is dilated, and the second does not pad (a border of zeros is not what
    the first would give there). Pairs whose product has more than ``largest`` weights stay apart.
    """

    name: ClassVar[str] = "compose-convolutions"

    policy: str = "auto"
    """merge, factor or auto."""
    neurons: int = 4096
    words: int = 16_000
    """Of a core of the target, for ``auto``: neurons, and words of synaptic memory."""
    largest: int = 40_000_000

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise NeurocompileError("NC1015", f"convolutions is {self.policy!r}; {', '.join(POLICIES)} are possible")

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        made: dict[str, s.Node] = {}
        cost: dict[str, float] = {}  # cores of the chain behind a convolution, as the model's author wrote it
        for old in graph.nodes:
            node = rewriter.resolved(old)
            first = made.get(getattr(node, "x", ""))
            if isinstance(node, s.Conv2d):
                cost[node.name] = self.cores(rewriter, node, size[node.name])
            if isinstance(first, s.Conv2d) and len(graph.users[old.inputs[0]]) == 1 and self.policy != "factor":
                second = _as_convolution(rewriter, node, size)
                product = None if second is None else self.composed(rewriter, first, second)
                if product is not None and second is not None:
                    # a real value between two layers is relayed, and once more in a coarser unit
                    apart = cost[first.name] + self.cores(rewriter, second, size[node.name]) + prod(size[first.name]) / self.neurons
                    if self.policy == "merge" or self.cores(rewriter, product, size[node.name]) <= apart:
                        node = product
                        cost[node.name] = apart
            made[node.name] = node
            rewriter.emit(node)
        return rewriter.finish()

    def cores(self, rewriter: Rewriter, conv: s.Conv2d, shape: tuple[int, ...]) -> float:
        """About how many cores a convolution with an output (C, H, W) fills: by neurons, or by kernel rows of 8 bits.

        A core holds a tile of channels, as many as its memory has kernels for, times as much of the map as its neurons are.
        """
        out, group_in, kh, kw = rewriter.tensors[conv.weight].shape
        area = prod(shape[1:])
        if conv.groups == 1:
            channels = min(max(int((self.words / (group_in * kh * kw) - 1) * 8), 1), out)
        else:
            a_group = group_in * kh * kw * (out // conv.groups * 8 // 64 + 1)
            channels = min(max(self.words // a_group, 1) * (out // conv.groups), out)
        return out * area / min(self.neurons, channels * area)

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


def _as_convolution(rewriter: Rewriter, node: s.Node, size: dict[str, tuple[int, ...]]) -> s.Conv2d | None:
    """``node`` if it is a convolution; sums over windows as one; None for anything else."""
    if isinstance(node, s.SumPool2d):
        channels = size[node.name][0]
        ones = rewriter.tensor(f"{node.name}.ones", np.ones((channels, 1, *node.kernel)))
        return s.Conv2d(name=node.name, x=node.x, weight=ones, stride=node.stride, padding=node.padding, groups=channels)
    return node if isinstance(node, s.Conv2d) else None


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights (C', C, kH, kW) of an ungrouped convolution, from (C', C / groups, kH, kW)."""
    out, group_in = weight.shape[:2]
    dense = np.zeros((out, group_in * groups, *weight.shape[2:]))
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        dense[rows, g * group_in : (g + 1) * group_in] = weight[rows]
    return dense
