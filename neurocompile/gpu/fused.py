"""Which nodes the Triton kernels compute, and their launches.

A Conv2d, Linear or MaxPool2d that only one neuron layer reads is computed with it: its sums never
leave the multiprocessor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from neurocompile.gpu.attention import matrix_products, sums_of_rows
from neurocompile.gpu.kernels import neurons, pooled, weighted
from neurocompile.gpu.nodes import Rules, aligned, channels_first, channels_last, torch_type
from neurocompile.gpu.plan import Plan, may_clip, neuron_fits
from neurocompile.gpu.products import columns, output_size
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import TensorRef

__all__ = ["FusedRules", "Tile", "tile_of"]

_BLOCK = 1024
_FEW_CHANNELS = 16
"""A convolution of fewer channels reads unfolded windows: rows of one product are longer then."""


class Tile(NamedTuple):
    """Rows, columns and depth of a block of a product, its warps and stages of its pipeline."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def tile_of(channels: int, depth: int, taps: int, half: bool) -> Tile:
    """The block for ``channels`` outputs of sums over ``taps`` places of ``depth`` inputs, by the
    times measured on an H200.
    """
    k = _dividing(depth, 64 if half else 128)
    if (
        taps * depth <= _SHALLOW
    ):  # the neurons take longer than the sums: few registers, many blocks
        return Tile(64, _dividing(channels, 64), min(k, 64), 4, 3)
    n = _dividing(channels, 128)
    return Tile(64 if n == 128 else 128, n, k, 4, 3)


_SHALLOW = 192
"""Products that a sum has at most to be shallow."""


def _dividing(size: int, most: int) -> int:
    """The largest power of two, 64 to ``most``, that divides ``size``; else the least that holds it,
    up to 64."""
    for n in (128, 64):
        if n <= most and size % n == 0:
            return n
    return min(most, 64, max(32, triton.next_power_of_2(size)))


class _Neuron(NamedTuple):
    """Parameters of a layer, int32, as many as one period of elements."""

    bias: torch.Tensor
    vth: torch.Tensor
    keep: torch.Tensor
    period: int


