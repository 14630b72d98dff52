"""Cuts tiles anew where they lie: rounds of splitting, annealing and merging, which find cuts that no
grid has.

A grid cuts a population into nearly equal boxes before anybody knows which core they go to. Here every
round splits tiles of the mapping so far at random places, in two each, anneals the pieces
(:mod:`neurocompile.mapping.relaxed`), and merges those of a population that then lie side by side on a
core. Pieces fill what is left of a core exactly, and what turns out to belong together is one tile again.

All chance comes from one seed, so the same input gives the same tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import add, sub
from random import Random
from typing import NamedTuple

import numpy as np

from neurocompile.mapping.grants import Grants
from neurocompile.mapping.packing import hypergraph
from neurocompile.mapping.refine import km1
from neurocompile.mapping.relaxed import refine_relaxed
from neurocompile.mapping.resources import CostCounter, limits_of
from neurocompile.mapping.tile import Tile, merge_boxes
from neurocompile.mapping.tile_graph import make_tile_graph
from neurocompile.targets.schema import RESOURCES

__all__ = ["Chain", "Mapped"]

PIECES = 26
"""Pieces that tiles are split into, a core, at most."""
DOUBLED = 12
"""The same where tiles are few: up to twice as many pieces as tiles, or so many a core."""
STEPS = 400
"""Moves tried for each piece in a round."""
WORK = 12_000
"""Pieces of all rounds together, at most."""
PATIENCE = 20
"""Rounds without a better mapping after which there are no more."""
HOT, FLOOR, COLD = 0.6, 0.15, 0.05
"""Temperatures, in mean weights of a net: at first in the first round, at first in a late one, and at
last in every round.
"""
COOLER = 0.95
"""Part of the first temperature that is left after a round that found nothing better."""
LIGHT, HEAVY = 1.0, 1000.0
"""Price of exceeding a capacity by all of it, in mean packets of a core: at first and at last in a
round.
"""


class Mapped(NamedTuple):
    """Tiles with their cores."""

    tiles: Sequence[Tile]
    core_of: np.ndarray
    """int64 (tiles)."""
    cost: float
    """Packets a step, those from the host included."""


class Chain:
    """A mapping that gets better from round to round."""

    def __init__(
        self,
        counter: CostCounter,
        rates: Mapping[str, float],
        start: Mapped,
        spikes: Grants | None,
        seed: int,
        sent: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """A chain of rounds.

        Args:
            counter: of the circuit and the target.
            rates: population -> mean probability that a neuron sends in a step; 1 where absent.
            start: of all populations on the chip, within all capacities.
            spikes: expected messages that a core may send in a step.
            seed: of all chance.
            sent: messages of each neuron a step, where they were counted (:func:`make_tile_graph`).
        """
        self.sent = sent
        self.counter, self.rates, self.spikes, self.chance = counter, rates, spikes, Random(seed)
        self.cores = int(start.core_of.max(initial=-1)) + 1
        self.best = Mapped(*merge_boxes(start.tiles, start.core_of), start.cost)
        """The best mapping so far."""
        self._hot, self._idle, self._pieces = HOT, 0, 0

    def run(self, rounds: int) -> None:
        """Some more rounds, unless more are not worth it."""
        for _ in range(rounds):
            worth = self.cores > 1 and self.best.cost > 0 and self._pieces < WORK
            if not worth or self._idle >= PATIENCE:
                break
            before = self.best.cost
            self._pieces += self._round(self._hot)
            if self.best.cost < before:
                self._idle = 0
            else:
                self._hot, self._idle = max(FLOOR, self._hot * COOLER), self._idle + 1

    def _round(self, hot: float) -> int:
        """Split, anneal, merge; the number of pieces."""
        pieces, start = self._split()
        graph = make_tile_graph(self.counter, pieces, self.rates, sent=self.sent)
        usage = [self.counter.usage(tile) for tile in pieces]
        instance = hypergraph(graph, usage, self.spikes)
        found = refine_relaxed(
            instance,
            start,
            self.cores,
            steps=STEPS * len(pieces),
            hot=hot,
            cold=COLD,
            light=LIGHT,
            heavy=HEAVY,
            seed=self._below(1 << 32),
        )
        if found is not None:
            cost = km1(instance, found)
            if cost < self.best.cost:
                self.best = Mapped(*merge_boxes(pieces, found), cost)
        return len(pieces)

    def _split(self) -> tuple[list[Tile], np.ndarray]:
        """Some tiles in two, at random places, as far as that takes no core beyond its capacities;
        pieces, their cores.
        """
        tiles, core_of = list(self.best.tiles), self.best.core_of.tolist()
        limits = limits_of(self.counter.target)
        shared = RESOURCES.index("neuron_groups")
        taken = [self.counter.usage(tile).columns() for tile in tiles]
        used = [(0,) * len(limits)] * self.cores
        for takes, core in zip(taken, core_of, strict=True):
            used[core] = tuple(map(add, used[core], takes))
        want = min(max(2 * len(tiles), DOUBLED * self.cores), PIECES * self.cores)
        for _ in range(8 * want):
            if len(tiles) >= want:
                break
            number = self._below(len(tiles))
            tile, core = tiles[number], core_of[number]
            axes = [a for a, n in enumerate(tile.shape) if n > 1]
            if not axes:
                continue
            axis = axes[self._below(len(axes))]
            extent = tile.shape[axis]
            at = (1, extent - 1, extent // 2, 1 + self._below(extent - 1))[self._below(4)]
            halves = _parts(tile, axis, tile.start[axis] + at)
            first, second = (self.counter.usage(half).columns() for half in halves)
            after = tuple(map(add, map(add, map(sub, used[core], taken[number]), first), second))
            if all(
                a <= max(b, c) or r == shared
                for r, (a, b, c) in enumerate(zip(after, used[core], limits, strict=True))
            ):
                used[core], tiles[number], taken[number] = after, halves[0], first
                tiles.append(halves[1])
                taken.append(second)
                core_of.append(core)
        return tiles, np.array(core_of, dtype=np.int64)

    def _below(self, n: int) -> int:
        """A random whole number in 0..n-1: of ``Random`` only ``random`` is promised to stay."""
        return int(self.chance.random() * n)


def _parts(tile: Tile, axis: int, at: int) -> tuple[Tile, Tile]:
    """The parts of a tile below and from ``at`` along an axis."""
    low = (*tile.stop[:axis], at, *tile.stop[axis + 1 :])
    high = (*tile.start[:axis], at, *tile.start[axis + 1 :])
    return Tile(tile.population, tile.start, low), Tile(tile.population, high, tile.stop)
