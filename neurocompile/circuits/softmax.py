"""Softmax of rate-coded scores, with an error of O(1/T): three phases of a sample, each as long as it needs.

1. ``count``: scores arrive as sums of spikes for T1 steps; X adds them up, and holds from then on.
2. ``exponentiate``: thresholds fall on a logarithmic grid, theta_k = ln((k + 1/2) / T2), one a step for T2 steps. A score fires
   where X - max X >= theta, so the number of its spikes is T2 exp(X - max X), rounded: exp as a rate, from one comparison a
   step. (Coincidences of K trains, :mod:`neurocompile.circuits.exponential`, need K trains and hold for 0 <= x < 1.)
3. ``divide``: the counts N are constant now and go through :func:`neurocompile.circuits.normalize.divide` for T3 steps.

The largest score is a tournament of ``max(a, b) = a + relu(b - a)``; softmax does not change when it is subtracted, and the
exponential never overflows. Each phase rounds once: 1/T1 of a score, 1/(2 T2) and 1/(2 T3) of a probability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log

import numpy as np

from neurocompile.circuits.builder import Builder, strided, terms
from neurocompile.circuits.clock import table, window
from neurocompile.circuits.normalize import LARGEST_SUM, divide, recurrent
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c

__all__ = ["SoftmaxPlan", "plan_softmax", "softmax", "softmax_spikes"]

_LARGEST_THRESHOLD = (1 << 16) - 1  # and its negative: a current has 17 bits


@dataclass(frozen=True)
class SoftmaxPlan:
    """Phases and integers of one softmax over ``n`` scores."""

    n: int
    steps: int
    count: int
    """T1: scores change in steps 0 .. count-1 only."""
    exponentiate: int
    """T2."""
    unit: float
    """Float value of 1 of a score's sum over T1 steps."""
    reach: int
    """Largest absolute value of that sum."""

    @property
    def start(self) -> int:
        """First step of the division."""
        return self.count + self.exponentiate

    @property
    def divide(self) -> int:
        """T3."""
        return self.steps - self.start

    @property
    def largest_sum(self) -> int:
        """Of the counts of one row."""
        return self.n * self.exponentiate

    @cached_property
    def span(self) -> int:
        """Scores so much below the largest, or more, do not fire at all."""
        return min(ceil(log(2 * self.exponentiate) / self.unit) + 1, 2 * self.reach + 1)

    @property
    def shift(self) -> int:
        """Bits that a score loses so that a current holds it."""
        return max((self.span).bit_length() - 16, 0)

    @cached_property
    def thresholds(self) -> np.ndarray:
        """int64 (steps,): what ``span + X - max X``, shifted, has to reach in each step; out of reach outside its phase."""
        top = self.span >> self.shift
        levels = np.log((np.arange(self.exponentiate) + 0.5) / self.exponentiate) / self.unit
        whole = self.span + np.ceil(np.maximum(levels, -self.span)).astype(np.int64)
        found = np.full(self.steps, top + 1, np.int64)
        found[self.count : self.start] = np.clip((whole + (1 << self.shift >> 1)) >> self.shift, 1, top)
        return found


