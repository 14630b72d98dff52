"""Output lists: for each neuron, and each position, the cores it sends to and its first axon there.

Made for a tile at a time from the ports that read it. Where convolutions take some channels of a
position alone, lists are made for all positions of the population, whose channel sets they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from neurocompile.images.image import ALL_CHANNELS, HOST_CORE, NO_AXON, Outputs
from neurocompile.images.layout import Layout, Port, flat_indices
from neurocompile.images.readers import Readers
from neurocompile.ir.circuit import Conv2d
from neurocompile.mapping.tile import Tile

__all__ = ["OutputMaps", "link_chain"]


def link_chain(
    sources: Sequence[np.ndarray], axons: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Chains of the axons that one core has of one population.

    Args:
        sources: of each port, the source of each axon; axons: the axons.

    Returns:
        Sources, each once and ascending; the first axon of each; pairs (axon, next axon).
    """
    source, axon = np.concatenate(sources), np.concatenate(axons)
    order = np.argsort(source, kind="stable")
    source, axon = source[order], axon[order]
    same = source[1:] == source[:-1]
    first = np.concatenate([[True], ~same]) if len(source) else np.zeros(0, bool)
    return source[first], axon[first], axon[:-1][same], axon[1:][same]


@dataclass(frozen=True)
class _Lists:
    """Of one population, by position: entries of source s are ``ends[s]..ends[s + 1]``."""

    ends: np.ndarray
    core: np.ndarray
    axon: np.ndarray
    chosen: np.ndarray

    def rows(self, index: np.ndarray) -> tuple[np.ndarray, ...]:
        """Counts, cores, axons and channel sets of the lists of ``index``."""
        count = self.ends[index + 1] - self.ends[index]
        stop = np.cumsum(count)
        place = np.arange(int(stop[-1]) if len(stop) else 0)
        place += np.repeat(self.ends[index] - (stop - count), count)
        return count, self.core[place], self.axon[place], self.chosen[place]


class OutputMaps:
    """Output lists of the populations of a layout, made when asked for."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._readers: dict[tuple[str, bool], Readers] = {}
        self._grouped: dict[str, tuple[_Lists, np.ndarray]] = {}

    def of(self, held: Sequence[Tile]) -> Outputs:
        """Of tiles that lie together: neurons of each, then positions of each."""
        counter = self.layout.counter
        parts, sets, known, widest = [], [], 0, 0
        for positional in (False, True):
            names = counter.positional if positional else counter.neuronal
            for tile in held:
                if tile.population not in names:
                    continue
                shape = counter.circuit.population[tile.population].shape
                if positional:
                    widest = max(widest, shape[-1])
                if positional and self._has_groups(tile.population):
                    lists, channel_sets = self._lists(tile.population)
                    flat = Tile(tile.population, tile.start[:-1], tile.stop[:-1])
                    count, core, axon, chosen = lists.rows(flat_indices(flat, shape[:-1]))
                    if len(channel_sets):
                        chosen = np.where(chosen == ALL_CHANNELS, ALL_CHANNELS, chosen + known)
                        sets.append(channel_sets)
                        known += len(channel_sets)
                else:
                    count, core, axon = self._entries(tile, positional)
                    chosen = np.full(len(core), ALL_CHANNELS)
                parts.append((count, core, axon, chosen))
        if not parts:
            return Outputs()
        count, core, axon, chosen = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Outputs(
            np.cumsum(count),
            core.astype(np.int32),
            axon.astype(np.int32),
            chosen.astype(np.int32),
            _stacked(sets, widest),
        )

    def _entries(self, tile: Tile, positional: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts, cores and first axons of the lists of a tile's neurons or positions."""
        key = (tile.population, positional)
        if key not in self._readers:
            self._readers[key] = Readers(self.layout, *key)
        axes = len(tile.start) - positional
        count, core, axon = self._readers[key].entries(tile.start[:axes], tile.stop[:axes])
        if positional or tile.population not in self.layout.counter.to_host:
            return count, core, axon
        first = np.cumsum(count) - count  # the host's entry before the cores'
        return count + 1, np.insert(core, first, HOST_CORE), np.insert(axon, first, NO_AXON)

    def _has_groups(self, population: str) -> bool:
        """Whether a convolution takes only some of the channels of a position."""
        outgoing = self.layout.counter.outgoing[population]
        return any(isinstance(q, Conv2d) and q.groups > 1 for q in outgoing)

    def _lists(self, population: str) -> tuple[_Lists, np.ndarray]:
        """Lists and channel sets of all positions of a population that is read by channel groups."""
        if population not in self._grouped:
            self._grouped[population] = self._make(population)
        return self._grouped[population]

    def _make(self, population: str) -> tuple[_Lists, np.ndarray]:
        layout = self.layout
        shape = layout.counter.circuit.population[population].shape
        size = int(np.prod(shape[:-1], dtype=np.int64))
        found: list[tuple[np.ndarray, ...]] = []
        sets: list[np.ndarray] = []
        ports = [p for p in layout.consumers[population] if p.positional and p.axons]
        for core, group in groupby(ports, key=lambda p: p.core):
            here = list(group)
            sources = [layout.sources(port) for port in here]
            axons = [np.arange(port.axon, port.axon + port.axons) for port in here]
            source, first, _, _ = link_chain(sources, axons)
            chosen = self._channels(here, sources, source, sets)
            if chosen is None:
                chosen = np.full(len(source), ALL_CHANNELS)
            found.append((source, np.full(len(source), core), first, chosen))
        if not found:
            none = np.zeros(0, np.int64)
            return _Lists(np.zeros(size + 1, np.int64), none, none, none), _stacked([])
        source, core, axon, chosen = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(source, kind="stable")  # cores stay ascending
        ends = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=size))])
        return _Lists(ends, core[order], axon[order], chosen[order]), _stacked(sets)

    def _channels(
        self,
        ports: list[Port],
        sources: list[np.ndarray],
        source: np.ndarray,
        sets: list[np.ndarray],
    ) -> np.ndarray | None:
        """Channel set of each position of ``source``, whose ports on one core are ``ports``; new sets
        are added to ``sets``. None if all of them take all channels.
        """
        taken = [self.layout.channels(port) for port in ports]
        if all(t is None for t in taken):
            return None
        channels = next(len(t) for t in taken if t is not None)
        reads = np.zeros((len(source), len(ports)), np.uint8)
        for i, own in enumerate(sources):
            reads[np.searchsorted(source, own), i] = 1
        kinds, which = np.unique(reads, axis=0, return_inverse=True)
        everything = np.ones(channels, np.uint8)
        masks = np.stack([everything if t is None else t for t in taken])
        number = np.full(len(kinds), ALL_CHANNELS)
        for i, kind in enumerate(kinds):
            union = masks[kind > 0].max(axis=0)
            if not union.all():
                number[i] = sum(map(len, sets))
                sets.append(union[None])
        return number[which.reshape(-1)]


def _stacked(sets: Sequence[np.ndarray], widest: int = 0) -> np.ndarray:
    """Sets of perhaps different numbers of channels as one array, uint8 (sets, ``widest`` or more)."""
    if not sets:
        return np.zeros((0, 0), np.uint8)
    widest = max(widest, *(part.shape[1] for part in sets))
    padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1]))) for part in sets]
    return np.concatenate(padded).astype(np.uint8)
