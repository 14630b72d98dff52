"""Interval arithmetic: the one set of formulas behind every bound, of real values, of integers and
of circuits.

Ends are Python numbers: exact integers stay integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "geometric", "signed_sums"]


@dataclass(frozen=True)
class Interval:
    """A value lies in ``low``..``high``."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        """Largest absolute value."""
        return max(abs(self.low), abs(self.high))

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Interval) -> Interval:
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners))

    def times(self, factor: float) -> Interval:
        """Multiplied by one number of either sign; ``factor`` values added up where it is a count."""
        ends = sorted((factor * self.low, factor * self.high))
        return Interval(ends[0], ends[1])

    def with_zero(self) -> Interval:
        """What is added may be 0 too: a border, a partial sum, a step before."""
        return Interval(min(self.low, 0), max(self.high, 0))

    def within(self, magnitude: float) -> Interval:
        """Cut to ``-magnitude..magnitude``."""
        return Interval(max(self.low, -magnitude), min(self.high, magnitude))

    def weighted(
        self, negative: np.ndarray | int, positive: np.ndarray | int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and most of sums of such values times weights, whose negative ones add up to
        ``negative`` and positive ones to ``positive`` (one number a sum)."""
        least = np.asarray(positive * self.low + negative * self.high)
        return least, np.asarray(positive * self.high + negative * self.low)


def signed_sums(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sums of the negative weights, of the positive ones) of each row, in int64 or float64.

    Args:
        weight: (rows, ...).
    """
    kind = np.int64 if weight.dtype.kind in "iu" else np.float64
    flat = weight.astype(kind).reshape(len(weight), -1)
    return np.minimum(flat, 0).sum(axis=1), np.maximum(flat, 0).sum(axis=1)


def geometric(kept: float, steps: int | None) -> float:
    """What a neuron that keeps a share ``kept`` from step to step makes of a constant 1 in
    ``steps`` steps, or in any number; infinite for one that loses nothing."""
    if kept >= 1:
        return float("inf") if steps is None else float(steps)
    return 1 / (1 - kept) if steps is None else (1 - kept**steps) / (1 - kept)
