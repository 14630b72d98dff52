"""Two convolutions without a neuron between them are one: ``W = W2 * W1``, in float64.

Meta-SpikeFormer's RepConv (1x1, depthwise 3x3, 1x1) becomes one 3x3 convolution, its separable
convolutions one 7x7. The product is quantized once, where factors pass a real value between two
cores and lose bits twice. But it has 4.5 times the weights, and every core that holds a part of the
map holds its own copy of them: on small maps of many channels the factors take fewer cores.
``policy`` says whether to merge, to keep factors, or to choose by the number of cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.sliding import sliding_windows
from neurocompile.ir.spiking_rules import IS_IMPORTED, NO_BATCH_NORM
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["POLICIES", "ComposeConvolutions"]

POLICIES = ("auto", "merge", "factor")


@dataclass(frozen=True)
class ComposeConvolutions(SpikingPass):
    """Requires a float graph without BatchNorm. Merges chains of Conv2d (and SumPool2d) that
    nothing else reads, where that is exact.

    Exact means: the first has stride 1, neither is dilated, and the second does not pad (a border
        of zeros is not what
    the first would give there). Where the first is 1 x 1 without padding, such as the normalization
        of spikes, the second
    may pad: what it makes of the first's bias then is an Offset for each position. Pairs whose
    product has more than ``largest`` weights stay apart.
    """

    name: ClassVar[str] = "compose-convolutions"
    requires = (IS_IMPORTED, NO_BATCH_NORM)

    policy: str = "auto"
    """merge, factor or auto."""
    neurons: int = 4096
    words: int = 16_000
    """Of a core of the target, for ``auto``: neurons, and words of synaptic memory."""
    largest: int = 40_000_000

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise NeurocompileError(
                "NC1015", f"convolutions is {self.policy!r}; {', '.join(POLICIES)} are possible"
            )

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        made: dict[str, s.Node] = {}
        cost: dict[
            str, float
        ] = {}  # cores of the chain behind a convolution, as the model's author wrote it
        for old in graph.nodes:
            node = rewriter.resolved(old)
            first = made.get(getattr(node, "x", ""))
            if isinstance(node, s.Conv2d):
                cost[node.name] = self.cores(
                    rewriter.tensors[node.weight].shape, node.groups, size[node.name]
                )
            if (
                isinstance(first, s.Conv2d)
                and len(graph.users[old.inputs[0]]) == 1
                and self.policy != "factor"
            ):
                second = _as_convolution(rewriter, node, size)
                product = None if second is None else self.product_shape(rewriter, first, second)
                if product is not None and second is not None:
                    alone = self.cores(
                        rewriter.tensors[second.weight].shape, second.groups, size[node.name]
                    )
                    # a real value between two layers is relayed, and once more in a coarser unit
                    apart = cost[first.name] + alone + prod(size[first.name]) / self.neurons
                    if self.policy == "merge" or self.cores(product, 1, size[node.name]) <= apart:
                        cost[node.name] = apart
                        node = _composed(rewriter, first, second)
                        if any(second.padding) and first.bias is not None:
                            node = _offset(rewriter, first, second, node, size[first.name])
            made[node.name] = node
            rewriter.emit(node)
        return rewriter.finish()

    def cores(self, weight: tuple[int, ...], groups: int, shape: tuple[int, ...]) -> float:
        """About how many cores a convolution with an output (C, H, W) fills: by neurons, or by
        kernel rows of 8 bits.

        A core holds a tile of channels, as many as its memory has kernels for, times as much of the
        map as its neurons are.
        """
        out, group_in, kh, kw = weight
        area = prod(shape[1:])
        if groups == 1:
            channels = min(max(int((self.words / (group_in * kh * kw) - 1) * 8), 1), out)
        else:
            a_group = group_in * kh * kw * (out // groups * 8 // 64 + 1)
            channels = min(max(self.words // a_group, 1) * (out // groups), out)
        return out * area / min(self.neurons, channels * area)

    def product_shape(
        self, rewriter: Rewriter, first: s.Conv2d, second: s.Conv2d
    ) -> tuple[int, ...] | None:
        """Of the product's weights, which has no groups; None where the two must stay apart."""
        (_, group_in, ah, aw), (out, _, bh, bw) = (
            rewriter.tensors[n.weight].shape for n in (first, second)
        )
        pointwise = (ah, aw) == (1, 1) and not any(first.padding)
        if (
            first.stride != (1, 1)
            or {first.dilation, second.dilation} != {(1, 1)}
            or (any(second.padding) and not pointwise)
        ):
            return None
        shape = out, group_in * first.groups, ah + bh - 1, aw + bw - 1
        return None if prod(shape) > self.largest else shape


