"""A float graph on a device, for statistics: float32 as :mod:`neurocompile.ir.evaluate`, TF32 off.

Sums of real values depend on their order, so a membrane within rounding of its threshold may decide
otherwise than on the CPU: rates agree to a few spikes in a million, not bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from neurocompile.gpu.by_definition import DEFINED, by_definition
from neurocompile.gpu.devices import torch_devices
from neurocompile.gpu.nodes import aligned, rearranged
from neurocompile.gpu.products import exact_arithmetic
from neurocompile.ir import spiking as s
from neurocompile.ir.text import TensorRef

__all__ = ["FloatEvaluator"]

_BATCH = 64


class FloatEvaluator:
    """An imported or canonical graph on the first device of a name.

    Args:
        graph: a float graph without spikes that feed back.
        steps: T.
        device: cuda, cuda:N or torch-cpu. NC4001 without torch, NC4007 without the GPU.
    """

    def __init__(self, graph: s.SpikingGraph, steps: int, device: str) -> None:
        self.graph, self.steps = graph, steps
        self.device = torch_devices(device)[0]
        self._tensors = {
            k: torch.from_numpy(np.array(v, np.float32)).to(self.device)
            for k, v in graph.tensors.items()
        }
        self.rules: dict[type[s.Node], Callable[..., torch.Tensor]] = {
            s.Conv2d: self.conv,
            s.Linear: lambda n, x: F.linear(x, self.of(n.weight), self.of(n.bias)),
            s.BatchNorm: self.batch_norm,
            s.LIF: self.lif,
            s.Integrator: self.integrator,
            s.MaxPool2d: self.max_pool,
            s.SumPool2d: self.sum_pool,
            s.Or: lambda n, x: (x >= 1).to(x.dtype),
            s.Add: lambda n, a, b: torch.add(*aligned(a, b)),
            s.Mul: lambda n, a, b: torch.mul(*aligned(a, b)),
            s.MatMul: lambda n, a, b: torch.matmul(*aligned(a, b)),
            s.Scale: lambda n, x: x * n.factor,
            s.Offset: lambda n, x: x + self.of(n.offset),
            s.Sum: lambda n, x: x.sum([a + 2 for a in n.axes], keepdim=n.keepdims),
            s.Rearrange: rearranged,
            s.TimeMean: lambda n, x: x.mean(0, keepdim=True),
            s.Softmax: lambda n, x: (n.gain * x[:1]).softmax(-1),
            **dict.fromkeys(DEFINED, lambda n, *x: by_definition(n, x, self._tensors, steps)),
        }

    @torch.no_grad()
    def spikes(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Layer -> spikes for each index of its first axis, float64, the sum over all samples and
        steps; () for a layer of one neuron.

        Args:
            x: float32 (samples, *the input's sample_shape).
        """
        totals: dict[str, torch.Tensor] = {}
        layers = {n.name for n in self.graph.spiking_layers}
        cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with exact_arithmetic(), cudnn:
            for start in range(0, len(x), _BATCH):
                for name, value in self._batch(x[start : start + _BATCH], layers):
                    axes = [i for i in range(value.ndim) if i != 2]
                    total = value.sum(axes, dtype=torch.float64)
                    total = total * (self.steps // len(value))
                    totals[name] = totals[name] + total if name in totals else total
        return {name: total.cpu().numpy() for name, total in totals.items()}

    def _batch(self, x: np.ndarray, layers: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
        values: dict[str, torch.Tensor] = {}
        last = {i: n.name for n in self.graph.nodes for i in n.inputs}
        for node in self.graph.nodes:
            if isinstance(node, s.Input):
                value = torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(self.device)
                value = value.transpose(0, 1) if node.steps else value[None]
            elif isinstance(node, s.Output):
                break
            else:
                value = self.rules[type(node)](node, *(values[i] for i in node.inputs))
            values[node.name] = value
            if node.name in layers:
                yield node.name, value
            for i in set(node.inputs):
                if last[i] == node.name:
                    del values[i]

    def of(self, name: str | None) -> torch.Tensor | None:
        """A tensor of the graph."""
        return None if name is None else self._tensors[name]

    def number(self, value: float | TensorRef) -> Any:
        """A number, or its tensor."""
        return self._tensors[value] if isinstance(value, TensorRef) else value

    def conv(self, node: s.Conv2d, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.of(node.weight), self.of(node.bias)
        window = (node.stride, node.padding, node.dilation, node.groups)
        return F.conv2d(x.flatten(0, 1), weight, bias, *window).unflatten(0, x.shape[:2])

    def batch_norm(self, node: s.BatchNorm, x: torch.Tensor) -> torch.Tensor:
        shape = [1] * x.ndim
        shape[node.axis + 2] = -1
        scale, shift, mean, var = (self._tensors[t].view(shape) for t in node.tensors)
        return (x - mean) / (var + node.eps).sqrt() * scale + shift

    def lif(self, node: s.LIF, x: torch.Tensor) -> torch.Tensor:
        tau, rest = self.number(node.tau), 0.0 if node.soft_reset else node.v_reset
        v, last, out = torch.full_like(x[0], rest), 0.0, []
        for t in range(self.steps):
            current = node.gain * x[min(t, len(x) - 1)]
            current = current if node.bias is None else current + self._tensors[node.bias]
            last = node.current * last + current
            h = v + (last - (v - rest)) / tau if node.decay_input else v - (v - rest) / tau + last
            fired = (h >= node.v_threshold).to(x.dtype)
            for higher in node.more:
                fired = fired + (h >= higher)
            out.append(fired)
            v = h - node.taken * fired if node.soft_reset else torch.where(fired > 0, rest, h)
        return torch.stack(out)

    def integrator(self, node: s.Integrator, x: torch.Tensor) -> torch.Tensor:
        y, out = torch.zeros_like(x[0]), []
        for t in range(self.steps):
            y = y * node.decay + x[min(t, len(x) - 1)]
            out.append(y)
        return torch.stack(out)

    def _bordered(
        self, node: s.MaxPool2d | s.SumPool2d, x: torch.Tensor, value: float
    ) -> torch.Tensor:
        (ph, pw), (mh, mw) = node.padding, node.more
        return F.pad(x.flatten(0, 1), (pw, pw + mw, ph, ph + mh), value=value)

    def max_pool(self, node: s.MaxPool2d, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(self._bordered(node, x, float("-inf")), node.kernel, node.stride)
        return y.unflatten(0, x.shape[:2])

    def sum_pool(self, node: s.SumPool2d, x: torch.Tensor) -> torch.Tensor:
        padded = self._bordered(node, x, 0.0)
        y = F.avg_pool2d(padded, node.kernel, node.stride, divisor_override=1)
        return y.unflatten(0, x.shape[:2])
