"""A random program as a SpikingJelly module."""

from __future__ import annotations

import math

import torch
from programs import Layer, Program
from spikingjelly.activation_based import neuron
from torch import nn

__all__ = ["Network"]


class Network(nn.Module):
    """The layers of a program, over (T B, ...); neurons over (T, B, ...)."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.parts = nn.ModuleDict({k.name: _part(k) for k in program.layers})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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
        return values[self.program.layers[-1].name].unflatten(0, (T, -1)).mean(0)


def _part(layer: Layer) -> nn.Module:
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