def _composed(rewriter: Rewriter, first: s.Conv2d, second: s.Conv2d) -> s.Conv2d:
    """The product, under the second's name."""
    a, b = (np.asarray(rewriter.tensors[n.weight], np.float64) for n in (first, second))
    weight = _product(a, first.groups, b, second.groups)
    bias = (
        np.zeros(len(b))
        if second.bias is None
        else np.asarray(rewriter.tensors[second.bias], np.float64)
    )
    if first.bias is not None and not any(second.padding):
        given = np.asarray(rewriter.tensors[first.bias], np.float64)
        bias = bias + np.einsum(
            "oc,c->o", _dense(b.sum(axis=(2, 3), keepdims=True), second.groups)[:, :, 0, 0], given
        )
    return replace(
        second,
        x=first.x,
        weight=rewriter.tensor(f"{second.weight}.composed", weight),
        padding=second.padding if any(second.padding) else first.padding,
        groups=1,
        bias=None
        if second.bias is None and (first.bias is None or any(second.padding))
        else rewriter.tensor(f"{second.weight}.composed.bias", bias),
    )


def _offset(
    rewriter: Rewriter,
    first: s.Conv2d,
    second: s.Conv2d,
    composed: s.Conv2d,
    shape: tuple[int, ...],
) -> s.Offset:
    """What ``second``, which pads, makes of the bias of ``first``, added to their product: float64
    (C', H', W'), under the second's name.
    """
    bias = np.asarray(rewriter.tensors[first.bias], np.float64)  # type: ignore[index]
    kernel = np.asarray(rewriter.tensors[second.weight], np.float64)
    full = np.broadcast_to(bias[:, None, None], shape)
    (ph, pw), (sh, sw) = second.padding, second.stride
    padded = np.pad(full, ((0, 0), (ph, ph), (pw, pw)))
    windows = sliding_windows(padded, kernel.shape[2:], (1, 2))[:, ::sh, ::sw]
    groups, out = second.groups, len(kernel)
    windows = windows.reshape(groups, -1, *windows.shape[1:])
    parts = kernel.reshape(groups, out // groups, *kernel.shape[1:])
    values = np.einsum("gcyxij,gocij->goyx", windows, parts).reshape(out, *windows.shape[2:4])
    x = rewriter.emit(replace(composed, name=rewriter.fresh(f"{composed.name}.composed")))
    offset = rewriter.tensor(f"{composed.name}.offset", values)
    return s.Offset(name=composed.name, x=x, offset=offset)


def _product(a: np.ndarray, a_groups: int, b: np.ndarray, b_groups: int) -> np.ndarray:
    """Weights of ``b`` after ``a``, without groups: float64 (C'', C, kH, kW). Sums go over channels
    in order: the same on any machine.
    """
    middle = len(a)
    a_each, b_each = (
        a_groups == middle and a.shape[1] == 1,
        b_groups == middle == len(b),
    )  # depthwise: nothing is summed
    a = a if a_each and not b_each else _dense(a, a_groups)
    b = b if b_each else _dense(b, b_groups)
    inputs = middle if a_each and not b_each else a.shape[1]
    weight = np.zeros((len(b), inputs, a.shape[2] + b.shape[2] - 1, a.shape[3] + b.shape[3] - 1))
    for u, v in np.ndindex(*b.shape[2:]):
        at, factor = weight[:, :, u : u + a.shape[2], v : v + a.shape[3]], b[:, :, u, v]
        if b_each:
            at += factor[:, :, None, None] * a
        elif a_each:
            at += factor[:, :, None, None] * a[:, 0]
        else:
            at += np.einsum("oc,ciyx->oiyx", factor, a)
    return weight


def _as_convolution(
    rewriter: Rewriter, node: s.Node, size: dict[str, tuple[int, ...]]
) -> s.Conv2d | None:
    """``node`` if it is a convolution; sums over windows as one; None for anything else."""
    if isinstance(node, s.SumPool2d) and not any(node.more):
        channels = size[node.name][0]
        ones = rewriter.tensor(f"{node.name}.ones", np.ones((channels, 1, *node.kernel)))
        return s.Conv2d(
            name=node.name,
            x=node.x,
            weight=ones,
            stride=node.stride,
            padding=node.padding,
            groups=channels,
        )
    return node if isinstance(node, s.Conv2d) else None


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights (C', C, kH, kW) of an ungrouped convolution, from (C', C / groups, kH, kW)."""
    out, group_in = weight.shape[:2]
    dense = np.zeros((out, group_in * groups, *weight.shape[2:]))
    for g in range(groups):
        rows = slice(g * out // groups, (g + 1) * out // groups)
        dense[rows, g * group_in : (g + 1) * group_in] = weight[rows]
    return dense
