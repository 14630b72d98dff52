"""Cuts populations into tiles that fit a core.

A population is cut along its token axes, its channel axis or both, whichever fills the fewest cores, then
takes least of them in total. Consumers are cut before their sources, so that the output axon lists of a source have a
bound (as if each tile of its consumers had a core of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil

import msgspec
import numpy as np

from neurocompile.errors import ViolationList
from neurocompile.ir.circuit import CircuitGraph, Conv2d, Population, Strided
from neurocompile.mapping.advice import does_not_fit_core
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile, grid
from neurocompile.mapping.traffic import AxonLists, axon_lists
from neurocompile.targets.schema import Target

__all__ = ["Partition", "lower_bound_cores", "partition"]

Partition = dict[str, list[tuple[Tile, Usage]]]
"""Population -> its tiles with what each takes (``axon_memory``: an upper bound)."""


def lower_bound_cores(circuit: CircuitGraph, target: Target) -> int:
    """Cores that any mapping needs at least, by the sums of the resources."""
    return max(cores for _, cores in CostCounter(circuit, target).shortages().values())


def partition(counter: CostCounter, tight: bool = False) -> Partition:
    """Tiles of every population on the chip, in depth order; NC3102 names all populations that cannot be cut to fit.

    Args:
        counter: of the circuit and the target.
        tight: prefer cuts that fill cores better, at the price of more packets.
    """
    tiles: dict[str, list[tuple[int, Tile]]] = {}
    found: Partition = {}
    violations = []
    for population in reversed(counter.on_chip):
        cutter = _Cutter(counter, population, axon_lists(counter, population.name, tiles), tight)
        chosen = cutter.best()
        if chosen is None:
            violations.append(does_not_fit_core(counter, cutter.heaviest(), cutter.usage))
            chosen = []
        found[population.name] = chosen
        # Numbers that no other population has: each tile stands for a core of its own.
        first = sum(map(len, tiles.values()))
        tiles[population.name] = [(first + i, tile) for i, (tile, _) in enumerate(chosen)]
    if violations:
        raise ViolationList("NC3102", violations[::-1])
    return {population.name: found[population.name] for population in counter.on_chip}


class _Cutter:
    """Finds how to cut one population."""

    def __init__(self, counter: CostCounter, population: Population, lists: AxonLists, tight: bool) -> None:
        self.counter, self.population, self.lists, self.tight = counter, population, lists, tight
        self.align = _alignment(counter, population)
        # consumers in a loop are cut later than their source, or with it: one tile a neuron if they are one to one
        self.loops = sum(q.recurrent for q in counter.outgoing[population.name])

    def usage(self, tile: Tile) -> Usage:
        """Resources of a tile, output axon lists included."""
        return msgspec.structs.replace(self.counter.usage(tile), axon_memory=self.lists.entries(tile) + self.loops * tile.size)

    def best(self) -> list[tuple[Tile, Usage]] | None:
        """The cut that fills the fewest cores, then with the least total; None if single neurons do not fit."""
        best: list[tuple[Tile, Usage]] | None = None
        least = (0.0, 0)
        if self.usage(self._neuron(tuple(n // 2 for n in self.population.shape))).excess(self.counter.target):
            return None
        tokens = int(np.prod(self.population.shape[:-1]))
        for channel_parts in _channel_candidates(self.population.shape):
            if best is not None and channel_parts > 2 * len(best):
                break
            cut = self._fewest_token_parts(channel_parts, tokens)
            if cut is not None:
                cost = self._cost(cut)
                if best is None or cost < least:
                    best, least = cut, cost
            if best is not None and len(best) == 1:
                break
        return best

    def _cost(self, cut: list[tuple[Tile, Usage]]) -> tuple[float, int]:
        """Cores filled if tiles shared cores with their like alone (of two just above half, each fills one); total.

        Whole cores, unless ``tight``: then more and smaller tiles win where they leave room for other layers.
        """
        cores = 0.0
        for _, usage in cut:
            needs = [(getattr(usage, name), limit) for name, limit in self.counter.target.capacity.items()]
            cores += 1 / min(limit // used for used, limit in needs if used)
        cores = round(cores, 6)
        return cores if self.tight else ceil(cores), sum(usage.total for _, usage in cut)

    def heaviest(self) -> Tile:
        """A single neuron that breaks a limit; the middle one unless only others do."""
        middle = tuple(n // 2 for n in self.population.shape)
        for index in (middle, *product(*map(range, self.population.shape))):
            tile = self._neuron(index)
            if self.usage(tile).excess(self.counter.target):
                return tile
        raise RuntimeError(f"population '{self.population.name}' has no neuron that breaks a limit")

    def _neuron(self, index: tuple[int, ...]) -> Tile:
        return Tile(self.population.name, index, tuple(i + 1 for i in index))

    def _fewest_token_parts(self, channel_parts: int, tokens: int) -> list[tuple[Tile, Usage]] | None:
        """Fewest token parts that fit: double until they do, then bisect."""
        low, high, cut = 0, 1, self._try(channel_parts, 1)
        while cut is None and high < tokens:
            low, high = high, min(2 * high, tokens)
            cut = self._try(channel_parts, high)
        while cut is not None and high - low > 1:
            middle = (low + high) // 2
            smaller = self._try(channel_parts, middle)
            low, high, cut = (middle, high, cut) if smaller is None else (low, middle, smaller)
        return cut

    def _try(self, channel_parts: int, token_parts: int) -> list[tuple[Tile, Usage]] | None:
        """The tiles of this cut, or None if one does not fit. The middle one is tried first: it has no border."""
        parts = _parts(self.population.shape, token_parts, channel_parts)
        tiles = grid(self.population, parts, self.align)
        found: list[tuple[Tile, Usage]] = []
        for tile in (tiles[len(tiles) // 2], *tiles):
            usage = self.usage(tile)
            if usage.excess(self.counter.target):
                return None
            found.append((tile, usage))
        return found[1:]


def _channel_candidates(shape: tuple[int, ...]) -> Iterator[int]:
    """Numbers of channel parts worth trying: few, divisors, and at last single channels."""
    channels = shape[-1] if shape else 1
    for parts in range(1, channels + 1):
        if parts <= 8 or channels % parts == 0:
            yield parts


def _parts(shape: tuple[int, ...], token_parts: int, channel_parts: int) -> tuple[int, ...]:
    """Parts along each axis: tokens are cut along the first axis, and along the next once that is in single steps."""
    parts = []
    for length in shape[:-1]:
        parts.append(min(length, token_parts))
        token_parts = -(-token_parts // length)
    return (*parts, channel_parts) if shape else ()


def _alignment(counter: CostCounter, population: Population) -> list[int]:
    """For each axis the largest stride at which a consumer reads it: cuts at multiples share no windows."""
    align = [1] * len(population.shape)
    for projection in counter.outgoing[population.name]:
        if isinstance(projection, Conv2d):
            steps = list(enumerate(projection.stride))
        elif isinstance(projection, Strided):
            steps = [place for place in counter.pattern(projection).src_axes or () if place]
        else:
            continue
        for axis, step in steps:
            align[axis] = max(align[axis], abs(step))
    return align