def plan_softmax(n: int, steps: int, unit: float, reach: int, count: int | None = None) -> SoftmaxPlan:
    """Phases for ``steps`` steps: a quarter to count, a quarter to exponentiate, the rest to divide.

    Args:
        unit: float value of 1 of the sum of a score over the count, > 0.
        reach: largest absolute value of that sum.
        count: T1, if another than a quarter.

    Raises:
        NeurocompileError: NC2012 for fewer than 4 steps or ranges that leave their fields.
    """
    count = steps // 4 if count is None else count
    exponentiate = min(max(steps // 4, 1), LARGEST_SUM // max(n, 1))
    if steps < 4 or n < 1 or exponentiate < 1 or not unit > 0 or not 1 <= reach < 1 << 18:
        raise NeurocompileError(
            "NC2012", f"a softmax over {n:,} scores up to {reach:,} in {steps:,} steps: at least 4 steps, at most {LARGEST_SUM:,} "
            f"scores, and sums of scores below {1 << 18:,}; use coarser scores or fewer steps"
        )  # fmt: skip
    plan = SoftmaxPlan(n, steps, count, exponentiate, unit, reach)
    if plan.shift > 7:
        raise NeurocompileError("NC2012", f"a softmax tells scores {unit:.3g} apart; {unit * (1 << plan.shift - 7):.3g} is supported")
    return plan


def softmax(builder: Builder, scores: str, rows: int, plan: SoftmaxPlan, line: str, name: str) -> str:
    """Spikes of ``rows`` softmaxes for the graded population ``scores`` (rows * n), the sums X of each step.

    Args:
        line: of :func:`neurocompile.circuits.clock.clock_line`.

    Returns:
        A graded population (rows, n) of 0 and 1; the mean over the last ``plan.divide`` steps is the softmax.
    """
    n, size, shape = plan.n, rows * plan.n, (rows, plan.n)
    largest = _maximum(builder, scores, rows, n, name)
    above = builder.population(c.GradedRelu, f"{name}.above", shape, name)
    builder.drive(above, [strided(scores, (size,), (1,), (1,))])
    builder.drive(above, [strided(largest, shape, (1, 0), (n, 1), weight=-1)])
    _constant(builder, above, plan.span, size, name)
    if plan.shift:
        shifted = builder.population(c.GradedRelay, f"{name}.shifted", shape, name)
        builder.drive(shifted, [replace(strided(above, (size,), (1,), (1,)), weight_exp=-plan.shift)])
        above = shifted
    one = builder.tensor(f"{name}.at_least", np.ones(1, np.int16))
    fired = builder.population(c.LIF, f"{name}.exp", shape, name, vth=0, dv=4096, bias=one, reset=True)
    theta = table(builder, line, plan.thresholds, f"{name}.theta")
    builder.drive(fired, [strided(above, (size,), (1,), (1,)), strided(theta, (size,), (0,), (1,), weight=-1)])
    count = builder.population(c.GradedRelay, f"{name}.count", shape, name, largest=plan.exponentiate)
    builder.drive(count, [strided(fired, (size,), (1,), (1,)), recurrent(strided(count, (size,), (1,), (1,)))])
    # until the division starts counts read as 0 and their sum as its largest value, so that nothing fires
    begun = window(builder, line, plan.start, plan.steps, f"{name}.begun")
    weights = builder.population(c.GradedRelu, f"{name}.weight", shape, name, largest=plan.exponentiate)
    builder.drive(weights, [strided(count, (size,), (1,), (1,))])
    builder.drive(weights, [strided(begun, (size,), (0,), (1,), weight=w) for w in terms(plan.exponentiate)])
    _constant(builder, weights, -plan.exponentiate, size, name)
    total = builder.population(c.GradedRelay, f"{name}.sum", (rows, 1), name, largest=plan.largest_sum)
    builder.drive(total, [strided(weights, shape, (n, 1), (1, 0))])
    builder.drive(total, [strided(begun, (rows,), (0,), (1,), weight=-w) for w in terms(plan.largest_sum)])
    _constant(builder, total, plan.largest_sum, rows, name)
    out = builder.population(c.GradedRelay, name, shape, name, largest=1)
    for part in divide(builder, weights, total, rows, n, plan.largest_sum, prefix=f"{name}."):
        builder.drive(out, [strided(part, (size,), (1,), (1,))])
    return out


def _constant(builder: Builder, dst: str, value: int, size: int, name: str) -> None:
    one = builder.always_on(name)
    for weight in terms(abs(value)):
        builder.drive(dst, [strided(one, (size,), (0,), (1,), weight=weight if value > 0 else -weight)])


def _maximum(builder: Builder, values: str, rows: int, n: int, name: str) -> str:
    """The largest of each row of ``n``: a graded population (rows, 1)."""
    while n > 1:
        half, odd = n // 2, n % 2
        better = builder.population(c.GradedRelu, f"{name}.better", (rows, half), name)
        winner = builder.population(c.GradedRelay, f"{name}.winner", (rows, half + odd), name)
        pairs = ((rows, half), (n, 1))
        builder.drive(better, [strided(values, *pairs, (half, 1), src_offset=half)])
        builder.drive(better, [strided(values, *pairs, (half, 1), weight=-1)])
        builder.drive(winner, [strided(values, *pairs, (half + odd, 1)), strided(better, (rows, half), (half, 1), (half + odd, 1))])
        if odd:
            builder.drive(winner, [strided(values, (rows,), (n,), (half + 1,), src_offset=n - 1, dst_offset=half)])
        values, n = winner, half + odd
    return values


def softmax_spikes(scores: np.ndarray, plan: SoftmaxPlan) -> np.ndarray:
    """What :func:`softmax` computes, by its definition: int64 (samples, steps, ..., n) of 0 and 1.

    Args:
        scores: int64 (samples, steps, ..., n): X of each step; the last ``steps - count`` are equal.
    """
    held = scores[:, -1]
    above = np.maximum(held - held.max(axis=-1, keepdims=True) + plan.span, 0) >> plan.shift
    grid = np.sort(plan.thresholds[plan.count : plan.start])
    weight = np.searchsorted(grid, above, side="right").astype(np.int64)
    total = weight.sum(axis=-1, keepdims=True)
    moments = np.arange(plan.divide + 1).reshape(-1, *[1] * weight.ndim)
    fired = np.diff((2 * moments * weight + total) // (2 * total), axis=0)  # from S/2 on: rounded to the nearest
    out = np.zeros((len(scores), plan.steps, *held.shape[1:]), np.int64)
    out[:, plan.start :] = np.moveaxis(fired, 0, 1)
    return out
