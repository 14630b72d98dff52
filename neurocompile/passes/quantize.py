"""From floating point to the chip's integers. After this pass every backend computes the same
numbers.

Weights: one scale a layer, ``W ~ s q`` with ``q`` of ``weight_bits`` bits, stored as ``w = 2^(9 -
bits) q`` because signed weights lose their low bits on Loihi 2. The scale minimizes the expected
error of the layer's input, from the rates of its channels, and is then moved by at most half a
threshold unit so that ``h >= v_threshold`` of the float model is exactly ``v > 64 vth`` of the
integer one. The mean of what rounding leaves goes into the bias.

A LIF with soft reset keeps its membrane in integers of 2^-6 input units and loses ``(1 - 1/tau)
v_threshold`` in the step after a spike. Here the scale is moved so that the threshold is an integer
of input units, and so is what is lost, as near as a threshold within 1 % of the best one allows;
``h = v_threshold`` of the float model then is exactly the threshold.

A LIF that reads integers without weights (attention) keeps its float meaning exactly, see
``quantization/thresholds.py``.

A mean over time inside of a model is counted: a sum over the T steps in units of 1/T. A softmax
becomes spikes whose rates it is, and its product with values that are constant over the steps is
counted again; what follows sees no spikes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np

from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref
from neurocompile.passes.base import SpikingPass
from neurocompile.passes.quantization.neurons import integer_integrator, integer_lif
from neurocompile.passes.quantization.products import (
    check_softmax,
    counted_product,
    product,
    rate_softmax,
)
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import (
    LARGEST_CURRENT,
    LARGEST_PAYLOAD,
    LEAST_LEVELS,
)
from neurocompile.passes.quantization.weights import lif_unit, weighted

__all__ = ["Quantize"]

_INPUT_LEVELS = 255


@dataclass(frozen=True)
class Quantize(SpikingPass):
    """Requires stage canonical. Ensures stage quantized.

    Raises NC2001 (no integer form) and NC2002 (a range is exceeded), NC2003 (weight bits).
    """

    name: ClassVar[str] = "quantize"

    steps: int
    calibration: Calibration
    weight_bits: int = 8
    most_weights: int | None = None
    """Of a layer, looked at when its scale is chosen; None for all. Estimates take fewer."""

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        if not 2 <= self.weight_bits <= 8:
            raise NeurocompileError(
                "NC2003", f"--weight-bits {self.weight_bits} is not within 2..8"
            )
        state = Quantization(graph, self)
        for node in graph.nodes:
            check_softmax(state, node)
            new, unit = _quantized(state, node)
            state.unit[node.name] = unit
            if node.inputs and not isinstance(node, (s.Conv2d, s.Linear)):
                _carry_shift(state, node)
            state.rewriter.emit(new)
            state.track_bound(new)
        return state.rewriter.finish(stage="quantized")


def _quantized(state: Quantization, node: s.Node) -> tuple[s.Node, float]:
    units = [state.unit[i] for i in node.inputs]
    if isinstance(node, s.Input):
        return _input(state, node)
    if isinstance(node, (s.Conv2d, s.Linear)):
        return weighted(state, node, units[0])
    if isinstance(node, s.LIF):
        node = replace(node, x=_lif_input(state, node, units[0]))
        return integer_lif(state, node, state.unit[node.x]), 1.0
    if isinstance(node, s.Or):
        return node, 1.0
    if isinstance(node, s.Integrator):
        made = integer_integrator(state, node)
        return made, state.unit[made.x]
    if isinstance(node, s.Softmax):
        return rate_softmax(state, node, units[0])
    if isinstance(node, s.MatMul) and isinstance(state.graph.node[node.a], s.Softmax):
        return counted_product(state, node)
    if isinstance(node, (s.Mul, s.MatMul)):
        return product(state, node)
    if isinstance(node, s.TimeMean) and not all(
        isinstance(user, s.Output) for user in state.graph.users[node.name]
    ):
        x = state.coarser(node.x, state.held(node.x) // state.options.steps)
        return s.TimeSum(name=node.name, x=x, steps=state.options.steps), state.unit[
            x
        ] / state.options.steps
    if isinstance(node, (s.Sum, s.SumPool2d)) and state.integer[node.x] is None:
        terms = (
            prod(state.size[node.x][i] for i in node.axes)
            if isinstance(node, s.Sum)
            else prod(node.kernel)
        )
        x = state.coarser(node.x, LARGEST_PAYLOAD // terms)
        return replace(node, x=x), state.unit[x]
    if isinstance(node, s.Offset):
        lost = state.shift.get(node.x, 0.0)
        values = np.rint((state.graph.tensors[node.offset] + lost) / units[0]).astype(np.int64)
        return replace(node, offset=state.rewriter.tensor(f"{node.offset}.int", values)), units[0]
    if isinstance(node, s.Add):
        if abs(units[0] - units[1]) > 1e-12 * max(units):
            raise NeurocompileError(
                "NC2001",
                f"layer '{node.name}' adds values of different units ({units[0]:.4g}, {units[1]:.4g}); "
                "sums of spikes, and of outputs of linear layers, are supported",
            )
        return node, units[0]
    if isinstance(node, s.Output):
        unit = units[0] * node.unit
        bias = None
        if node.bias is not None:
            rounded = np.rint(state.graph.tensors[node.bias] / units[0]).astype(np.int64)
            bias = state.rewriter.tensor(f"{node.name}.bias.int", rounded)
        return replace(node, unit=unit, bias=bias), unit
    return node, units[0]


def _lif_input(state: Quantization, lif: s.LIF, unit: float) -> Ref:
    """What ``lif`` reads, in a coarser unit where its fields do not hold a residual's fine one."""
    if state.integer[lif.x] is not None:
        return lif.x
    limit, least = state.input_limit(lif), lif_unit(state, lif, 0.0)
    return state.coarser(
        lif.x, min(limit, int(state.bound[lif.x].magnitude * min(unit / least, 1.0)))
    )


