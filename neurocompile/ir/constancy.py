"""Whether a value is the same in every step of a sample, whatever the input: a rule a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurocompile.ir.nodes import digits, ends, layers, neurons, operators, real, time
from neurocompile.ir.tables import KindTable

__all__ = ["CONSTANCY"]

CONSTANCY: KindTable[Callable[[Any, bool], bool]] = KindTable(
    "constancy",
    ("imported", "canonical", "quantized"),
    "whether its value changes from step to step",
)
"""(node, all inputs are constant) -> whether its value is."""
CONSTANCY.add(lambda node, inputs: not node.steps, ends.Input)
CONSTANCY.add(lambda node, inputs: True, time.TimeMean, time.TimeSum)
CONSTANCY.add(
    lambda node, inputs: False, time.RateSoftmax, time.Previous, real.Delay, real.TokenMean
)
CONSTANCY.add(
    lambda node, inputs: False,
    neurons.LIF,
    neurons.Integrator,
    neurons.IntegerIntegrator,
    neurons.IntegerLIF,
    neurons.SoftIntegerLIF,
    neurons.Or,
)
CONSTANCY.add(
    lambda node, inputs: inputs,
    ends.Output,
    layers.Conv2d,
    layers.Linear,
    layers.BatchNorm,
    layers.MaxPool2d,
    layers.SumPool2d,
    operators.Add,
    operators.Mul,
    operators.MatMul,
    operators.Scale,
    operators.Sum,
    operators.Offset,
    operators.Shift,
    operators.Rearrange,
    time.Softmax,
    real.Function,
    real.Normalization,
    real.Quotient,
    real.StepSoftmax,
    digits.Clip,
    digits.Combination,
    digits.Maximum,
    digits.IntegerFunction,
    digits.Falling,
    digits.DigitMul,
    digits.DigitMatMul,
    digits.SquareSum,
    digits.DigitSum,
)
