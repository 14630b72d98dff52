"""Counts synapses of a :class:`Strided` projection on a tile from its loops, without listing them.

A loop usually moves along one axis of the source and one of the destination. Loops that share no
axis are independent: the sources that reach a tile are then a product of small sets, and the
fan-out of a source is a product too. So the loops are grouped into components that share axes, each
component is listed once (an axis times a window, say), and a tile only selects in these short
lists. Where loops do not follow the axes (a diagonal, say), all of them form one component: the
same code then enumerates the projection, exact as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import Strided

__all__ = ["Pattern", "Selection"]

LIST_LIMIT = 1 << 24
"""Synapses of a component that may be listed (128 MiB an array)."""

Loop = tuple[int, int, int]
"""Size, source stride, destination stride; strides in neurons of the flattened arrays."""
Axes = tuple[tuple[int, ...], tuple[int, ...]]
"""Source axes and destination axes that a component moves."""


@dataclass
class Selection:
    """What of one component reaches a tile."""

    sources: np.ndarray
    """Distinct partial source addresses."""
    fans: tuple[tuple[int, int], ...]
    """(synapses of a source, sources with that many)."""
    reached: np.ndarray | None = None
    """Flat indices over the source axes that the component moves, once asked for."""


@dataclass
class _Component:
    """Loops that share axes, listed: partial source addresses, and coordinates on the destination
    axes they move.
    """

    sources: np.ndarray
    axes: tuple[int, ...]
    coordinates: np.ndarray
    src_axes: tuple[int, ...] = ()
    """Source axes that it moves; no other component moves them."""
    cache: dict[tuple[int, ...], Selection] = field(default_factory=dict)
    images: dict[tuple[int, ...], tuple[tuple[int, int], ...] | None] = field(default_factory=dict)
    """Ranges on the source axes -> ranges on the destination axes."""

    def select(self, start: Sequence[int], stop: Sequence[int]) -> Selection:
        axes = self.axes
        if len(axes) == 1:  # most are, and this is asked very often
            key: tuple[int, ...] = (start[axes[0]], stop[axes[0]])
        else:
            key = tuple(v for a in axes for v in (start[a], stop[a]))
        found = self.cache.get(key)
        if found is None:
            inside = np.ones(self.sources.size, dtype=bool)
            for a, along in zip(self.axes, self.coordinates, strict=True):
                inside &= (along >= start[a]) & (along < stop[a])
            sources, counts = np.unique(self.sources[inside], return_counts=True)
            fans, sharing = np.unique(counts, return_counts=True)
            found = self.cache[key] = Selection(
                sources, tuple(zip(fans.tolist(), sharing.tolist(), strict=True))
            )
        return found


class Pattern:
    """A strided projection prepared for counting."""

    def __init__(
        self, projection: Strided, src_shape: tuple[int, ...], dst_shape: tuple[int, ...]
    ) -> None:
        self.src_shape = src_shape
        self.src_offset = projection.src_offset
        self.empty = prod(projection.sizes) == 0
        strides = zip(projection.sizes, projection.src_strides, projection.dst_strides, strict=True)
        loops = [] if self.empty else [loop for loop in strides if loop[0] > 1]
        for side, shape, offset in (
            (1, src_shape, projection.src_offset),
            (2, dst_shape, projection.dst_offset),
        ):
            reach = [loop[side] * (loop[0] - 1) for loop in loops]
            low, high = (
                offset + sum(min(0, r) for r in reach),
                offset + sum(max(0, r) for r in reach),
            )
            if not self.empty and not 0 <= low <= high < prod(shape):
                raise NeurocompileError(
                    "NC9001", f"projection '{projection.name}' leaves its population: {low}..{high}"
                )
        loops = _split(_split(loops, 1, src_shape), 2, dst_shape)
        src_axes = _axes(loops, 1, src_shape, projection.src_offset)
        dst_axes = _axes(loops, 2, dst_shape, projection.dst_offset)
        self.src_axes = src_axes
        """(source axis, step along it) of each loop that moves the source; None if loops do not
        follow the axes.
        """
        self.fixed: tuple[int, ...] = ()
        """Destination of the first synapse; () where there is none."""
        if dst_shape and not self.empty:
            place = np.unravel_index(projection.dst_offset, dst_shape)
            self.fixed = tuple(int(i) for i in place)
        if src_axes is None or dst_axes is None:
            groups, moved = [loops], [(tuple(range(len(src_shape))), tuple(range(len(dst_shape))))]
        else:
            groups, moved = _group(loops, src_axes, dst_axes)
        self.components = [
            _list(projection, group, axes, dst_shape, self.fixed)
            for group, axes in zip(groups, moved, strict=True)
        ]
        self.still = sorted(set(range(len(dst_shape))) - {a for _, axes in moved for a in axes})
        """Destination axes that no loop moves: a tile either holds ``fixed`` there or gets nothing.
        """

    def select(self, start: Sequence[int], stop: Sequence[int]) -> list[Selection] | None:
        """For each component, what reaches the box; None if nothing does. Sources and fan-outs
        multiply.
        """
        if self.empty:
            return None
        for a in self.still:
            if not start[a] <= self.fixed[a] < stop[a]:
                return None
        chosen = []
        for component in self.components:
            selection = component.select(start, stop)
            if not selection.fans:
                return None
            chosen.append(selection)
        return chosen

    def reach(
        self, start: Sequence[int], stop: Sequence[int]
    ) -> dict[tuple[int, ...], np.ndarray] | None:
        """The sources of the box as a product: source axes -> flat indices over these axes (absent:
        every index).

        None if nothing reaches the box.
        """
        chosen = self.select(start, stop)
        if chosen is None:
            return None
        found: dict[tuple[int, ...], np.ndarray] = {
            (a,): self._origin[a] for a in range(len(self.src_shape))
        }
        for component, selection in zip(self.components, chosen, strict=True):
            if component.src_axes:
                for a in component.src_axes:
                    del found[a,]
                found[component.src_axes] = self._reached(component, selection)
        return found

    @cached_property
    def _origin(self) -> list[np.ndarray]:
        """Index of the first source on each axis, int64 (1) each."""
        return (
            [np.array([a]) for a in np.unravel_index(self.src_offset, self.src_shape)]
            if self.src_shape
            else []
        )

    def _reached(self, component: _Component, selection: Selection) -> np.ndarray:
        """Flat indices of a selection over the source axes that its component moves, sorted."""
        if selection.reached is None:
            place = np.unravel_index(self.src_offset + selection.sources, self.src_shape)
            sizes = [self.src_shape[a] for a in component.src_axes]
            selection.reached = distinct(
                np.ravel_multi_index([place[a] for a in component.src_axes], sizes)
            )
        return selection.reached

    def image(
        self, start: Sequence[int], stop: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The smallest box of the destination that holds all that a box of the source reaches; None
        if it reaches nothing.
        """
        if self.empty:
            return None
        low, high = list(self.fixed), [i + 1 for i in self.fixed]
        for component in self.components:
            key = tuple(v for a in component.src_axes for v in (start[a], stop[a]))
            if key not in component.images:
                component.images[key] = self._image(component, start, stop)
            found = component.images[key]
            if found is None:
                return None
            for a, (first, last) in zip(component.axes, found, strict=True):
                low[a], high[a] = first, last
        origin = np.unravel_index(self.src_offset, self.src_shape) if self.src_shape else ()
        moved = {a for component in self.components for a in component.src_axes}
        if any(
            not start[a] <= origin[a] < stop[a]
            for a in range(len(self.src_shape))
            if a not in moved
        ):
            return None
        return tuple(int(i) for i in low), tuple(int(i) for i in high)

    def _image(
        self, component: _Component, start: Sequence[int], stop: Sequence[int]
    ) -> tuple[tuple[int, int], ...] | None:
        place = (
            np.unravel_index(self.src_offset + component.sources, self.src_shape)
            if self.src_shape
            else ()
        )
        inside = np.ones(component.sources.size, dtype=bool)
        for a in component.src_axes:
            inside &= (place[a] >= start[a]) & (place[a] < stop[a])
        if not inside.any():
            return None
        return tuple(
            (int(c[inside].min()), int(c[inside].max()) + 1) for c in component.coordinates
        )

    def fan_out(self, start: Sequence[int], stop: Sequence[int]) -> dict[int, int]:
        """Synapses of a source into the box -> number of sources with that many."""
        chosen = self.select(start, stop)
        if chosen is None:
            return {}
        total = {1: 1}
        for selection in chosen:
            if len(total) == 1 and len(selection.fans) == 1:
                ((fan, count),), ((factor, sharing),) = total.items(), selection.fans
                total = {fan * factor: count * sharing}
                continue
            merged: dict[int, int] = {}
            for fan, count in total.items():
                for factor, sharing in selection.fans:
                    merged[fan * factor] = merged.get(fan * factor, 0) + count * sharing
            total = merged
        return total

    def sources(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """Boolean array of the source's shape: the neurons that reach the box."""
        mask = np.zeros(prod(self.src_shape), dtype=bool)
        chosen = self.select(start, stop)
        if chosen is not None:
            address = np.array([self.src_offset])
            for selection in chosen:
                address = (address[:, None] + selection.sources).ravel()
            mask[address] = True
        return mask.reshape(self.src_shape)


def _steps(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(axis, neurons from one index to the next) of the axes longer than 1, longest step first."""
    return [(a, prod(shape[a + 1 :])) for a, n in enumerate(shape) if n > 1]


def _axis(stride: int, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The axis along which a stride moves, and how far; None if it moves along several."""
    for axis, step in _steps(shape):
        if abs(stride) >= step:
            return (axis, stride // step) if stride % step == 0 else None
    return None


def _split(loops: list[Loop], side: int, shape: tuple[int, ...]) -> list[Loop]:
    """Loops that run over the end of an axis, split into one along that axis and one along the axis
    before.
    """
    done, todo = [], list(loops)
    while todo:
        size, src, dst = loop = todo.pop(0)
        place = _axis(loop[side], shape) if loop[side] else None
        inner = shape[place[0]] // abs(place[1]) if place else size
        if place and 1 < inner < size and shape[place[0]] % place[1] == 0 and size % inner == 0:
            todo[:0] = [(size // inner, src * inner, dst * inner), (inner, src, dst)]
        else:
            done.append(loop)
    return done


def _axes(
    loops: list[Loop], side: int, shape: tuple[int, ...], offset: int
) -> list[tuple[int, int] | None] | None:
    """The axis and the step of each loop (None for stride 0), or None if some loop leaves its axis."""
    places = [_axis(loop[side], shape) if loop[side] else None for loop in loops]
    if any(place is None and loop[side] for place, loop in zip(places, loops, strict=True)):
        return None
    origin = (
        np.unravel_index(offset, shape)
        if shape and 0 <= offset < prod(shape)
        else (0,) * len(shape)
    )
    for axis, length in enumerate(shape):
        reach = [
            p[1] * (loop[0] - 1)
            for p, loop in zip(places, loops, strict=True)
            if p and p[0] == axis
        ]
        low, high = sum(min(0, r) for r in reach), sum(max(0, r) for r in reach)
        if not 0 <= origin[axis] + low <= origin[axis] + high < max(length, 1):
            return None
    return places


def _group(
    loops: list[Loop],
    src_axes: list[tuple[int, int] | None],
    dst_axes: list[tuple[int, int] | None],
) -> tuple[list[list[Loop]], list[Axes]]:
    """Loops grouped by shared axes, and the axes that each group moves."""
    groups: list[tuple[list[Loop], set[tuple[str, int]]]] = []
    for loop, src, dst in zip(loops, src_axes, dst_axes, strict=True):
        members = [loop]
        axes = {(side, place[0]) for side, place in (("src", src), ("dst", dst)) if place}
        for other in [g for g in groups if g[1] & axes]:
            groups.remove(other)
            members, axes = other[0] + members, axes | other[1]
        groups.append((members, axes))
    sides = [
        [tuple(sorted(a for side, a in g[1] if side == which)) for which in ("src", "dst")]
        for g in groups
    ]
    return [g[0] for g in groups], [(src, dst) for src, dst in sides]


def _list(
    projection: Strided,
    loops: list[Loop],
    moved: Axes,
    dst_shape: tuple[int, ...],
    fixed: Sequence[int],
) -> _Component:
    """List one component."""
    count = prod(loop[0] for loop in loops)
    if count > LIST_LIMIT:
        raise NeurocompileError(
            "NC9001",
            f"projection '{projection.name}' has {count:,} synapses in a pattern that follows no axes",
        )
    src = dst = np.zeros(1, dtype=np.int64)
    for size, src_stride, dst_stride in loops:
        index = np.arange(size, dtype=np.int64)
        src = (src[:, None] + index * src_stride).ravel()
        dst = (dst[:, None] + index * dst_stride).ravel()
    src_axes, axes = moved
    if not axes:
        return _Component(src, (), np.zeros((0, src.size), dtype=np.int64), src_axes)
    origin = sum(int(fixed[a]) * prod(dst_shape[a + 1 :]) for a in axes)
    return _Component(
        src, axes, np.stack([np.unravel_index(origin + dst, dst_shape)[a] for a in axes]), src_axes
    )
