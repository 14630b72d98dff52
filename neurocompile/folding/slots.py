"""Where a feature map lies in space and time: lanes of neurons, window after window.

An axis of n positions is cut into runs of ``lanes`` positions that lie side by side; the runs
follow each other in time, along nested digits. Rows and columns are cut independently: position (y,
x) is on lane (y mod L_y, x mod L_x) in window w_y + w_x.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.ir.layout import strided_index

__all__ = ["Axis", "Slots", "Unfoldable"]


class Unfoldable(Exception):
    """These schedules cannot meet; the message says where."""


@dataclass(frozen=True)
class Axis:
    """``size`` positions, ``lanes`` side by side."""

    size: int
    lanes: int
    digits: tuple[tuple[int, int], ...] = ()
    """(number, windows apart) of the runs, outermost first; their product is size / lanes."""

    def __post_init__(self) -> None:
        if prod(n for n, _ in self.digits) * self.lanes != self.size:
            raise Unfoldable(f"{self.size} positions are no multiple of {self.lanes} lanes")

    @property
    def whole(self) -> bool:
        """All positions are in one window."""
        return not self.digits

    @cached_property
    def windows(self) -> np.ndarray:
        """Window of each run, int64 (size / lanes,)."""
        return strided_index(tuple(n for n, _ in self.digits), tuple(d for _, d in self.digits))

    @cached_property
    def origins(self) -> np.ndarray:
        """First position of each run."""
        return np.arange(self.size // self.lanes) * self.lanes


@dataclass(frozen=True)
class Slots:
    """The schedule of a feature map."""

    rows: Axis
    columns: Axis

    @property
    def lanes(self) -> tuple[int, int]:
        """Array shape of a window's positions."""
        return self.rows.lanes, self.columns.lanes

    @property
    def digits(self) -> tuple[tuple[int, int], ...]:
        """(number, windows apart), as :attr:`neurocompile.ir.circuit.Population.slots`."""
        return (*self.rows.digits, *self.columns.digits) or ((1, 0),)

    @cached_property
    def windows(self) -> np.ndarray:
        """Valid windows, int64 (row runs, column runs)."""
        found = self.rows.windows[:, None] + self.columns.windows[None]
        if len(distinct(found)) != found.size:
            size = f"{self.rows.size} x {self.columns.size}"
            raise Unfoldable(f"two positions of a map of {size} would share a window")
        return found

    @property
    def last(self) -> int:
        """The last valid window."""
        return int(self.windows.max())

    def origin(self, windows: int) -> np.ndarray:
        """First position (y, x) of each window, int64 (windows, 2); -1 where it is silent."""
        if self.last >= windows:
            raise Unfoldable(
                f"a map of {self.rows.size} x {self.columns.size} passes in {self.last + 1} windows, "
                f"and a sample has {windows}"
            )
        found = np.full((windows, 2), -1, np.int64)
        y, x = np.meshgrid(self.rows.origins, self.columns.origins, indexing="ij")
        found[self.windows.ravel()] = np.stack([y.ravel(), x.ravel()], axis=1)
        return found
