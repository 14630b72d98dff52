"""Who reads a tile: the ports that its neurons (or positions) send to, and their axons there.

Found for one tile at a time. Neither memory nor time depends on the order of the cores, nor on how
many lie between two that hold parts of one population.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from neurocompile.images.layout import Layout, Reach, product_of

__all__ = ["Readers"]

_PLACE, _RANK = 32, (1 << 32) - 1
"""Where the two halves of a number lie: both add up along a product at once."""


class Readers:
    """The ports that read one population by neuron, or by position."""

    def __init__(self, layout: Layout, population: str, positional: bool) -> None:
        shape = layout.counter.circuit.population[population].shape
        self.shape = shape[:-1] if positional else shape
        self.ports = [
            p for p in layout.consumers[population] if p.positional == positional and p.axons
        ]
        self._layout = layout
        bounds: dict[int, np.ndarray] = {}
        boxes = np.empty((2, len(self.shape), len(self.ports)), np.int64)
        boxes[0], boxes[1] = 0, np.array(self.shape, np.int64).reshape(-1, 1)
        kept = []  # an index that lives on keeps its id
        for number, port in enumerate(self.ports):
            for axes, index in (layout.reach(port) or {}).items():
                if id(index) not in bounds:
                    kept.append(index)
                    place = np.unravel_index(index, [self.shape[a] for a in axes])
                    bounds[id(index)] = np.array([(p.min(), p.max() + 1) for p in place]).T
                boxes[:, axes, number] = bounds[id(index)]
        self._low, self._high = boxes
        """int64 (axes, ports): the smallest box around what each port reads."""

    def entries(
        self, start: Sequence[int], stop: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entries of the output lists of a box's neurons, in the box's own order.

        Returns:
            int64 each: how many each neuron has (box size); of each entry, list after list, the
            core, ascending, and its first axon there.
        """
        size = prod(b - a for a, b in zip(start, stop, strict=True))
        place, core, axon = self._meet(start, stop)
        order = np.argsort(_narrow(place, size), kind="stable")  # cores stay ascending
        place, core, axon = place[order], core[order], axon[order]
        again = (place[1:] == place[:-1]) & (core[1:] == core[:-1])
        if again.any():  # several ports of a core: the first axon begins the chain
            first = np.concatenate([[True], ~again])
            place, core, axon = place[first], core[first], axon[first]
        return np.bincount(place, minlength=size), core, axon

    def _meet(self, start: Sequence[int], stop: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Place in the box, core and axon of each axon of a source in the box, port after port."""
        near = np.ones(len(self.ports), bool)
        for a, (first, last) in enumerate(zip(start, stop, strict=True)):
            near &= (self._low[a] < last) & (self._high[a] > first)
        box = _Box(self.shape, start, stop)
        found, ports = [], []
        for number in np.flatnonzero(near).tolist():
            port = self.ports[number]
            reach = self._layout.reach(port)
            assert reach is not None
            both = box.inside(reach)
            if len(both):
                found.append(both)
                ports.append(port)
        if not found:
            none = np.zeros(0, np.int64)
            return none, none, none
        together, counts = np.concatenate(found), [len(both) for both in found]
        core, axon = (
            np.repeat(np.array(column, np.int64), counts)
            for column in ([port.core for port in ports], [port.axon for port in ports])
        )
        return together >> _PLACE, core, axon + (together & _RANK)


class _Box:
    """Sources of a product that lie in a box. Ports share most of their parts: each is met once."""

    def __init__(self, shape: Sequence[int], start: Sequence[int], stop: Sequence[int]) -> None:
        self.shape, self.start, self.stop = shape, start, stop
        self.strides = [
            prod(n - m for m, n in zip(start[a + 1 :], stop[a + 1 :], strict=True))
            for a in range(len(shape))
        ]
        self._met: dict[tuple[int, ...], np.ndarray] = {}
        self._kept: list[np.ndarray] = []  # an index that lives on keeps its id

    def inside(self, reach: Reach) -> np.ndarray:
        """int64: of each source in the box its place there, times 2^32, and its rank among all."""
        parts: list[tuple[int, ...]] = list(reach)
        if len(parts) < len(self.shape):
            read = {a for axes in parts for a in axes}
            parts += [(a,) for a in range(len(self.shape)) if a not in read]
        parts.sort()
        total, step = np.zeros(1, np.int64), 1
        for axes in reversed(parts):
            index = reach.get(axes)
            key = (*axes, -1 if index is None else id(index), step)
            if key not in self._met:
                if index is not None:
                    self._kept.append(index)
                self._met[key] = self._part(axes, index, step)
            met = self._met[key]
            if not len(met):
                return met
            total = np.add.outer(met, total).reshape(-1)
            step *= self.shape[axes[0]] if index is None else len(index)
        if [a for axes in parts for a in axes] != list(range(len(self.shape))):
            total = (total & ~_RANK) | _ranks(reach, self.shape)[total & _RANK]
        return total

    def _part(self, axes: tuple[int, ...], index: np.ndarray | None, step: int) -> np.ndarray:
        """The same of one part, whose neighbouring indices are ``step`` ranks apart."""
        first, last = self.start[axes[0]], self.stop[axes[0]]
        if index is None:  # read whole
            held = np.arange(first, last)
            return ((held - first) * self.strides[axes[0]] << _PLACE) + held * step
        place = np.unravel_index(index, [self.shape[a] for a in axes])
        inside = np.ones(len(index), bool)
        for a, along in zip(axes, place, strict=True):
            inside &= (along >= self.start[a]) & (along < self.stop[a])
        held = np.flatnonzero(inside)
        own = sum(
            (along[held] - self.start[a]) * self.strides[a]
            for a, along in zip(axes, place, strict=True)
        )
        return (own << _PLACE) + held * step


def _ranks(reach: Reach, shape: Sequence[int]) -> np.ndarray:
    """Ranks of the sources of a product whose parts do not follow the axes one after another."""
    sources = product_of(reach, shape)
    ranks = np.empty(len(sources), np.int64)
    ranks[np.argsort(sources)] = np.arange(len(sources))
    return ranks


def _narrow(place: np.ndarray, size: int) -> np.ndarray:
    """16 bits where they do: numpy then sorts by digits."""
    return place.astype(np.uint16) if size <= 1 << 16 else place
