"""Which schedules a fold gives the feature maps of a model.

A fold ``R x C`` carries R rows and C columns of the input in a window; what has passed a stride
has fewer lanes, or, once one lane is left, more windows. *Wide* maps keep their lanes and are idle
in the windows that a stride leaves over: what a spatial kernel may read. *Dense* ones hand lanes on
in time and fill these windows: fewer neurons for layers of size 1x1 and attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from neurocompile.errors import NeurocompileError
from neurocompile.folding.slots import Axis, Slots, Unfoldable
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout

__all__ = ["Fold", "Schedules"]


@dataclass(frozen=True)
class Fold:
    """Rows and columns of the input in one window; the pause between samples, in rows of windows (0:
    as short as the model allows); ``single``: attention's sums are kept once, and a pause as long as the sample lets the
    queries pass; ``ticked``: clocks are made on the chip.
    """

    rows: int
    columns: int
    pause: int = 0
    single: bool = False
    ticked: bool = False

    @classmethod
    def parse(cls, text: str) -> Fold:
        """``1x16``, or ``1x16s`` with a single buffer, ``1x16c`` with clocks on the chip; NC1015 for
        anything else.
        """
        found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})(s?)(c?)(?:\+([1-9]\d{0,3}))?", text)
        if not found:
            raise NeurocompileError(
                "NC1015",
                f"fold is '{text}'; auto, none, or ROWSxCOLUMNS of the input in a window, such as 1x32, is needed",
            )
        rows, columns, single, ticked, pause = found.groups()
        return cls(int(rows), int(columns), int(pause or 0), bool(single), bool(ticked))

    def __str__(self) -> str:
        return (
            f"{self.rows}x{self.columns}"
            + "s" * self.single
            + "c" * self.ticked
            + (f"+{self.pause}" if self.pause else "")
        )


class Schedules:
    """The schedules of one fold of one model."""

    def __init__(
        self,
        fold: Fold,
        graph: s.SpikingGraph,
        wide: frozenset[str],
        splits: Mapping[tuple[int, int], int] | None = None,
    ) -> None:
        """``splits``: into how many windows dense maps of a size (H, W) hand on their lanes."""
        self.fold, self.graph, self._wide = fold, graph, wide
        self._splits = splits or {}
        self._ways: dict[tuple[int, int], list[int]] = {}
        node = graph.input
        if len(node.shape) != 3:
            raise NeurocompileError(
                "NC3104", f"input '{node.name}' {list(node.shape)} has no rows to fold"
            )
        _, self.height, self.width = node.shape
        asked = replace(fold, pause=0)
        if self.height % fold.rows or self.width % fold.columns:
            raise NeurocompileError(
                "NC3104",
                f"fold {asked} does not divide the input of {self.height} x {self.width}: rows "
                f"{_divisors(self.height)} x {self.width}, or 1 x {_divisors(self.width)} columns",
            )
        if fold.rows > 1 and fold.columns < self.width:
            raise NeurocompileError(
                "NC3104",
                f"fold {asked}: a window takes several rows, or a part of one; "
                f"1x{fold.columns} or {fold.rows}x{self.width}",
            )
        blocks = self.width // fold.columns
        self.row_windows = 1 if blocks == 1 else blocks + 1
        pause = fold.pause * self.row_windows
        busy = self.height // fold.rows * self.row_windows
        self.windows = (busy + pause) * (1 + fold.single)
        self._owner: dict[str, str] = {}

    def wide(self, size: tuple[int, ...], scale: tuple[int, int]) -> Slots:
        """The wide schedule of a map of (H, W) positions behind a stride."""
        height, width = size
        fold = self.fold
        if fold.rows == self.height:
            rows = Axis(height, height)
        else:
            lanes = max(1, fold.rows // scale[0])
            apart = self.row_windows * scale[0] * lanes
            if apart % fold.rows:
                raise Unfoldable(f"{fold.rows} rows of a window do not halve to {height}")
            rows = _cut(height, lanes, apart // fold.rows)
        if fold.columns == self.width:
            columns = Axis(width, width)
        else:
            lanes = max(1, fold.columns // scale[1])
            apart = scale[1] * lanes
            if apart % fold.columns:
                raise Unfoldable(f"{fold.columns} columns of a window do not halve to {width}")
            columns = _cut(width, lanes, apart // fold.columns)
        return Slots(rows, columns)

    def candidates(self, size: tuple[int, ...], scale: tuple[int, int], wide: bool) -> list[Slots]:
        """Schedules from the densest to the wide one."""
        found = self.wide(size, scale)
        if wide or not found.rows.digits:
            return [found]
        busy = int(found.columns.windows.max()) + 1
        room = found.rows.digits[-1][1] // busy
        columns, dense = found.columns, []
        ways = [k for k in range(columns.lanes, 1, -1) if columns.lanes % k == 0 and k <= room]
        height, width = size
        self._ways[height, width] = ways
        for k in ways:
            if self._splits.get((height, width), k) == k:
                cut = Axis(columns.size, columns.lanes // k, (*columns.digits, (k, busy)))
                dense.append(Slots(found.rows, cut))
        return [*dense, found]

    def options(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Sizes of maps that may be dense in several ways, and these ways."""
        return {size: tuple(ways) for size, ways in self._ways.items() if len(ways) > 1}

    def is_wide(self, node: s.Node) -> bool:
        """Whether a kernel or pool reads the layer, itself or in a sum."""
        if self.must_be_wide(node.name):
            return True
        for user in self.graph.users[node.name]:
            if isinstance(user, (s.MaxPool2d, s.SumPool2d)):
                return True
            if isinstance(user, s.Conv2d):
                kernel = self.graph.tensors[user.weight].shape[2:]
                if kernel != (1, 1) or user.stride != (1, 1):
                    return True
        return False

    def must_be_wide(self, name: str) -> bool:
        """Whether another schedule of the value was found not to do."""
        return name in self._wide

    def own(self, population: str, layer: str) -> None:
        """Remember whose population it is."""
        self._owner[population] = layer

    def owner(self, population: str) -> str | None:
        """The layer whose schedule could be wide instead."""
        return self._owner.get(population)

    @staticmethod
    def digits(
        slots: Slots, shape: tuple[int, int, int], layout: Layout
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """(sizes, neurons apart, windows apart) of the digits of a layer's logical index."""
        height, width, channels = shape
        lane_columns = slots.columns.lanes
        # digits of the map's index: (size, stride in the map, neurons, windows), outermost first
        known: list[tuple[int, int, int, int]] = []
        for axis, stride, neurons in (
            (slots.rows, width * channels, lane_columns * channels),
            (slots.columns, channels, channels),
        ):
            run = axis.lanes
            inner = [(axis.lanes, stride, neurons, 0)]
            for n, apart in reversed(axis.digits):
                inner.insert(0, (n, run * stride, 0, apart))
                run *= n
            known += inner
        known.append((channels, 1, 1, 0))
        sizes, strides, windows = [], [], []
        for atom in (a for dim in layout.dims for a in dim):
            left, low = atom.size, atom.stride
            cut: list[tuple[int, int, int]] = []
            for n, stride, neurons, apart in reversed(known):  # innermost first
                if n == 1 or left == 1 or not stride <= low < n * stride:
                    continue
                first = low // stride
                take = min(left, n // first)
                cut.append((take, neurons * first, apart * first))
                left, low = left // take, n * stride
            if left != 1:
                raise Unfoldable(f"an axis of {atom.size} does not nest in {slots}")
            for size, neurons, apart in reversed(cut):
                sizes.append(size)
                strides.append(neurons)
                windows.append(apart)
        return tuple(sizes), tuple(strides), tuple(windows)


def _divisors(size: int) -> str:
    return ", ".join(str(n) for n in range(1, size + 1) if size % n == 0)


def _cut(size: int, lanes: int, apart: int) -> Axis:
    return Axis(size, lanes, ((size // lanes, apart),) if size > lanes else ())
