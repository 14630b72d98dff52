"""Packs tiles into cores.

In depth order each tile goes, of the open cores where it fits, to the one whose messages it shares most: sources that
lie there, or that send there already. A new core opens only where a tile fits none.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from neurocompile.mapping.partition import Partition
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile

__all__ = ["pack"]


class _Open:
    """A core that is being filled."""

    def __init__(self) -> None:
        self.tiles: list[Tile] = []
        self.used = Usage()
        self.known: dict[str, np.ndarray] = {}
        """Population -> its neurons that lie here or send here already."""

    def with_tile(self, tile: Tile, usage: Usage) -> Usage:
        """Usage once the tile is here too; a population takes one neuron group, whatever its tiles."""
        shared = any(other.population == tile.population for other in self.tiles)
        return self.used + (msgspec.structs.replace(usage, neuron_groups=0) if shared else usage)


def pack(counter: CostCounter, parts: Partition, rates: Mapping[str, float]) -> tuple[tuple[Tile, ...], ...]:
    """Tiles by core, in depth order.

    Args:
        counter: of the circuit and the target.
        parts: tiles of each population, with an upper bound of what they take.
        rates: population -> mean probability that a neuron sends in a step; 1 where absent.
    """
    target, cores = counter.target, list[_Open]()
    for name, tiles in parts.items():
        incoming = counter.circuit.incoming[name]
        for tile, usage in tiles:
            masks = [(p.src, rates.get(p.src, 1.0), counter.sources(p, tile)) for p in incoming]
            best, best_shared = None, -1.0
            for core in cores:
                after = core.with_tile(tile, usage)
                if after.excess(target):
                    continue
                shared = sum(
                    rate * int(np.count_nonzero(mask & core.known[src]))
                    for src, rate, mask in masks
                    if src in core.known
                )
                if shared > best_shared:
                    best, best_shared = core, shared
            if best is None:
                best = _Open()
                cores.append(best)
            best.used = best.with_tile(tile, usage)
            best.tiles.append(tile)
            own = np.zeros(counter.circuit.population[name].shape, dtype=bool)
            own[tile.slices] = True
            for src, mask in (*((src, mask) for src, _, mask in masks), (name, own)):
                best.known[src] = best.known[src] | mask if src in best.known else mask
    return tuple(tuple(core.tiles) for core in cores)
