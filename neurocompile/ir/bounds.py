"""How large a value can be, whatever the input, and whether it is an integer: a rule a kind.

One interval a value (its worst element), by interval arithmetic over the graph. The same rules
bound the integers of a quantized graph, exactly, the real values of a float graph, and the network
of ramps that stands for spikes in theory: spikes and rates lie in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from math import inf, prod, sqrt
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.digits import falling_range, piecewise_range
from neurocompile.ir.functions import function
from neurocompile.ir.interval import Interval, geometric, signed_sums
from neurocompile.ir.shapes import Shape, shapes
from neurocompile.ir.tables import KindTable

__all__ = ["BOUNDS", "INTEGRAL", "Known", "Range", "intervals", "range_of", "ranges"]


@dataclass(frozen=True)
class Range(Interval):
    """An integer value lies in ``low``..``high``."""

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(abs(self.low), abs(self.high))

    @property
    def is_spike(self) -> bool:
        """0 or 1."""
        return self.low >= 0 and self.high <= 1


@dataclass(frozen=True)
class Known:
    """What rules may look at beside the node and its inputs' intervals."""

    tensors: Mapping[str, np.ndarray]
    size: Mapping[str, Shape]
    """Shapes of values."""
    quantized: bool
    input: Interval | None = None
    """Of a float graph's input; None for any real number."""
    steps: int | None = None
    """Of a sample; None for any."""
    means: Collection[str] = frozenset()
    """Values whose rows are the weights of a mean: a softmax."""


Bound = Callable[[Known, Any, list[Any]], "Interval | None"]
BOUNDS: KindTable[Bound] = KindTable(
    "bounds", ("imported", "canonical", "quantized"), "how large its value is"
)
"""(known, node, intervals of its inputs) -> its interval; None for what nothing bounds."""
INTEGRAL: KindTable[Callable[[bool, bool], bool]] = KindTable(
    "integral", ("imported", "canonical", "quantized"), "whether its value is an integer"
)
"""(graph is quantized, all inputs are integers) -> whether the value is one by construction."""


def intervals(
    graph: s.SpikingGraph,
    input: Interval | None = None,
    steps: int | None = None,
    size: Mapping[str, Shape] | None = None,
) -> dict[str, Interval | None]:
    """Bounds of every value; None for what grows with a real input.

    Args:
        input: of a float graph; None for any.
        steps: of a sample, which bound an integrator; None for any.
        size: shapes of the values, where they are known already.
    """
    found: dict[str, Interval | None] = {}
    softmax = {n.name for n in graph.nodes if isinstance(n, (s.Softmax, s.StepSoftmax))}
    quantized = graph.stage == "quantized"
    known = Known(graph.tensors, size or shapes(graph), quantized, input, steps, softmax)
    for node in graph.nodes:
        found[node.name] = BOUNDS.of(node)(known, node, [found[i] for i in node.inputs])
    return found


def ranges(graph: s.SpikingGraph) -> dict[str, Range | None]:
    """Bounds of every value that is an integer by construction; None for real values.

    In a float graph spikes, their sums, maxima and products are integers. In a quantized graph
    everything up to the TimeMean is, and a convolution's bound is that of its worst output channel.
    """
    found: dict[str, Range | None] = {}
    known = Known(graph.tensors, shapes(graph), graph.stage == "quantized")
    for node in graph.nodes:
        found[node.name] = range_of(known, node, [found[i] for i in node.inputs])
    return found


def range_of(known: Known, node: s.Node, inputs: Sequence[Range | None]) -> Range | None:
    """Bounds of one value from those of its inputs, see :func:`ranges`."""
    if not INTEGRAL.of(node)(known.quantized, all(i is not None for i in inputs)):
        return None
    found = BOUNDS.of(node)(known, node, list(inputs))
    return None if found is None else Range(int(found.low), int(found.high))


INTEGRAL.add(lambda quantized, inputs: True, s.LIF, s.IntegerLIF, s.SoftIntegerLIF, s.Or)
INTEGRAL.add(lambda quantized, inputs: True, s.RateSoftmax, s.Previous)
INTEGRAL.add(lambda quantized, inputs: quantized, s.Input)
INTEGRAL.add(lambda quantized, inputs: quantized and inputs, s.Conv2d, s.Linear, s.Offset)
INTEGRAL.add(lambda quantized, inputs: inputs, s.Add, s.Mul, s.MatMul, s.Sum, s.SumPool2d)
INTEGRAL.add(lambda quantized, inputs: inputs, s.MaxPool2d, s.Rearrange, s.Shift, s.TimeSum)
INTEGRAL.add(lambda quantized, inputs: inputs, s.IntegerIntegrator, s.Delay)
INTEGRAL.add(
    lambda quantized, inputs: inputs, s.Clip, s.Combination, s.Maximum, s.SquareSum, s.DigitSum
)
INTEGRAL.add(lambda quantized, inputs: inputs, s.IntegerFunction, s.Falling)
INTEGRAL.add(lambda quantized, inputs: inputs, s.DigitMul, s.DigitMatMul)
INTEGRAL.add(lambda quantized, inputs: False, s.BatchNorm, s.Scale, s.Softmax, s.Integrator)
INTEGRAL.add(lambda quantized, inputs: False, s.Function, s.Normalization, s.StepSoftmax)
INTEGRAL.add(lambda quantized, inputs: False, s.TimeMean, s.Output, s.Quotient, s.TokenMean)


