"""The float model in torch with SpikingJelly's neurons, on the CPU or a GPU, for any number of
steps.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.errors import not_importable
from neurocompile.gpu.devices import torch_devices
from neurocompile.ir import spiking as s
from neurocompile.ir.text import TensorRef
from neurocompile.reference.base import ReferenceRun

if TYPE_CHECKING:
    import torch

__all__ = ["run_spikingjelly"]

_BATCH = 64


def run_spikingjelly(
    graph: s.SpikingGraph, x: np.ndarray, steps: int, device: str = "cpu", stepwise: bool = False
) -> ReferenceRun:
    """Run an ``imported`` graph layer by layer.

    Args:
        graph: stage imported.
        x: float32 (samples, *the input's sample_shape).
        steps: T.
        device: cpu, cuda or cuda:N; NC4007 if there is no GPU. NC4001 without the extra ``torch``.
        stepwise: logits of every step, (samples, steps, ...), not their mean.
    """
    try:
        import spikingjelly.activation_based.neuron  # noqa: F401
        import torch
    except ImportError as error:
        raise not_importable("the SpikingJelly reference", error, "torch") from error
    torch_devices(device)
    logits: list[np.ndarray] = []
    layers: dict[str, list[np.ndarray]] = {n.name: [] for n in graph.spiking_layers}
    runner = _Runner(graph, steps, device, stepwise)
    # cuDNN rounds float32 convolutions to TF32 unless told otherwise: that alone flips thousands of
    # spikes
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact:
        for start in range(0, len(x), _BATCH):
            values = runner(torch.from_numpy(x[start : start + _BATCH]).to(device))
            logits.append(values[graph.output.name].cpu().numpy())
            for name, parts in layers.items():
                parts.append(values[name].transpose(0, 1).to(torch.uint8).cpu().numpy())
    where = torch.cuda.get_device_name(device) if device != "cpu" else "the CPU"
    what = f"SpikingJelly {version('spikingjelly')}, torch {torch.__version__} on {where}, float32"
    return ReferenceRun(
        what, np.concatenate(logits), {k: np.concatenate(v) for k, v in layers.items()}
    )


class _Runner:
    """Executes nodes on (T, B, ...) tensors."""

    def __init__(
        self, graph: s.SpikingGraph, steps: int, device: str, stepwise: bool = False
    ) -> None:
        import torch

        from neurocompile.gpu.by_definition import DEFINED, by_definition

        self.graph, self.steps, self.stepwise = graph, steps, stepwise
        self.tensors = {
            k: torch.from_numpy(np.array(v, np.float32)).to(device)
            for k, v in graph.tensors.items()
        }
        self.rules: dict[type[s.Node], Callable[..., Any]] = {
            s.Conv2d: self.conv,
            s.Linear: self.linear,
            s.BatchNorm: self.batch_norm,
            s.LIF: self.lif,
            s.Integrator: self.integrator,
            s.Delay: self.delay,
            s.MaxPool2d: self.max_pool,
            s.Add: lambda n, a, b: a + b,
            s.Mul: lambda n, a, b: a * b,
            s.MatMul: lambda n, a, b: a @ b,
            s.Scale: lambda n, x: x * n.factor,
            s.Offset: lambda n, x: x + self.tensors[n.offset],
            s.SumPool2d: self.sum_pool,
            s.Sum: lambda n, x: x.sum([a + 2 for a in n.axes], keepdim=n.keepdims),
            s.Rearrange: self.rearrange,
            s.TimeMean: lambda n, x: x.mean(0, keepdim=True),
            s.Softmax: lambda n, x: (n.gain * x).softmax(-1),
            s.Output: self.output,
            **dict.fromkeys(DEFINED, lambda n, *x: by_definition(n, x, self.tensors, steps)),
        }

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Spiking layers' outputs (T, B, ...) and the logits (B, classes)."""
        source = self.graph.input
        source.check_steps(self.steps)
        values = {
            source.name: x.transpose(0, 1)
            if source.steps
            else x.unsqueeze(0).expand(self.steps, *x.shape)
        }
        last = {i: n.name for n in self.graph.nodes for i in n.inputs}
        kept = {n.name for n in self.graph.spiking_layers} | {self.graph.output.name}
        ends = dict(self.graph.loops)
        for place, node in enumerate(self.graph.nodes):
            if place in ends:
                self.settle(self.graph.nodes[place : ends[place] + 1], values, x)
            elif node.name not in values:
                values[node.name] = self.rules[type(node)](node, *(values[i] for i in node.inputs))
            for i in set(node.inputs):
                if last[i] == node.name and i not in kept:
                    del values[i]
        return {name: values[name] for name in kept}

    def settle(
        self, nodes: tuple[s.Node, ...], values: dict[str, torch.Tensor], x: torch.Tensor
    ) -> None:
        """A loop, once a round with the spikes of the round before fed back, until none changes:
        each round makes one step more right.
        """
        import torch

        fed = [n for n in nodes if isinstance(n, s.Previous)]
        for node in fed:
            values[node.name] = x.new_zeros((self.steps, len(x), *node.shape))
        for _ in range(self.steps + 1):
            for each in nodes:
                if not isinstance(each, s.Previous):
                    read = (values[i] for i in each.inputs)
                    values[each.name] = self.rules[type(each)](each, *read)
            later = [torch.zeros_like(values[n.name]) for n in fed]
            for value, node in zip(later, fed):
                value[1:] = values[node.of][:-1]
            if all(torch.equal(value, values[n.name]) for value, n in zip(later, fed)):
                return
            values.update((n.name, value) for value, n in zip(later, fed))

    def optional(self, name: str | None) -> torch.Tensor | None:
        return None if name is None else self.tensors[name]

    def conv(self, node: s.Conv2d, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import conv2d

        y = conv2d(
            x.flatten(0, 1),
            self.tensors[node.weight],
            self.optional(node.bias),
            node.stride,
            node.padding,
            node.dilation,
            node.groups,
        )
        return y.unflatten(0, x.shape[:2])

    def linear(self, node: s.Linear, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import linear

        return linear(x, self.tensors[node.weight], self.optional(node.bias))

    def batch_norm(self, node: s.BatchNorm, x: torch.Tensor) -> torch.Tensor:
        shape = [1] * x.ndim
        shape[node.axis + 2] = -1
        scale, shift, mean, var = (self.tensors[t].view(shape) for t in node.tensors)
        return (x - mean) / (var + node.eps).sqrt() * scale + shift

    def lif(self, node: s.LIF, x: torch.Tensor) -> torch.Tensor:
        from spikingjelly.activation_based import neuron

        reset = None if node.soft_reset else node.v_reset
        plain = not (node.subtract is not None or node.more or node.current or node.memoryless)
        if isinstance(node.tau, TensorRef) or not plain:
            return self.general_lif(node, x)
        if np.isinf(node.tau):
            cell = neuron.IFNode(v_threshold=node.v_threshold, v_reset=reset, step_mode="m")
        else:
            cell = neuron.LIFNode(
                tau=node.tau,
                decay_input=node.decay_input,
                v_threshold=node.v_threshold,
                v_reset=reset,
                step_mode="m",
            )
        return cell.eval().to(x.device)(x.expand(self.steps, *x.shape[1:]).contiguous())

    def general_lif(self, node: s.LIF, x: torch.Tensor) -> torch.Tensor:
        """What no neuron of SpikingJelly has, such as a tau for each channel: the equations of
        :class:`neurocompile.ir.spiking.LIF`.
        """
        import torch

        tau = self.tensors[node.tau] if isinstance(node.tau, TensorRef) else node.tau
        rest = 0.0 if node.soft_reset else node.v_reset
        v, last, spikes = torch.full_like(x[0], rest), torch.zeros_like(x[0]), []
        for current in x.expand(self.steps, *x.shape[1:]):
            last = node.current * last + current
            h = v + (last - (v - rest)) / tau if node.decay_input else v - (v - rest) / tau + last
            reached = [(h >= theta).to(x.dtype) for theta in (node.v_threshold, *node.more)]
            spikes.append(torch.stack(reached).sum(0))
            v = (
                h - node.taken * spikes[-1]
                if node.soft_reset
                else torch.where(spikes[-1] > 0, rest, h)
            )
        return torch.stack(spikes)

    def integrator(self, node: s.Integrator, x: torch.Tensor) -> torch.Tensor:
        import torch

        y, values = torch.zeros_like(x[0]), []
        for current in x.expand(self.steps, *x.shape[1:]):
            y = node.decay * y + current
            values.append(y)
        return torch.stack(values)

    def delay(self, node: s.Delay, x: torch.Tensor) -> torch.Tensor:
        import torch

        x = x.expand(self.steps, *x.shape[1:])
        return torch.cat([torch.zeros_like(x[:1]), x[:-1]])

    def max_pool(self, node: s.MaxPool2d, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import max_pool2d

        padded = _bordered(node, x.flatten(0, 1), float("-inf"))
        return max_pool2d(padded, node.kernel, node.stride).unflatten(0, x.shape[:2])

    def sum_pool(self, node: s.SumPool2d, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import avg_pool2d

        padded = _bordered(node, x.flatten(0, 1), 0.0)
        y = avg_pool2d(padded, node.kernel, node.stride, divisor_override=1)
        return y.unflatten(0, x.shape[:2])

    def output(self, node: s.Output, x: torch.Tensor) -> torch.Tensor:
        if self.stepwise:
            every = x.expand(self.steps, *x.shape[1:]).transpose(0, 1)
            return every if node.shape is None else every.reshape(*every.shape[:2], *node.shape)
        logits = x.mean(0) if node.per_step else x[0]
        return logits if node.shape is None else logits.reshape(len(logits), *node.shape)

    def rearrange(self, node: s.Rearrange, x: torch.Tensor) -> torch.Tensor:
        digits = x.reshape(*x.shape[:2], -1).contiguous()
        lead = (digits.stride(0), digits.stride(1))
        return digits.as_strided(
            (*x.shape[:2], *node.sizes), (*lead, *node.strides), node.offset
        ).reshape(*x.shape[:2], *node.shape)


def _bordered(node: s.MaxPool2d | s.SumPool2d, x: torch.Tensor, value: float) -> torch.Tensor:
    """``x`` with the border of a pool, which may differ at its two ends."""
    from torch.nn.functional import pad

    ends = [(p, p + more) for p, more in zip(node.padding, node.more)]
    return pad(x, (*ends[1], *ends[0]), value=value)
