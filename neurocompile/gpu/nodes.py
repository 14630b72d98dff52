"""Every node of a quantized graph on torch integers, after the definitions of
:mod:`neurocompile.ir.evaluate`.

A value is (T or 1, samples, *shape) with any strides; 1 step where it is constant. Its type is the
narrowest that its proven range fits, so sums and products of elements cannot wrap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from neurocompile.gpu.plan import Plan, WeightedSum, narrow
from neurocompile.gpu.products import columns, matmul, output_size, product
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import TensorRef

__all__ = [
    "RULES",
    "Rules",
    "aligned",
    "channels_first",
    "channels_last",
    "rearranged",
    "torch_type",
]

_LIMIT = PAYLOAD
_TYPES = {np.int8: torch.int8, np.int16: torch.int16, np.int32: torch.int32, np.int64: torch.int64}


def torch_type(kind: type[np.signedinteger]) -> torch.dtype:
    """torch's name of an integer type."""
    return _TYPES[kind]


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """(T, B, C, H, W) as dense (T, B, H, W, C); no copy where it lies so."""
    return x.permute(0, 1, 3, 4, 2).contiguous()


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """The view (T, B, C, H, W) of (T, B, H, W, C)."""
    return x.permute(0, 1, 4, 2, 3)


class Rules:
    """What each kind of node computes on one device."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device, self.steps = plan, device, plan.steps
        self._tensors: dict[str, torch.Tensor] = {}
        self._weights: dict[str, torch.Tensor] = {}

    def __call__(self, node: s.Node, *inputs: torch.Tensor) -> torch.Tensor:
        """The value of ``node``."""
        return RULES.of(node)(self, node, *inputs).to(self.type(node.name))

    def type(self, name: str) -> torch.dtype:
        """That a value is kept in."""
        return torch_type(self.plan.storage(name))

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor of the graph, int64."""
        if name not in self._tensors:
            value = np.ascontiguousarray(self.plan.graph.tensors[name].astype(np.int64))
            self._tensors[name] = torch.from_numpy(value).to(self.device)
        return self._tensors[name]

    def parameter(self, value: int | TensorRef) -> Any:
        """A number, or its tensor."""
        return self.tensor(value) if isinstance(value, TensorRef) else value

    def weight(self, name: str, arranged: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
        """The weight of a node as ``arranged`` lays it out, in the narrowest type."""
        if name not in self._weights:
            value = np.ascontiguousarray(arranged(self.plan.sums[name].weight))
            kind = narrow(int(value.min(initial=0)), int(value.max(initial=0)))
            self._weights[name] = torch.from_numpy(value.astype(kind)).to(self.device)
        return self._weights[name]

    def _whole(self, x: torch.Tensor, name: str, sums: WeightedSum) -> torch.Tensor:
        """A product's float as the integer it is, times 2^shift, and the node's bias."""
        kind = torch.int32 if sums.total << sums.shift < 1 << 31 else torch.int64
        x = x.to(kind)
        return x << sums.shift if sums.shift else x

    def conv(self, node: s.Conv2d, x: torch.Tensor) -> torch.Tensor:
        sums, steps = self.plan.sums[node.name], x.shape[0]
        kernel = sums.weight.shape[2:]
        rows = channels_last(x).flatten(0, 1)
        size = output_size(rows.shape[1:3], kernel, node.stride, node.padding, node.dilation)
        if sums.weight.shape[1] == 1 and node.groups == rows.shape[3] > 1:
            y = self._depthwise(node, rows, size)
        else:
            parts = rows.split(rows.shape[3] // node.groups, dim=3)
            weight = self.weight(
                node.name,
                lambda w: (
                    w.reshape(node.groups, -1, *w.shape[1:])
                    .transpose(0, 3, 4, 2, 1)
                    .reshape(node.groups, -1, len(w) // node.groups)
                ),
            )
            window = (kernel, node.stride, node.padding, node.dilation)
            made = [
                product(columns(part, *window), weight[g], sums.form, sums.total)
                for g, part in enumerate(parts)
            ]
            y = made[0] if len(made) == 1 else torch.cat(made, dim=1)
            y = self._whole(y, node.name, sums)
        y = channels_first(y.view(steps, -1, *size, len(sums.weight)))
        return y if node.bias is None else y + self.tensor(node.bias)[:, None, None]

    def _depthwise(self, node: s.Conv2d, rows: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """One channel a group: tap after tap, in integers."""
        sums = self.plan.sums[node.name]
        kind = torch.int32 if sums.total << sums.shift < 1 << 31 else torch.int64
        out, _, kh, kw = sums.weight.shape
        weight = self.weight(node.name, lambda w: w[:, 0].transpose(1, 2, 0)).to(kind)
        (ph, pw), (sh, sw), (dh, dw) = node.padding, node.stride, node.dilation
        rows = F.pad(rows, (0, 0, pw, pw, ph, ph))
        if out != rows.shape[3]:
            rows = rows.repeat_interleave(out // rows.shape[3], dim=3)
        y = torch.zeros((len(rows), *size, out), dtype=kind, device=rows.device)
        for i in range(kh):
            for j in range(kw):
                high, wide = (i * dh, (size[0] - 1) * sh + 1), (j * dw, (size[1] - 1) * sw + 1)
                taken = rows[:, high[0] : sum(high) : sh, wide[0] : sum(wide) : sw]
                y += taken * weight[i, j]
        return y << sums.shift if sums.shift else y

    def linear(self, node: s.Linear, x: torch.Tensor) -> torch.Tensor:
        sums = self.plan.sums[node.name]
        weight = self.weight(node.name, lambda w: w.T)
        y = product(x.reshape(-1, x.shape[-1]), weight, sums.form, sums.total)
        y = self._whole(y, node.name, sums).view(*x.shape[:-1], len(sums.weight))
        return y if node.bias is None else y + self.tensor(node.bias)

    def lif(self, node: s.IntegerLIF, x: torch.Tensor) -> torch.Tensor:
        bias = 0 if node.bias is None else self.tensor(node.bias) << node.bias_exp
        dv, vth = self.parameter(node.dv), self.parameter(node.vth)
        x = x.expand(self.steps if node.current != ALL else len(x), *x.shape[1:])
        v = torch.zeros(x.shape[1:], dtype=torch.int64, device=x.device)
        u, out = torch.zeros_like(v), []
        for t in range(self.steps):
            decayed = v.sign() * ((v.abs() * (ALL - dv)) >> 12)
            u = u.sign() * ((u.abs() * (ALL - node.current)) >> 12)
            u = u + ((node.gain * x[min(t, len(x) - 1)].to(torch.int64)) << 6)
            h = (decayed + u + bias).clamp(-_LIMIT, _LIMIT)
            fired = h > (vth << 6)
            out.append(fired.to(torch.int8))
            v = torch.where(fired, 0, h)
        return torch.stack(out)

    def soft_lif(self, node: s.SoftIntegerLIF, x: torch.Tensor) -> torch.Tensor:
        bias = 0 if node.bias is None else self.tensor(node.bias)
        threshold = self.parameter(node.threshold)
        decay, reset = self.parameter(node.decay), self.parameter(node.reset)
        h = torch.zeros(x.shape[1:], dtype=torch.int64, device=x.device)
        spikes, out = torch.zeros_like(h), []
        for t in range(self.steps):
            decayed = h.sign() * ((h.abs() * (ALL - decay)) >> 12)
            current = (node.gain * x[min(t, len(x) - 1)].to(torch.int64) + bias) >> node.shift
            h = decayed + ((current - reset * spikes) << 6)
            spikes = (h >= threshold << 6).to(torch.int64)
            for higher in node.more:
                spikes = spikes + (h >= higher << 6)
            out.append(spikes)
        return torch.stack(out)

    def integrator(self, node: s.IntegerIntegrator, x: torch.Tensor) -> torch.Tensor:
        p = m = torch.zeros(x.shape[1:], dtype=torch.int64, device=x.device)
        out, w = [], self.parameter(node.weight)
        for t in range(self.steps):
            now = x[min(t, len(x) - 1)].to(torch.int64)
            plus = (p * w >> 7) + (-m * w >> 7) + now
            minus = (m * w >> 7) + (-p * w >> 7) - now
            p, m = plus.clamp(min=0), minus.clamp(min=0)
            out.append(p - m)
        return torch.stack(out)

    def _taps(
        self, node: s.MaxPool2d | s.SumPool2d, x: torch.Tensor, border: int
    ) -> list[torch.Tensor]:
        """What each place of the window reads, (N, H', W', C)."""
        (ph, pw), (sh, sw), (kh, kw) = node.padding, node.stride, node.kernel
        rows = channels_last(x).flatten(0, 1)
        ends = (0, 0, pw, pw + node.more[1], ph, ph + node.more[0])
        rows = F.pad(rows, ends, value=border)
        _, high, wide = self.plan.size[node.name]
        return [
            rows[:, i : i + (high - 1) * sh + 1 : sh, j : j + (wide - 1) * sw + 1 : sw]
            for i in range(kh)
            for j in range(kw)
        ]

    def max_pool(self, node: s.MaxPool2d, x: torch.Tensor) -> torch.Tensor:
        first, *rest = self._taps(node, x, torch.iinfo(x.dtype).min)
        for taken in rest:
            first = torch.maximum(first, taken)
        return channels_first(first.unflatten(0, x.shape[:2]))

    def sum_pool(self, node: s.SumPool2d, x: torch.Tensor) -> torch.Tensor:
        first, *rest = self._taps(node, x.to(self.type(node.name)), 0)
        for taken in rest:
            first = first + taken
        return channels_first(first.unflatten(0, x.shape[:2]))

    def _each(
        self, operation: Callable[..., torch.Tensor], node: s.Node, a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        """``operation`` on each element, in a type that holds the operands and the value; where an
        operand has the value's shape, the value lies in memory as it does.
        """
        a, b = aligned(a, b)
        shape = torch.broadcast_shapes(a.shape, b.shape)
        kind = torch.promote_types(torch.promote_types(a.dtype, b.dtype), self.type(node.name))
        a = a.to(kind)
        whole = next((x for x in (a, b) if x.shape == shape), None)
        if whole is None:
            return operation(a, b)
        return operation(a, b, out=torch.empty_like(whole, dtype=kind))

    def add(self, node: s.Add, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self._each(torch.add, node, a, b)

    def mul(self, node: s.Mul, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self._each(torch.mul, node, a, b)

    def matmul(self, node: s.MatMul, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        form, total = self.plan.matmul_form(node)
        return matmul(*aligned(a, b), form, total)

    def offset(self, node: s.Offset, x: torch.Tensor) -> torch.Tensor:
        return x + self.tensor(node.offset)

    def sum(self, node: s.Sum, x: torch.Tensor) -> torch.Tensor:
        if not node.axes:
            return x
        axes = [a + 2 for a in node.axes]
        return x.sum(axes, keepdim=node.keepdims, dtype=self.type(node.name))

    def delay(self, node: s.Delay, x: torch.Tensor) -> torch.Tensor:
        value = x.new_zeros((self.steps, *x.shape[1:]))
        value[1:] = x[:-1] if len(x) == self.steps else x
        return value

    def time_sum(self, node: s.TimeSum, x: torch.Tensor) -> torch.Tensor:
        kind = self.type(node.name)
        if len(x) == 1:
            return x.to(torch.promote_types(kind, x.dtype)) * self.steps
        return x.sum(0, keepdim=True, dtype=torch.int64)

    def rate_softmax(self, node: s.RateSoftmax, x: torch.Tensor) -> torch.Tensor:
        x = x[0].to(torch.int64)
        above = (x - x.amax(-1, keepdim=True) + node.span).clamp(min=0) >> node.shift
        count = torch.zeros_like(above)
        for theta in self.plan.graph.tensors[node.thresholds]:
            count += above >= int(theta)
        total = count.sum(-1, keepdim=True)
        turns = [
            j % 2 * 8 + j // 2 % 2 * 4 + j // 4 % 2 * 2 + j // 8 % 2 for j in range(x.shape[-1])
        ]
        start = ((2 * torch.tensor(turns, device=x.device) + 1) * total) >> 5
        fired = torch.stack([(t * count + start) // total for t in range(self.steps + 1)])
        return fired.diff(dim=0)


def aligned(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature axes of size 1 put behind (T, samples), so that shapes broadcast as the features do."""
    rank = max(a.ndim, b.ndim)
    places = [(slice(None), slice(None), *[None] * (rank - x.ndim)) for x in (a, b)]
    return a[places[0]], b[places[1]]


RULES: KindTable[Callable[..., torch.Tensor]] = KindTable("GPU integers", (), "what its value is")
"""(rules, node, *inputs) -> value. Input and what feeds back are the runner's, the mean over time and
the output the host's."""
RULES.add(Rules.conv, s.Conv2d)
RULES.add(Rules.linear, s.Linear)
RULES.add(Rules.lif, s.IntegerLIF)
RULES.add(Rules.soft_lif, s.SoftIntegerLIF)
RULES.add(Rules.integrator, s.IntegerIntegrator)
RULES.add(Rules.max_pool, s.MaxPool2d)
RULES.add(Rules.sum_pool, s.SumPool2d)
RULES.add(Rules.add, s.Add)
RULES.add(Rules.mul, s.Mul)
RULES.add(Rules.matmul, s.MatMul)
RULES.add(Rules.offset, s.Offset)
RULES.add(lambda rules, node, x: x >> node.bits, s.Shift)
RULES.add(Rules.sum, s.Sum)
RULES.add(lambda rules, node, x: (x >= 1).to(torch.int8), s.Or)
RULES.add(lambda rules, node, x: rearranged(node, x), s.Rearrange)
RULES.add(Rules.time_sum, s.TimeSum)
RULES.add(Rules.delay, s.Delay)
RULES.add(Rules.rate_softmax, s.RateSoftmax)


def rearranged(node: s.Rearrange, x: torch.Tensor) -> torch.Tensor:
    """A view of ``x`` where its memory allows one, else a copy."""
    lead = x.shape[:2]
    placed = _place(node, x)
    if placed is None:
        x = x.contiguous()
        placed = list(node.strides), node.offset
    strides, offset = placed
    sizes = (*lead, *node.sizes)
    view = x.as_strided(sizes, (*x.stride()[:2], *strides), x.storage_offset() + offset)
    return view.reshape(*lead, *node.shape)


def _place(node: s.Rearrange, x: torch.Tensor) -> tuple[list[int], int] | None:
    """Strides and offset of ``node`` in the memory of ``x``, where its digits can be told apart there;
    None where a copy is needed."""
    shape, memory = x.shape[2:], x.stride()[2:]
    # axes that lie behind one another in memory as they do row-major are one: (size, row-major
    # stride, stride in memory), innermost first
    axes: list[list[int]] = []
    inner = 1
    for n, m in zip(reversed(shape), reversed(memory)):
        if n == 1:
            continue
        if axes and m == axes[-1][2] * axes[-1][0]:
            axes[-1][0] *= n
        else:
            axes.append([n, inner, m])
        inner *= n
    reached, strides = [0] * len(axes), []
    for size, stride in zip(node.sizes, node.strides):
        if size == 1:
            strides.append(0)
            continue
        k = max((i for i, a in enumerate(axes) if a[1] <= stride), default=None)
        if k is None or stride % axes[k][1]:
            return None
        step = stride // axes[k][1]
        reached[k] += (size - 1) * step
        strides.append(step * axes[k][2])
    offset = 0
    for i, (n, row, m) in enumerate(axes):
        digit = node.offset // row % n
        offset += digit * m
        if reached[i] + digit >= n:
            return None
    return strides, offset