def _input(state: Quantization, node: s.Input) -> tuple[s.Node, float]:
    found = state.options.calibration.input
    largest = max(abs(found.min), abs(found.max), 1e-12)
    levels = min(
        _INPUT_LEVELS,
        max(_input_levels(state, node, found.min / largest, found.max / largest), LEAST_LEVELS),
    )
    unit = largest / levels
    if found.grid and largest / found.grid <= levels + 1e-6:
        unit = found.grid  # the inputs are exact
    low, high = (int(np.rint(v / unit)) for v in (found.min, found.max))
    return replace(node, unit=unit, low=low, high=high), unit


def _input_levels(state: Quantization, node: s.Input, low: float, high: float) -> int:
    """Levels of the input that leave its layers' weights all their bits: sums must stay below 2^17.

    Weights and inputs share these 17 bits, and a weight's rounding repeats in every sample.
    """
    step, levels = 1 << (9 - state.options.weight_bits), (1 << (state.options.weight_bits - 1)) - 1
    fit = [_INPUT_LEVELS]
    for layer in state.graph.users[node.name]:
        if isinstance(layer, (s.Conv2d, s.Linear)):
            weight = np.asarray(state.graph.tensors[layer.weight], np.float64)
            flat = weight.reshape(len(weight), -1) / max(float(np.abs(weight).max()), 1e-300)
            positive, negative = np.maximum(flat, 0).sum(axis=1), -np.minimum(flat, 0).sum(axis=1)
            up, down = max(high, 0.0), max(-low, 0.0)
            reach = max(
                float((positive * up + negative * down).max()),
                float((positive * down + negative * up).max()),
            )
            fit.append(int(LARGEST_CURRENT / (step * levels * max(reach, 1e-12))))
    return min(fit)


def _carry_shift(state: Quantization, node: s.Node) -> None:
    found = [state.shift[i] for i in node.inputs if i in state.shift]
    if isinstance(node, s.Add) and found:
        state.shift[node.name] = sum(found, np.zeros(()))
    elif isinstance(node, s.TimeMean) and found:
        state.shift[node.name] = found[0]
    elif isinstance(node, s.MaxPool2d) and found:
        channels = found[0].shape[1:] in ((), (1, 1))
        state.shift[node.name] = found[0] if channels else found[0].mean(axis=(1, 2), keepdims=True)
    elif isinstance(node, s.Rearrange) and found:
        state.shift[node.name] = node.apply(np.broadcast_to(found[0], state.size[node.x]))