def _bounded(rule: Callable[..., Interval | None]) -> Bound:
    """A rule that needs bounds of all inputs."""

    @wraps(rule)
    def checked(known: Known, node: Any, inputs: list[Any]) -> Interval | None:
        return None if any(i is None for i in inputs) else rule(known, node, inputs)

    return checked


@BOUNDS.rule(s.Input)
def _input(known: Known, node: s.Input, inputs: list[Any]) -> Interval | None:
    return Interval(node.low, node.high) if known.quantized else known.input


@BOUNDS.rule(s.IntegerLIF, s.Or, s.Softmax, s.RateSoftmax, s.StepSoftmax)
def _spikes(known: Known, node: s.Node, inputs: list[Any]) -> Interval:
    return Interval(0, 1)


@BOUNDS.rule(s.LIF, s.SoftIntegerLIF, s.Previous)
def _levels(
    known: Known, node: s.LIF | s.SoftIntegerLIF | s.Previous, inputs: list[Any]
) -> Interval:
    return Interval(0, node.levels)


@BOUNDS.rule(s.IntegerIntegrator)
def _integer_integrator(known: Known, node: s.IntegerIntegrator, inputs: list[Any]) -> Interval:
    return Interval(-node.largest, node.largest)


@BOUNDS.rule(s.Integrator)
@_bounded
def _integrator(known: Known, node: s.Integrator, inputs: list[Interval]) -> Interval | None:
    growth = geometric(node.decay, known.steps)
    return None if growth == inf else inputs[0].with_zero().times(growth)


@BOUNDS.rule(s.TokenMean)
def _token_mean(known: Known, node: s.TokenMean, inputs: list[Any]) -> Any:
    return inputs[1]  # of a mean


@BOUNDS.rule(s.MaxPool2d, s.Rearrange, s.TimeMean, s.Maximum)
@_bounded
def _same(known: Known, node: s.Node, inputs: list[Interval]) -> Interval:
    return inputs[0]


@BOUNDS.rule(s.Conv2d, s.Linear)
@_bounded
def _weighted(known: Known, node: s.Conv2d | s.Linear, inputs: list[Interval]) -> Interval:
    x = inputs[0]
    if isinstance(node, s.Conv2d) and any(node.padding):  # the border counts as 0
        x = x.with_zero()
    weight = known.tensors[node.weight]
    if node.exponent:
        whole = weight.astype(np.int64)
        weight = whole >> -node.exponent if node.exponent < 0 else whole << node.exponent
    least, most = x.weighted(*signed_sums(weight))
    if node.bias is not None:
        bias = known.tensors[node.bias].astype(np.float64)
        least, most = least + bias, most + bias
    return Interval(least.min().item(), most.max().item())


@BOUNDS.rule(s.Function)
@_bounded
def _function(known: Known, node: s.Function, inputs: list[Interval]) -> Interval:
    """Of a fine grid: functions are smooth, and a bound of real values only guides a scale."""
    values = function(node.function, node.gain * np.linspace(inputs[0].low, inputs[0].high, 4097))
    return Interval(values.min().item(), values.max().item())


@BOUNDS.rule(s.Normalization)
def _normalization(known: Known, node: s.Normalization, inputs: list[Any]) -> Interval:
    n = prod(known.size[node.x][i] for i in node.axes)
    largest = sqrt(n - 1 if node.centered else n)  # of one element among n of a mean square of 1
    return Interval(-largest, largest)


@BOUNDS.rule(s.Quotient)
@_bounded
def _quotient(known: Known, node: s.Quotient, inputs: list[Interval]) -> Interval | None:
    a, b = inputs
    if b.low <= 0:
        return None  # of anything
    ends = [x / y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(ends), max(ends))


@BOUNDS.rule(s.Delay)
@_bounded
def _delay(known: Known, node: s.Delay, inputs: list[Interval]) -> Interval:
    return inputs[0].with_zero()


@BOUNDS.rule(s.Clip)
@_bounded
def _clip(known: Known, node: s.Clip, inputs: list[Interval]) -> Interval:
    ends = (inputs[0].low, inputs[0].high)
    return Interval(*(min(max(end, node.low), node.high) for end in ends))


@BOUNDS.rule(s.Combination)
@_bounded
def _combination(known: Known, node: s.Combination, inputs: list[Interval]) -> Interval:
    return inputs[0].times(node.times_a) + inputs[1].times(node.times_b)


@BOUNDS.rule(s.IntegerFunction, s.Falling)
@_bounded
def _segments(
    known: Known, node: s.IntegerFunction | s.Falling, inputs: list[Interval]
) -> Interval:
    tensors = [known.tensors[t] for t in node.tensors]
    low, high = int(inputs[0].low), int(inputs[0].high)
    if isinstance(node, s.Falling):
        return Interval(*falling_range(node, tensors, low, high))
    return Interval(*piecewise_range(node, tensors, low, high))


