"""From floating point to the chip's integers. After this pass every backend computes the same
numbers.

Weights: one scale a layer, or one a group of channels, ``W ~ s q`` with ``q`` of ``weight_bits``
bits, stored as ``w = 2^(9 - bits) q`` because signed weights lose their low bits on Loihi 2. The
scale minimizes the expected error of the layer's input, from the rates of its channels, unless a
field needs a coarser one, and is then moved by at most half a threshold unit so that ``h >=
v_threshold`` of the float model is exactly ``v > 64 vth`` of the integer one; weights that lie on a
grid keep it. The mean of what rounding leaves goes into the bias.

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from neurocompile.calibration import Calibration
from neurocompile.circuits.normalize import largest_sum_of
from neurocompile.errors import NeurocompileError, argument
from neurocompile.ir import spiking as s
from neurocompile.ir.spiking_rules import ALIKE_SUMS, IS_CANONICAL, IS_QUANTIZED
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import Ref
from neurocompile.passes.base import SpikingPass
from neurocompile.passes.quantization.layer import Layer, readers
from neurocompile.passes.quantization.neurons import integer_integrator, integer_lif
from neurocompile.passes.quantization.precision import Precision
from neurocompile.passes.quantization.products import (
    check_softmax,
    counted_product,
    product,
    rate_softmax,
)
from neurocompile.passes.quantization.real import (
    integer_function,
    normalization,
    quotient,
    real_product,
    step_softmax,
)
from neurocompile.passes.quantization.residuals import lif_unit, unit_of_pixels
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import LEAST_LEVELS
from neurocompile.passes.quantization.token_mean import token_mean
from neurocompile.passes.quantization.weights import weighted
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["Quantize"]

_INPUT_LEVELS = 255
"""Of a graded value that a recurrent connection carries: silence takes an inhibition as large."""
_GRID_WORTH = 1.18
"""How many times more levels than all weight bits leave room for a grid may have: 2^(1/4)."""


@dataclass(frozen=True)
class Quantize(SpikingPass):
    """Requires stage canonical. Ensures stage quantized.

    Raises NC2001 (no integer form) and NC2002 (a range is exceeded), NC2003 (weight bits).
    """

    name: ClassVar[str] = "quantize"
    requires = (IS_CANONICAL, ALIKE_SUMS)
    ensures = (IS_QUANTIZED,)

    steps: int
    calibration: Calibration
    weight_bits: int = 8
    most_weights: int | None = None
    """Of a layer, looked at when its scale is chosen; None for all. Estimates take fewer."""
    digits: int = 10
    """Bits of real values that are multiplied by their digits, 4..12."""
    most_grids: int = 8
    """That channels of a layer may keep as their own, each a population; of more all are rounded."""
    fields: ChipFields = LOIHI2
    """Of the chip that the integers are for."""
    covariances: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    """Of layers' inputs, (groups, n, n) each: their weights are rounded together. Others are
    rounded to the nearest."""
    precision: Precision = field(default_factory=Precision, compare=False)
    """Takes what could not be kept."""

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        if not 2 <= self.weight_bits <= 8:
            raise NeurocompileError(
                "NC2003", f"{argument('weight_bits', self.weight_bits)} is not within 2..8"
            )
        if not 4 <= self.digits <= 12:
            raise NeurocompileError(
                "NC2003", f"{argument('digits', self.digits)} is not within 4..12"
            )
        state = Quantization(graph, self)
        for node in state.graph.nodes:
            check_softmax(state, node)
            units = [state.unit[i] for i in node.inputs]
            new, state.unit[node.name] = QUANTIZED.of(node)(state, node, units)
            lost = SHIFTS.of(node)(state, node, [state.shift.get(i) for i in node.inputs])
            if lost is not None:
                state.shift[node.name] = lost
            state.rewriter.emit(new)
            state.track_bound(new)
        return state.rewriter.finish(stage="quantized")


Quantized = tuple[s.Node, Any]
"""The integer node, and the float value of its integer 1 (or that of each channel)."""
QUANTIZED: KindTable[Callable[[Quantization, Any, list[Any]], Quantized]] = KindTable(
    "quantize", ("canonical",), "its integer form"
)
"""(state, node, units of its inputs) -> the integer node and its unit."""


@QUANTIZED.rule(s.Function)
def _function(state: Quantization, node: s.Function, units: list[Any]) -> Quantized:
    return integer_function(state, node, units[0])


@QUANTIZED.rule(s.Normalization)
def _normalization(state: Quantization, node: s.Normalization, units: list[Any]) -> Quantized:
    return normalization(state, node, units[0])


@QUANTIZED.rule(s.StepSoftmax)
def _step_softmax(state: Quantization, node: s.StepSoftmax, units: list[Any]) -> Quantized:
    return step_softmax(state, node, units[0])


@QUANTIZED.rule(s.Quotient)
def _quotient(state: Quantization, node: s.Quotient, units: list[Any]) -> Quantized:
    return quotient(state, node)


@QUANTIZED.rule(s.TokenMean)
def _token_mean(state: Quantization, node: s.TokenMean, units: list[Any]) -> Quantized:
    return token_mean(state, node)


@QUANTIZED.rule(s.Delay)
def _delay(state: Quantization, node: s.Delay, units: list[Any]) -> Quantized:
    x = state.coarser(node.x, state.fields.held)
    return replace(node, x=x), state.unit[x]


@QUANTIZED.rule(s.MaxPool2d)
def _same(state: Quantization, node: s.MaxPool2d, units: list[Any]) -> Quantized:
    return node, units[0]


@QUANTIZED.rule(s.Or, s.Previous)
def _or(state: Quantization, node: s.Or | s.Previous, units: list[Any]) -> Quantized:
    return node, 1.0


@QUANTIZED.rule(s.Rearrange)
def _rearrange(state: Quantization, node: s.Rearrange, units: list[Any]) -> Quantized:
    if isinstance(units[0], np.ndarray):
        return node, node.apply(np.broadcast_to(units[0], state.size[node.x]))
    return node, units[0]


@QUANTIZED.rule(s.Conv2d, s.Linear)
def _weighted(state: Quantization, node: s.Conv2d | s.Linear, units: list[Any]) -> Quantized:
    return weighted(state, node, units[0])


@QUANTIZED.rule(s.LIF)
def _lif(state: Quantization, node: s.LIF, units: list[Any]) -> Quantized:
    node = replace(node, x=_lif_input(state, node, units[0]))
    return integer_lif(state, node, state.unit[node.x]), 1.0


@QUANTIZED.rule(s.Integrator)
def _integrator(state: Quantization, node: s.Integrator, units: list[Any]) -> Quantized:
    made = integer_integrator(state, node)
    return made, state.unit[made.x]


@QUANTIZED.rule(s.Softmax)
def _softmax(state: Quantization, node: s.Softmax, units: list[Any]) -> Quantized:
    """Rates, whose resolution is that of counts; by digits where the counts of a row would not fit."""
    steps = state.options.steps
    if state.size[node.x][-1] * steps > largest_sum_of(state.fields, steps=steps):
        return step_softmax(state, node, units[0])
    return rate_softmax(state, node, units[0])


@QUANTIZED.rule(s.Mul, s.MatMul)
def _product(state: Quantization, node: s.Mul | s.MatMul, units: list[Any]) -> Quantized:
    softmax = state.graph.node[node.a]
    if (
        isinstance(node, s.MatMul)
        and isinstance(softmax, s.Softmax)
        and node.a not in state.row_sums
    ):
        return counted_product(state, node)
    if state.integer[node.a] is None and state.integer[node.b] is None:
        return real_product(state, node)
    return product(state, node)


@QUANTIZED.rule(s.TimeMean)
def _time_mean(state: Quantization, node: s.TimeMean, units: list[Any]) -> Quantized:
    """The host's, or a sum over time where a layer of the chip reads it."""
    if all(isinstance(user, s.Output) for user in state.graph.users[node.name]):
        return node, units[0]
    steps = state.options.steps
    x = state.coarser(node.x, state.held(node.x) // steps)
    return s.TimeSum(name=node.name, x=x, steps=steps), state.unit[x] / steps


@QUANTIZED.rule(s.Sum, s.SumPool2d)
def _sum(state: Quantization, node: s.Sum | s.SumPool2d, units: list[Any]) -> Quantized:
    if state.integer[node.x] is not None:
        return node, units[0]
    terms = (
        prod(state.size[node.x][i] for i in node.axes)
        if isinstance(node, s.Sum)
        else prod(node.kernel)
    )
    x = state.coarser(node.x, state.fields.payload // terms)
    return replace(node, x=x), state.unit[x]


@QUANTIZED.rule(s.Offset)
def _offset(state: Quantization, node: s.Offset, units: list[Any]) -> Quantized:
    lost, x = state.shift.get(node.x, 0.0), node.x
    added = np.asarray(state.graph.tensors[node.offset] + lost, np.float64)
    room = state.fields.payload - int(np.abs(added).max(initial=0) / units[0]) - 1
    if state.integer[x] is None and x in state.bound and room < state.bound[x].magnitude:
        x = state.coarser(x, state.fields.payload // 3)  # both would not fit in the finer unit
    unit = units[0] if x == node.x else state.unit[x]
    values = np.rint(added / unit).astype(np.int64)
    return replace(node, x=x, offset=state.rewriter.tensor(f"{node.offset}.int", values)), unit


@QUANTIZED.rule(s.Add)
def _add(state: Quantization, node: s.Add, units: list[Any]) -> Quantized:
    if abs(units[0] - units[1]) > 1e-12 * max(units):
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' adds values of different units ({units[0]:.4g}, {units[1]:.4g}); "
            "sums of spikes, and of outputs of linear layers, are supported",
            layer=node.name,
        )
    return node, units[0]


@QUANTIZED.rule(s.Output)
def _output(state: Quantization, node: s.Output, units: list[Any]) -> Quantized:
    unit = units[0] * node.unit
    bias = None
    if node.bias is not None:
        rounded = np.rint(state.graph.tensors[node.bias] / units[0]).astype(np.int64)
        bias = state.rewriter.tensor(f"{node.name}.bias.int", rounded)
    return replace(node, unit=unit, bias=bias), unit


def _lif_input(state: Quantization, lif: s.LIF, unit: float) -> Ref:
    """What ``lif`` reads, in a coarser unit where its fields do not hold a residual's fine one."""
    if state.integer[lif.x] is not None or state.fits(lif):
        return lif.x
    limit, least = state.input_limit(lif), lif_unit(state, lif, 0.0)
    return state.coarser(
        lif.x, min(limit, int(state.bound[lif.x].magnitude * min(unit / least, 1.0)))
    )


@QUANTIZED.rule(s.Input)
def _input(state: Quantization, node: s.Input, units: list[Any]) -> Quantized:
    """The input with its grid, or with as many levels as leave its layers' weights all their bits.

    Weights and inputs share the bits of a sum, and a weight's rounding repeats in every sample. A
    grid is kept, for then the inputs are exact, where it costs the weights less than a quarter of a
    bit.
    """
    found = state.options.calibration.input
    largest = max(abs(found.min), abs(found.max), 1e-12)
    whole = _GRID_WORTH * _input_levels(state, node, largest)
    if found.grid and largest / found.grid <= min(whole, _INPUT_LEVELS) + 1e-6:
        unit = found.grid
    else:
        unit = largest / min(max(int(whole / _GRID_WORTH), LEAST_LEVELS), _INPUT_LEVELS)
        unit = unit_of_pixels(state, node, unit)
    low, high = (int(np.rint(v / unit)) for v in (found.min, found.max))
    return replace(node, unit=unit, low=low, high=high), unit


def _input_levels(state: Quantization, node: s.Input, largest: float) -> float:
    """Most levels of the input for which sums, thresholds and biases leave its layers' weights all
    their bits.
    """
    found, fit = state.options.calibration.input, float(_INPUT_LEVELS)
    unit = largest / _INPUT_LEVELS
    low, high = (int(np.rint(v / unit)) for v in (found.min, found.max))
    for layer in readers(state.graph, node):
        fit = min(fit, _INPUT_LEVELS * Layer.of(state, layer, unit, low, high).room())
    return fit


Shifts = list["np.ndarray | None"]
SHIFTS: KindTable[Callable[[Quantization, Any, Shifts], np.ndarray | None]] = KindTable(
    "lost means", ("canonical",), "what rounding in front of it takes from its mean"
)
"""(state, node, what rounding took from the means of its inputs) -> from its own; None for nothing,
or for what its own rule has noted."""


@SHIFTS.rule(s.Input, s.Conv2d, s.Linear, s.Mul, s.MatMul, s.Offset, s.Output, s.Sum, s.SumPool2d)
@SHIFTS.rule(s.Previous, s.LIF, s.Or, s.Integrator, s.Softmax, s.Delay)
@SHIFTS.rule(s.Function, s.Normalization, s.StepSoftmax, s.Quotient, s.TokenMean)
def _noted(state: Quantization, node: s.Node, found: Shifts) -> None:
    """Noted where the layer is quantized, put into a bias, or not followed."""
    return None


@SHIFTS.rule(s.Add)
def _shifted_sum(state: Quantization, node: s.Add, found: Shifts) -> np.ndarray | None:
    given = [shift for shift in found if shift is not None]
    return sum(given, np.zeros(())) if given else None


@SHIFTS.rule(s.TimeMean)
def _shifted_mean(state: Quantization, node: s.TimeMean, found: Shifts) -> np.ndarray | None:
    return found[0]


@SHIFTS.rule(s.MaxPool2d)
def _shifted_maximum(state: Quantization, node: s.MaxPool2d, found: Shifts) -> np.ndarray | None:
    if found[0] is None or found[0].shape[1:] in ((), (1, 1)):
        return found[0]
    return found[0].mean(axis=(1, 2), keepdims=True)


@SHIFTS.rule(s.Rearrange)
def _shifted_view(state: Quantization, node: s.Rearrange, found: Shifts) -> np.ndarray | None:
    if found[0] is None:
        return None
    return node.apply(np.broadcast_to(found[0], state.size[node.x]))
