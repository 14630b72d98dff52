"""Softmax of rate-coded scores, with an error of O(1/T): count, exponentiate, divide.

1. Scores arrive as sums of spikes, X.
2. Thresholds fall on a logarithmic grid, theta_k = ln((k + 1/2) / E), one a step for E steps. A
   score fires where X - max X >= theta, so the number of its spikes is E exp(X - max X), rounded:
   exp as a rate, from one comparison a step. (Coincidences of K trains,
   :mod:`neurocompile.circuits.exponential`, need K trains and hold for 0 <= x < 1.)
3. The counts N are constant then and go through :func:`neurocompile.circuits.normalize.divide`.

The largest score is a tournament of ``max(a, b) = a + relu(b - a)``; softmax does not change when
it is subtracted, and the exponential never overflows. Each phase rounds once: 1/T of a score, 1/(2
E) and 1/T of a probability.

Two arrangements in time. :func:`softmax` has its phases within one sample of T steps: a clock of T
neurons opens them one after the other, and the answer comes in the last half.
:func:`steady_softmax` gives each phase a whole sample (:mod:`neurocompile.circuits.latch`): scores
are constant, the answer is rate-coded in all T steps and comes T steps later, which is what a layer
inside of a model needs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from math import ceil, log

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.clock import clock_line, table, window
from neurocompile.circuits.latch import total
from neurocompile.circuits.maximum import row_maximum
from neurocompile.circuits.normalize import STARTS, divide, largest_sum_of, recurrent, staggered
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.parameters import MOST, real, whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = [
    "Exponentials",
    "SoftmaxPlan",
    "expected_error",
    "plan_exponentials",
    "plan_softmax",
    "softmax",
    "softmax_spikes",
    "steady_softmax",
]


@dataclass(frozen=True, eq=False)
class Exponentials:
    """``E exp(unit (X - max X))``, rounded, of integer scores X: how many of E thresholds a score
    reaches.
    """

    thresholds: np.ndarray
    """int64 (E,), rising: what ``(span + X - max X) >> shift`` has to reach."""
    span: int
    """Scores so much below the largest, or more, do not fire at all."""
    shift: int
    """Bits that a score loses so that a current holds it."""

    @property
    def levels(self) -> int:
        """E."""
        return len(self.thresholds)

    @property
    def out_of_reach(self) -> int:
        """A threshold that no score reaches."""
        return (self.span >> self.shift) + 1


def plan_exponentials(
    n: int, levels: int, unit: float, reach: int, fields: ChipFields = LOIHI2, steps: int = 1
) -> Exponentials:
    """The grid for rows of ``n`` scores.

    Args:
        levels: E; fewer where the counts of a row would leave the fields of the division.
        unit: float value of a score of 1, > 0.
        reach: largest absolute value of a score.
        steps: of a sample.

    Raises:
        NeurocompileError: NC2012 for ranges that leave their fields.
    """
    (
        whole("n", n, code="NC2012"),
        whole("levels", levels, code="NC2012"),
        whole("reach", reach, 1, 1 << 60, "NC2012"),
    )
    real("unit", unit, "NC2012")
    most = largest_sum_of(fields, steps=steps)
    wanted, levels = levels, min(levels, most // n)
    if levels < 1 or reach > fields.held:
        raise NeurocompileError(
            "NC2012",
            f"a softmax over {n:,} scores up to {reach:,} of unit {unit:.3g}: at most {most:,} scores, and sums of "
            f"scores below {fields.held + 1:,}, are supported; use coarser scores or fewer steps",
        )
    span = int(min(ceil(log(2 * levels) / unit) + 1, 2 * reach + 1))
    shift = max(span.bit_length() - fields.current.bit_length() + 1, 0)
    if shift > fields.shift:
        raise NeurocompileError(
            "NC2012",
            f"a softmax tells scores {unit:.3g} apart; {unit * (1 << shift - fields.shift):.3g} is supported",
        )
    if levels < wanted:
        warnings.warn(
            f"a softmax over {n:,} scores has {levels:,} levels, however many steps it gets (its counts "
            f"sum to {most:,} at most; {wanted:,} levels were wanted): about "
            f"{expected_error(n, levels):.2g} of the total weight lies with wrong scores (modelled, "
            "normal scores of deviation 1.5)",
            stacklevel=2,
        )
    grid = np.log((np.arange(levels) + 0.5) / levels) / unit
    grid = span + np.ceil(np.maximum(grid, -span)).astype(np.int64)
    return Exponentials(np.clip((grid + (1 << shift >> 1)) >> shift, 1, span >> shift), span, shift)


def expected_error(n: int, levels: int, deviation: float = 1.5) -> float:
    """Mean total variation between a softmax of ``n`` normal scores and the same from counts of
    ``levels``: what rounding the exponentials costs, however many steps follow.
    """
    scores = deviation * np.random.default_rng(0).standard_normal((max(16, 4096 // n), n))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    counts = np.rint(levels * weights)
    weights /= weights.sum(axis=1, keepdims=True)
    counts /= counts.sum(axis=1, keepdims=True)
    return float(0.5 * np.abs(weights - counts).sum(axis=1).mean())


@dataclass(frozen=True)
class SoftmaxPlan:
    """Phases of one softmax over ``n`` scores within a sample."""

    n: int
    steps: int
    count: int
    """T1: scores change in steps 0 .. count-1 only."""
    reach: int
    """Largest absolute value of a score."""
    grid: Exponentials

    @property
    def start(self) -> int:
        """First step of the division."""
        return self.count + self.grid.levels

    @property
    def divide(self) -> int:
        """Steps of the division."""
        return self.steps - self.start

    @property
    def largest_sum(self) -> int:
        """Of the counts of one row."""
        return self.n * self.grid.levels

    def thresholds(self) -> np.ndarray:
        """int64 (steps,): the grid in its phase, out of reach before and after."""
        found = np.full(self.steps, self.grid.out_of_reach, np.int64)
        found[self.count : self.start] = self.grid.thresholds
        return found


def plan_softmax(
    n: int,
    steps: int,
    unit: float,
    reach: int,
    count: int | None = None,
    fields: ChipFields = LOIHI2,
) -> SoftmaxPlan:
    """Phases for ``steps`` steps: a quarter to count, a quarter to exponentiate, the rest to
    divide.

    Args:
        unit: float value of 1 of the sum of a score over the count, > 0.
        reach: largest absolute value of that sum.
        count: T1, if another than a quarter.

    Raises:
        NeurocompileError: NC2012 for fewer than 4 steps or ranges that leave their fields.
    """
    whole("steps", steps, -MOST, code="NC2012")
    if count is not None:
        whole("count", count, 1, max(steps, 1), "NC2012")
    if steps < 4:
        raise NeurocompileError("NC2012", f"a softmax in {steps:,} steps; at least 4 are needed")
    count = steps // 4 if count is None else count
    return SoftmaxPlan(
        n, steps, count, reach, plan_exponentials(n, steps // 4, unit, reach, fields, steps)
    )


def softmax(
    builder: Builder, scores: str, rows: int, plan: SoftmaxPlan, line: str, name: str
) -> str:
    """Spikes of ``rows`` softmaxes for the graded population ``scores`` (rows * n), the sums X of
    each step.

    Args:
        line: of :func:`neurocompile.circuits.clock.clock_line`.

    Returns:
        A graded population (rows, n) of 0 and 1; the mean over the last ``plan.divide`` steps is
        the softmax.
    """
    n, size, shape, levels = plan.n, rows * plan.n, (rows, plan.n), plan.grid.levels
    fired = _exponentials(
        builder,
        scores,
        rows,
        n,
        plan.grid,
        table(builder, line, plan.thresholds(), f"{name}.theta"),
        name,
    )
    count = builder.population(c.GradedRelay, f"{name}.count", shape, name, largest=levels)
    builder.drive(
        count, [strided(fired, (size,), (1,), (1,)), recurrent(strided(count, (size,), (1,), (1,)))]
    )
    # until the division starts counts read as 0 and their sum as its largest value, so that nothing
    # fires
    begun = window(builder, line, plan.start, plan.steps, f"{name}.begun")
    weights = builder.population(c.GradedRelu, f"{name}.weight", shape, name, largest=levels)
    builder.drive(weights, [strided(count, (size,), (1,), (1,))])
    builder.drive(
        weights, [strided(begun, (size,), (0,), (1,), weight=w) for w in builder.terms(levels)]
    )
    _constant(builder, weights, -levels, size, name)
    total_ = builder.population(
        c.GradedRelay, f"{name}.sum", (rows, 1), name, largest=plan.largest_sum
    )
    builder.drive(total_, [strided(weights, shape, (n, 1), (1, 0))])
    builder.drive(
        total_,
        [strided(begun, (rows,), (0,), (1,), weight=-w) for w in builder.terms(plan.largest_sum)],
    )
    _constant(builder, total_, plan.largest_sum, rows, name)
    return _divided(builder, weights, total_, rows, n, plan.largest_sum, name)


def steady_softmax(
    builder: Builder, scores: str, rows: int, n: int, grid: Exponentials, steps: int, name: str
) -> str:
    """Spikes of ``rows`` softmaxes for the graded population ``scores`` (rows * n), which is
    constant over the steps.

    Returns:
        A graded population (rows, n) of 0 and 1 whose mean over all ``steps`` is the softmax, one
        sample later.
    """
    thresholds = np.full(steps, grid.out_of_reach, np.int64)
    thresholds[: grid.levels] = grid.thresholds
    theta = table(builder, clock_line(builder, steps, name), thresholds, f"{name}.theta")
    fired = _exponentials(builder, scores, rows, n, grid, theta, name)
    size, shape = rows * n, (rows, n)
    weights = total(
        builder,
        (strided(fired, (size,), (1,), (1,)),),
        shape,
        (0, grid.levels),
        steps,
        f"{name}.weight",
        name,
    )
    sums = builder.population(
        c.GradedRelay, f"{name}.total", (rows, 1), name, largest=n * grid.levels
    )
    builder.drive(sums, [strided(weights, shape, (n, 1), (1, 0))])
    return _divided(builder, weights, sums, rows, n, n * grid.levels, name)


def _exponentials(
    builder: Builder, scores: str, rows: int, n: int, grid: Exponentials, theta: str, name: str
) -> str:
    """Spikes where a score reaches the threshold ``theta`` of the step."""
    size, shape = rows * n, (rows, n)
    largest = row_maximum(builder, scores, rows, n, name, name)
    above = builder.population(c.GradedRelu, f"{name}.above", shape, name)
    builder.drive(above, [strided(scores, (size,), (1,), (1,))])
    builder.drive(above, [strided(largest, shape, (1, 0), (n, 1), weight=-1)])
    _constant(builder, above, grid.span, size, name)
    if grid.shift:
        shifted = builder.population(c.GradedRelay, f"{name}.shifted", shape, name)
        builder.drive(
            shifted, [replace(strided(above, (size,), (1,), (1,)), weight_exp=-grid.shift)]
        )
        above = shifted
    one = builder.tensor(f"{name}.at_least", np.ones(1, np.int16))
    fired = builder.population(
        c.LIF, f"{name}.exp", shape, name, vth=0, dv=ALL, bias=one, reset=True
    )
    builder.drive(
        fired, [strided(above, (size,), (1,), (1,)), strided(theta, (size,), (0,), (1,), weight=-1)]
    )
    return fired


def _divided(
    builder: Builder, weights: str, sums: str, rows: int, n: int, largest: int, name: str
) -> str:
    """The division's spikes as one graded population (rows, n)."""
    out = builder.population(c.GradedRelay, name, (rows, n), name, largest=1)
    threshold = staggered(builder, sums, rows, n, largest, f"{name}.")
    for part in divide(
        builder, weights, sums, rows, n, largest, prefix=f"{name}.", threshold=threshold
    ):
        builder.drive(out, [strided(part, (rows * n,), (1,), (1,))])
    return out