def _in_digits(node: s.DigitMul | s.DigitMatMul) -> Interval:
    return Interval(-(1 << node.bits) if node.signed else 0, (1 << node.bits) - 1)


@BOUNDS.rule(s.SquareSum)
@_bounded
def _square_sum(known: Known, node: s.SquareSum, inputs: list[Interval]) -> Interval:
    n = prod(known.size[node.x][i] for i in node.axes)
    return Interval(0, n * int(inputs[0].magnitude) ** 2 >> node.shift)


@BOUNDS.rule(s.DigitSum)
@_bounded
def _digit_sum(known: Known, node: s.DigitSum, inputs: list[Interval]) -> Interval:
    found = inputs[0].times(prod(known.size[node.x][i] for i in node.axes))
    return Interval(int(found.low) >> node.shift, int(found.high) >> node.shift)


@BOUNDS.rule(s.DigitMul)
@_bounded
def _digit_mul(known: Known, node: s.DigitMul, inputs: list[Interval]) -> Interval:
    """Each plane rounds down once: a product is off by at most one for each."""
    product, unit = _in_digits(node) * inputs[1], 1 << node.shift
    slack = node.bits + node.signed if node.shift else 0
    return Interval(int(product.low // unit) - slack, int(-(-product.high // unit)) + slack)


@BOUNDS.rule(s.DigitMatMul)
@_bounded
def _digit_matmul(known: Known, node: s.DigitMatMul, inputs: list[Interval]) -> Interval:
    product = (_in_digits(node) * inputs[0]).times(known.size[node.value][-1])
    found = Interval(int(product.low) >> node.shift, int(product.high) >> node.shift)
    return found.within(node.largest) if node.largest else found


@BOUNDS.rule(s.BatchNorm)
@_bounded
def _batch_norm(known: Known, node: s.BatchNorm, inputs: list[Interval]) -> Interval:
    scale, shift, mean, var = (known.tensors[t].astype(np.float64) for t in node.tensors)
    factor = scale / np.sqrt(var + node.eps)
    ends = [factor * (end - mean) + shift for end in (inputs[0].low, inputs[0].high)]
    return Interval(np.minimum(*ends).min().item(), np.maximum(*ends).max().item())


@BOUNDS.rule(s.Add)
@_bounded
def _add(known: Known, node: s.Add, inputs: list[Interval]) -> Interval:
    return inputs[0] + inputs[1]


@BOUNDS.rule(s.Mul)
@_bounded
def _mul(known: Known, node: s.Mul, inputs: list[Interval]) -> Interval:
    return inputs[0] * inputs[1]


@BOUNDS.rule(s.MatMul)
@_bounded
def _matmul(known: Known, node: s.MatMul, inputs: list[Interval]) -> Interval:
    if node.a in known.means:
        return inputs[1]  # rows of a softmax sum to 1
    return (inputs[0] * inputs[1]).times(known.size[node.a][-1])


@BOUNDS.rule(s.Scale)
@_bounded
def _scale(known: Known, node: s.Scale, inputs: list[Interval]) -> Interval:
    return inputs[0].times(node.factor)


@BOUNDS.rule(s.Sum)
@_bounded
def _sum(known: Known, node: s.Sum, inputs: list[Interval]) -> Interval:
    return inputs[0].times(prod(known.size[node.x][i] for i in node.axes))


@BOUNDS.rule(s.SumPool2d)
@_bounded
def _sum_pool(known: Known, node: s.SumPool2d, inputs: list[Interval]) -> Interval:
    padded = any((*node.padding, *node.more))  # the border counts as 0
    return (inputs[0].with_zero() if padded else inputs[0]).times(prod(node.kernel))


@BOUNDS.rule(s.Offset)
@_bounded
def _offset(known: Known, node: s.Offset, inputs: list[Interval]) -> Interval:
    offset = known.tensors[node.offset]
    return inputs[0] + Interval(offset.min().item(), offset.max().item())


@BOUNDS.rule(s.Shift)
@_bounded
def _shift(known: Known, node: s.Shift, inputs: list[Interval]) -> Interval:
    return Interval(int(inputs[0].low) >> node.bits, int(inputs[0].high) >> node.bits)


@BOUNDS.rule(s.TimeSum)
@_bounded
def _time_sum(known: Known, node: s.TimeSum, inputs: list[Interval]) -> Interval:
    found = inputs[0].times(node.steps).with_zero()  # partial sums begin at 0
    return found.within(node.largest) if node.largest else found


@BOUNDS.rule(s.Output)
@_bounded
def _output(known: Known, node: s.Output, inputs: list[Interval]) -> Interval:
    x = inputs[0]
    if node.bias is not None:
        bias = known.tensors[node.bias]
        x = x + Interval(bias.min().item(), bias.max().item())
    return x.times(node.unit)
