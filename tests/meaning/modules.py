"""A random program as a SpikingJelly module: neurons of the library, and written by hand what it has
none for.
"""

from __future__ import annotations

import math

import torch
from programs import Layer, Program
from spikingjelly.activation_based import neuron
from torch import nn

Outputs = torch.Tensor | tuple[torch.Tensor, ...]

__all__ = ["Network"]


class Network(nn.Module):
    """The layers of a program, over (T B, ...); neurons over (T, B, ...)."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        loops = any(k.back is not None or k.op == "fire" and k.levels > 1 for k in program.layers)
        self.parts = nn.ModuleDict({k.name: _part(k, loops) for k in program.layers})

    def forward(self, x: torch.Tensor) -> Outputs:
        T = self.program.T
        values = {"x": x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)}
        for layer in self.program.layers:
            inputs, part = [values[i] for i in layer.inputs], self.parts[layer.name]
            if layer.op == "fire":
                y = part(inputs[0].unflatten(0, (T, -1))).flatten(0, 1)
            elif layer.op in ("add", "mul"):
                y = inputs[0] + inputs[1] if layer.op == "add" else inputs[0] * inputs[1]
            else:
                y = part(inputs[0])
            values[layer.name] = y
        heads = tuple(values[k.name].unflatten(0, (T, -1)).mean(0) for k in self.program.heads)
        return heads if len(heads) > 1 else heads[0]


class Rounding(nn.Module):
    """A number of spikes without a memory."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.unit, self.low, self.high = layer.threshold, layer.low, layer.levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(torch.clamp(x / self.unit, self.low, self.high))


class Loop(nn.Module):
    """A neuron by its equations, once a step: several spikes, or spikes that feed back."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer, self.back = layer, None
        if layer.back is not None:
            self.back = nn.Conv2d(len(layer.back), len(layer.back), 1, bias=False)
            self.back.weight.data = torch.as_tensor(layer.back[:, :, None, None]).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k, sent = self.layer, []
        v = s = torch.zeros_like(x[0])
        for t in range(len(x)):
            drive = x[t]
            if self.back is not None and t:
                drive = drive + self.back(s)
            h = v + drive if math.isinf(k.tau) else v + (drive - v) / k.tau
            if k.levels == 1:
                s = (h >= k.threshold).to(x)
            else:
                s = torch.clamp(torch.floor(h / k.threshold), 0, k.levels)
            v = h - k.threshold * s if k.soft else h * (1 - s)
            sent.append(s)
        return torch.stack(sent)


def _part(layer: Layer, loops: bool) -> nn.Module:
    """``loops``: neurons that the library has are written by hand as well, as in one's own code."""
    if layer.op == "round":
        return Rounding(layer)
    if layer.op == "fire" and loops:
        return Loop(layer)
    if layer.op == "conv":
        assert layer.weight is not None
        out, group_in, kernel, _ = layer.weight.shape
        made = nn.Conv2d(
            group_in * layer.groups,
            out,
            kernel,
            layer.stride,
            layer.padding,
            groups=layer.groups,
            bias=layer.bias is not None,
        )
        return _with(made, layer)
    if layer.op == "head":
        assert layer.weight is not None
        out, width = layer.weight.shape
        return nn.Sequential(nn.Flatten(), _with(nn.Linear(width, out, bias=False), layer))
    if layer.op == "fire":
        reset = None if layer.soft else 0.0
        fields = {"v_threshold": layer.threshold, "v_reset": reset, "step_mode": "m"}
        if math.isinf(layer.tau):
            return neuron.IFNode(**fields)
        return neuron.LIFNode(tau=layer.tau, **fields)
    pools = {"max": nn.MaxPool2d(layer.window), "mean": nn.AvgPool2d(layer.window)}
    return pools.get(layer.op, nn.Identity())


def _with(made: nn.Conv2d | nn.Linear, layer: Layer) -> nn.Conv2d | nn.Linear:
    with torch.no_grad():
        made.weight.copy_(torch.as_tensor(layer.weight))
        if made.bias is not None:
            made.bias.copy_(torch.as_tensor(layer.bias))
    return made
