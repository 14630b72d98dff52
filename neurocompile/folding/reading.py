"""How a population reads a feature map that has another schedule: runs of lanes, each with a lag.

The reader of a window needs a *patch* of the source: for each run of its own lanes the positions
from ``stride * origin - padding`` on. Along an axis that the reader has whole in one window the
patch is the axis. Positions of the patch that come from other windows arrive with a lag; positions
outside of the feature map arrive as silence. That nothing else arrives in any valid window of the
reader is not argued but checked, window by window and run by run (:func:`plan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from neurocompile.folding.slots import Axis, Slots, Unfoldable

__all__ = ["Patch", "Plan", "Run", "patch_of", "plan"]


@dataclass(frozen=True)
class Reach:
    """The patch along one axis."""

    extent: int
    """Its positions."""
    stride: int
    """Positions from one patch to the next per position of the reader; 0: always the whole axis."""
    start: int
    """First position of the first patch, <= 0."""
    padding: int
    """What the convolution over the patch still pads."""


@dataclass(frozen=True)
class Patch:
    """The patch that a window reads."""

    rows: Reach
    columns: Reach

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.extent, self.columns.extent


@dataclass(frozen=True)
class Run:
    """Lanes of the source and positions of the patch, both without a gap, that one projection
    joins."""

    lag: int
    first: tuple[int, int]
    """In the patch."""
    lane: tuple[int, int]
    """In the source."""
    count: tuple[int, int]

    def meets(self, other: Run) -> bool:
        """Whether both reach one position of the patch."""
        return all(
            a < b + m and b < a + n
            for a, n, b, m in zip(self.first, self.count, other.first, other.count)
        )


@dataclass(frozen=True)
class Plan:
    """All runs of a patch; ``stray``: some of them deliver in windows that the reader does not own."""

    runs: tuple[Run, ...]
    stray: bool

    @property
    def least_lag(self) -> int:
        """The smallest lag: what decides the reader's depth."""
        return min(run.lag for run in self.runs)


def _reach(reader: Axis, size: int, kernel: int, stride: int, padding: int) -> Reach:
    if reader.whole:
        return Reach(size, 0, 0, padding)
    return Reach(stride * (reader.lanes - 1) + kernel, stride, -padding, 0)


def patch_of(
    reader: Slots,
    source: Slots,
    kernel: tuple[int, int] = (1, 1),
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> Patch:
    """The patch of ``source`` under a window of ``kernel`` (dilated: its extent) for ``reader``."""
    axes = ((reader.rows, source.rows), (reader.columns, source.columns))
    found = (_reach(r, s.size, k, st, p) for (r, s), k, st, p in zip(axes, kernel, stride, padding))
    return Patch(*found)


def _axis_runs(reader: Axis, source: Axis, reach: Reach) -> list[tuple[int, int, int, int]]:
    """(lag, first in the patch, lane, count) along one axis."""
    starts = reach.start + reach.stride * reader.origins
    position = starts[:, None] + np.arange(reach.extent)  # (runs of the reader, extent)
    inside = (position >= 0) & (position < source.size)
    run = np.clip(position, 0, source.size - 1) // source.lanes
    lag = reader.windows[:, None] - source.windows[run]
    lane = np.clip(position, 0, source.size - 1) % source.lanes
    place = np.broadcast_to(np.arange(reach.extent), position.shape)
    found = sorted(set(zip(lag[inside].tolist(), place[inside].tolist(), lane[inside].tolist())))
    runs: list[tuple[int, int, int, int]] = []
    for o, p, at in found:
        if runs:
            last = runs[-1]
            if o == last[0] and p == last[1] + last[3] and at == last[2] + last[3]:
                runs[-1] = (*last[:3], last[3] + 1)
                continue
        runs.append((o, p, at, 1))
    return runs


@lru_cache(maxsize=4096)
def plan(reader: Slots, source: Slots, patch: Patch, windows: int) -> Plan:
    """The runs that bring ``patch`` of ``source`` to ``reader``.

    Raises:
        Unfoldable: if a run would bring another position, or one of the next sample, in a valid
            window of the reader.
    """
    rows = _axis_runs(reader.rows, source.rows, patch.rows)
    columns = _axis_runs(reader.columns, source.columns, patch.columns)
    if not rows or not columns:
        raise Unfoldable("nothing of a feature map is read")
    origin = source.origin(windows)
    own = reader.origin(windows)
    valid = own[:, 0] >= 0
    stride = np.array([patch.rows.stride, patch.columns.stride])
    start = np.array([patch.rows.start, patch.columns.start])
    wanted = own * stride + start  # (windows, 2): first position of the patch
    now = np.arange(windows)
    runs: list[Run] = []
    stray = False
    for row_lag, row, row_lane, row_count in rows:
        for column_lag, column, column_lane, column_count in columns:
            lag = row_lag + column_lag
            if abs(lag) >= windows:
                raise Unfoldable(f"a lag of {lag} windows of {windows}")
            found = origin[(now - lag) % windows]
            silent = found[:, 0] < 0
            other = (now < lag) | (now >= windows + lag)  # of the sample before or after
            delivered = found + (row_lane, column_lane)
            right = (delivered == wanted + (row, column)).all(axis=1)
            wrong = valid & ~silent & (other | ~right)
            if wrong.any():
                raise Unfoldable(
                    f"window {int(np.flatnonzero(wrong)[0])} would read another position"
                )
            if not (valid & ~silent).any():
                continue  # rows and columns never meet at this lag
            run = Run(lag, (row, column), (row_lane, column_lane), (row_count, column_count))
            if run in runs:
                continue  # rows and columns may add up to one lag in several ways
            if any(r.lag == lag and r.meets(run) for r in runs):
                raise Unfoldable(f"a position would be read twice at a lag of {lag} windows")
            stray = stray or bool((~valid & ~silent).any())
            runs.append(run)
    return Plan(tuple(runs), stray)