def _constant(builder: Builder, dst: str, value: int, size: int, name: str) -> None:
    one = builder.always_on(name)
    for weight in builder.terms(abs(value)):
        builder.drive(
            dst, [strided(one, (size,), (0,), (1,), weight=weight if value > 0 else -weight)]
        )


def softmax_spikes(scores: np.ndarray, plan: SoftmaxPlan) -> np.ndarray:
    """What :func:`softmax` computes, by its definition: int64 (samples, steps, ..., n) of 0 and 1.

    Args:
        scores: int64 (samples, steps, ..., n): X of each step; the last ``steps - count`` are
            equal.
    """
    held, grid = scores[:, -1], plan.grid
    above = np.maximum(held - held.max(axis=-1, keepdims=True) + grid.span, 0) >> grid.shift
    weight = np.searchsorted(grid.thresholds, above, side="right").astype(np.int64)
    total = weight.sum(axis=-1, keepdims=True)
    moments = np.arange(plan.divide + 1).reshape(-1, *[1] * weight.ndim)
    start = np.resize(STARTS, weight.shape[-1]) * total >> 5
    fired = np.diff((moments * weight + start) // total, axis=0)
    out = np.zeros((len(scores), plan.steps, *held.shape[1:]), np.int64)
    out[:, plan.start :] = np.moveaxis(fired, 0, 1)
    return out