class FusedRules:
    """The kernels of one device.

    Attributes:
        nodes: names of the nodes that they compute.
    """

    def __init__(self, plan: Plan, rules: Rules) -> None:
        self.plan, self.rules = plan, rules
        self.device, self.steps = rules.device, plan.steps
        self.tiles: dict[str, Tile] = {}
        self.nodes = {n.name for n in plan.graph.nodes if self._computes(n)}
        self._weights: dict[str, torch.Tensor] = {}
        self._neurons: dict[tuple[str, int | None, bool], _Neuron] = {}

    def _computes(self, node: s.Node) -> bool:
        fused = FUSED.get(node)
        return fused is not None and fused.fits(self.plan, node)

    def waits(self, node: s.Node, recorded: Collection[str]) -> bool:
        """Whether ``node`` is left to the neurons that read it."""
        sources = (s.Conv2d, s.Linear, s.MaxPool2d)
        if node.name not in self.nodes or node.name in recorded or not isinstance(node, sources):
            return False
        users = self.plan.graph.users[node.name]
        return (
            len(users) == 1
            and isinstance(users[0], s.IntegerLIF)
            and users[0].name in self.nodes
            and self._one_each(users[0], -1 if isinstance(node, s.Linear) else 0)
        )

    def _one_each(self, node: s.IntegerLIF, axis: int) -> bool:
        """Whether the parameters of ``node`` are one for each index of ``axis``, or one at all."""
        rank = len(self.plan.size[node.name])
        for name in node.tensors:
            shape = self.plan.graph.tensors[name].shape
            shape = (1,) * (rank - len(shape)) + shape
            if any(n != 1 for k, n in enumerate(shape) if k != axis % rank):
                return False
        return True

    def __call__(
        self, node: s.Node, before: s.Node | None, values: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """The value of ``node``, with ``before`` that waited for it."""
        neuron = node if isinstance(node, s.IntegerLIF) else None
        source = node if before is None else before
        return FUSED.of(source).launch(self, source, neuron, [values[i] for i in source.inputs])

    def _parameters(self, node: s.IntegerLIF, axis: int | None, images: bool = False) -> _Neuron:
        """Of a layer: one for each index of ``axis``, or one an element, which lie channels last
        (``images``) or row-major; one at all where that is enough."""
        key = node.name, axis, images
        if key in self._neurons:
            return self._neurons[key]
        size, tensors = self.plan.size[node.name], self.plan.graph.tensors
        given = [
            tensors[v].astype(np.int64) if isinstance(v, TensorRef) else np.array(v, np.int64)
            for v in (0 if node.bias is None else node.bias, node.vth, node.dv)
        ]
        rank = len(size)
        shape = size
        if axis is not None:
            shape = tuple(n if k == axis % rank else 1 for k, n in enumerate(size))
        elif all(v.size == 1 for v in given):
            shape = (1,) * rank
        bias, vth, dv = (
            np.broadcast_to(v.reshape((1,) * (rank - v.ndim) + v.shape), shape) for v in given
        )
        made = [bias << node.bias_exp, vth << 6, ALL - dv]
        if images:
            made = [v.transpose(1, 2, 0) for v in made]
        vectors = [
            torch.from_numpy(np.ascontiguousarray(v.reshape(-1).astype(np.int32))).to(self.device)
            for v in made
        ]
        self._neurons[key] = _Neuron(vectors[0], vectors[1], vectors[2], vectors[0].numel())
        return self._neurons[key]

    def _flags(self, node: s.IntegerLIF | None) -> tuple[bool, bool, bool]:
        """Whether all neurons have one threshold and one leak, that leak is a half, and a membrane may
        reach its limit."""
        if node is None:
            return False, False, False
        alike = not isinstance(node.vth, TensorRef) and not isinstance(node.dv, TensorRef)
        return alike, node.dv == 2048, may_clip(self.plan, node)

    def _weight(self, node: s.Conv2d | s.Linear, half: bool) -> torch.Tensor:
        """(out, taps * in), channels innermost, padded to whole 16."""
        if node.name not in self._weights:
            value = self.plan.sums[node.name].weight
            if isinstance(node, s.Conv2d):
                value = value.transpose(0, 2, 3, 1)
                if self._unfolds(node):
                    value = value.reshape(len(value), -1)
                    value = np.pad(value, ((0, 0), (0, -value.shape[1] % 16)))
            kind = np.float16 if half else np.int8
            value = np.ascontiguousarray(value.reshape(len(value), -1).astype(kind))
            self._weights[node.name] = torch.from_numpy(value).to(self.device)
        return self._weights[node.name]

    def _unfolds(self, node: s.Conv2d) -> bool:
        shape = self.plan.graph.tensors[node.weight].shape
        return shape[1] < _FEW_CHANNELS and prod(shape[2:]) > 1

    def conv(self, node: s.Conv2d, neuron: s.IntegerLIF | None, x: torch.Tensor) -> torch.Tensor:
        half = self.plan.sums[node.name].form == "half"
        kernel = self.plan.graph.tensors[node.weight].shape[2:]
        window = (kernel, node.stride, node.padding, node.dilation)
        rows = channels_last(x.to(torch.float16) if half else x)
        size = output_size(rows.shape[2:4], *window)
        if self._unfolds(node):
            steps, images = rows.shape[:2]
            rows = columns(rows.flatten(0, 1), *window)
            rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 16))
            rows = rows.view(steps, images, *size, -1)
            window = ((1, 1), (1, 1), (0, 0), (1, 1))
        return channels_first(self._weighted(node, neuron, rows, size, window, half))

    def linear(self, node: s.Linear, neuron: s.IntegerLIF | None, x: torch.Tensor) -> torch.Tensor:
        half = self.plan.sums[node.name].form == "half"
        rows = (x.to(torch.float16) if half else x).contiguous()
        tokens = prod(x.shape[2:-1])
        rows = rows.view(*x.shape[:2], 1, tokens, x.shape[-1])
        window = ((1, 1), (1, 1), (0, 0), (1, 1))
        y = self._weighted(node, neuron, rows, (1, tokens), window, half)
        return y.view(*y.shape[:2], *x.shape[2:-1], y.shape[-1])

    def _weighted(
        self,
        node: s.Conv2d | s.Linear,
        neuron: s.IntegerLIF | None,
        rows: torch.Tensor,
        size: tuple[int, int],
        window: Sequence[Sequence[int]],
        half: bool,
    ) -> torch.Tensor:
        steps, images, high, wide, depth = rows.shape
        weight = self._weight(node, half)
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = window
        out = len(weight)
        total = images * size[0] * size[1]
        made = steps if neuron is None else self.steps
        name = node.name if neuron is None else neuron.name
        kind = torch_type(self.plan.storage(name))
        y = torch.empty((made, images, *size, out), dtype=kind, device=rows.device)
        shift = self.plan.sums[node.name].shift
        if neuron is None:
            scale, given = 1 << shift, (weight, weight, weight)
        else:
            scale = neuron.gain << (6 + shift)
            given = self._parameters(neuron, -1 if isinstance(node, s.Linear) else 0)[:3]
        tile = self.tiles.get(node.name) or tile_of(out, depth, kh * kw, half)
        grid = (triton.cdiv(total, tile.m) * triton.cdiv(out, tile.n),)
        step = 0 if steps == 1 else rows.stride(0)
        weighted[grid](
            rows, weight, *given, y, total, high, wide, *size, depth, out, step, y.stride(0), scale,
            made, steps == 1, neuron is not None, *self._flags(neuron), kh, kw, sh, sw, ph, pw, dh, dw,
            bool(ph or pw), depth % tile.k == 0, tile.m, tile.n, tile.k,
            tl.float32 if half else tl.int32, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        return y

    def pool(self, node: s.MaxPool2d, neuron: s.IntegerLIF | None, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.int64:
            x = x.to(torch.int32)
        rows = channels_last(x)
        steps, images, high, wide, channels = rows.shape
        size = self.plan.size[node.name][1:]
        if neuron is not None and steps != self.steps:  # one step is enough to pool
            y = self.pool(node, None, x)
            return self.neurons_alone(neuron, y)
        kind = torch_type(self.plan.storage(node.name if neuron is None else neuron.name))
        y = torch.empty((steps, images, *size, channels), dtype=kind, device=rows.device)
        count = y[0].numel()
        given = (y, y, y) if neuron is None else self._parameters(neuron, 0)[:3]
        scale = 1 if neuron is None else neuron.gain << 6
        pooled[(triton.cdiv(count, _BLOCK),)](
            rows, *given, y, count, high, wide, *size, channels, rows.stride(0), y.stride(0),
            scale, -(1 << 31) + 1, steps, neuron is not None, *self._flags(neuron)[1:], *node.kernel, *node.stride, *node.padding,
            _BLOCK,
        )  # fmt: skip
        return channels_first(y)

    def neurons_alone(self, node: s.IntegerLIF, x: torch.Tensor) -> torch.Tensor:
        images = x.ndim == 5 and x.stride(2) == 1 and x.shape[2] > 1
        x = x.permute(0, 1, 3, 4, 2) if images else x
        x = x.contiguous()
        if x.dtype == torch.int64:
            x = x.to(torch.int32)
        axis = 0 if images else -1
        given = self._parameters(node, axis if self._one_each(node, axis) else None, images)
        y = torch.empty((self.steps, *x.shape[1:]), dtype=torch.int8, device=x.device)
        count = y[0].numel()
        neurons[(triton.cdiv(count, _BLOCK),)](
            x, given.bias, given.vth, given.keep, y, count, given.period,
            x.stride(0) if len(x) > 1 else 0, y.stride(0), node.gain << 6, self.steps,
            *self._flags(node)[1:], _BLOCK,
        )  # fmt: skip
        return channels_first(y) if images else y


class Fused(NamedTuple):
    """How a kind of node is computed by a kernel."""

    fits: Callable[[Plan, Any], bool]
    """(plan, node) -> whether its integers fit the kernel's."""
    launch: Callable[[FusedRules, Any, Any, Sequence[torch.Tensor]], torch.Tensor]
    """(rules, node, the neurons that it is computed with or None, inputs) -> value."""


FUSED: KindTable[Fused] = KindTable("fused kernels", (), "which kernel computes it")
"""All other kinds are :class:`neurocompile.gpu.nodes.Rules`'."""


def _narrow(plan: Plan, node: s.Node) -> bool:
    return plan.storage(node.name) is not np.int64


def _weights_fit(plan: Plan, node: s.Conv2d | s.Linear) -> bool:
    sums = plan.sums[node.name]
    return (
        sums.form in ("int8", "half")
        and node.bias is None
        and sums.total << sums.shift < 1 << 31
        and min(plan.graph.tensors[node.weight].shape) > 0
    )


def _product_fits(plan: Plan, node: s.MatMul) -> bool:
    form, total = plan.matmul_form(node)
    return form in ("int8", "half") and total < 1 << 24


def _product(
    rules: FusedRules, node: s.MatMul, neuron: None, inputs: Sequence[torch.Tensor]
) -> torch.Tensor:
    made = matrix_products(*aligned(*inputs), rules.rules.type(node.name))
    return rules.rules(node, *inputs) if made is None else made


def _sum(
    rules: FusedRules, node: s.Sum, neuron: None, inputs: Sequence[torch.Tensor]
) -> torch.Tensor:
    axes, kind = [a + 2 for a in node.axes], rules.rules.type(node.name)
    made = sums_of_rows(inputs[0], axes, node.keepdims, kind)
    return rules.rules(node, *inputs) if made is None else made


FUSED.add(
    Fused(neuron_fits, lambda rules, node, neuron, x: rules.neurons_alone(node, x[0])), s.IntegerLIF
)
FUSED.add(
    Fused(_narrow, lambda rules, node, neuron, x: rules.pool(node, neuron, x[0])), s.MaxPool2d
)
FUSED.add(
    Fused(
        lambda plan, node: node.groups == 1 and _weights_fit(plan, node),
        lambda rules, node, neuron, x: rules.conv(node, neuron, x[0]),
    ),
    s.Conv2d,
)
FUSED.add(
    Fused(_weights_fit, lambda rules, node, neuron, x: rules.linear(node, neuron, x[0])), s.Linear
)
FUSED.add(Fused(_product_fits, _product), s.MatMul)
FUSED.add(Fused(_narrow, _sum), s.Sum)
