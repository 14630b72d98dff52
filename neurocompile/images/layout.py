"""Which ports each core has, and where their axons begin: compact, before any table is made.

A *port* is a projection into a tile. Its axons stand in the order of their sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.ir.circuit import Conv2d, Projection
from neurocompile.ir.layout import strided_index
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile

__all__ = ["Layout", "Port", "Reach", "flat_indices", "product_of"]

Reach = Mapping[tuple[int, ...], np.ndarray]
"""Sets of indices over axes, each sorted, of which sources are the product; absent axes are whole."""


@dataclass(frozen=True)
class Port:
    """A projection into the tile that is group ``group`` of core ``core``."""

    projection: Projection
    tile: Tile
    core: int
    group: int
    axon: int
    """Its first axon on the core."""
    axons: int
    positional: bool
    """Whether an axon stands for a position of the source's array."""


def flat_indices(tile: Tile, shape: Sequence[int]) -> np.ndarray:
    """Indices of a tile's neurons in the flattened array of its population, in the tile's own order,
    int64.
    """
    strides = np.cumprod([1, *reversed(shape[1:])])[::-1] if shape else ()
    offset = sum(int(a) * int(s) for a, s in zip(tile.start, strides))
    return strided_index(tile.shape, tuple(int(s) for s in strides), offset)


class Layout:
    """Ports of all cores of a mapping.

    Args:
        counter: of the circuit and the target.
        held: the tiles of each core.
    """

    def __init__(self, counter: CostCounter, held: Sequence[Sequence[Tile]]) -> None:
        self.counter, self.held = counter, held
        self.ports: list[list[Port]] = []
        """By core."""
        self.consumers: dict[str, list[Port]] = {p.name: [] for p in counter.circuit.populations}
        """By source population, in the order of cores."""
        for core, tiles in enumerate(held):
            found, axon = [], 0
            for group, tile in enumerate(tiles):
                for projection in counter.circuit.incoming[tile.population]:
                    axons, _ = counter.synapses(projection, tile)
                    positional = counter.cost.positional and isinstance(projection, Conv2d)
                    port = Port(projection, tile, core, group, axon, axons, positional)
                    axon += axons
                    found.append(port)
                    self.consumers[projection.src].append(port)
            self.ports.append(found)

    def reach(self, port: Port) -> Reach | None:
        """Sources of a port's axons, as a product; None if it has none."""
        if not port.axons:
            return None
        reach = self.counter.reach(port.projection, port.tile)
        if reach is None or not port.positional:
            return reach
        axes = len(self.counter.circuit.population[port.projection.src].shape) - 1
        return {along: index for along, index in reach.items() if along[-1] < axes}

    def sources(self, port: Port) -> np.ndarray:
        """Source neuron (or position) of each axon of a port: flat indices, ascending, int64."""
        shape = self.counter.circuit.population[port.projection.src].shape
        reach = self.reach(port)
        if reach is None:
            return np.zeros(0, np.int64)
        return np.sort(product_of(reach, shape[:-1] if port.positional else shape))

    def channels(self, port: Port) -> np.ndarray | None:
        """uint8 (channels of the source): those that a positional port takes; None for all."""
        projection = port.projection
        if not isinstance(projection, Conv2d) or projection.groups == 1:
            return None
        reach = self.counter.reach(projection, port.tile)
        size = self.counter.circuit.population[projection.src].shape[2]
        found = np.zeros(size, np.uint8)
        if reach is not None:
            found[reach[2,]] = 1
        return None if found.all() else found


def product_of(reach: Reach, shape: Sequence[int]) -> np.ndarray:
    """Flat indices of a product of index sets over axes, the last of its parts running fastest."""
    strides = [int(np.prod(shape[a + 1 :], dtype=np.int64)) for a in range(len(shape))]
    read = {a for axes in reach for a in axes}
    parts = dict(reach) | {(a,): np.arange(n) for a, n in enumerate(shape) if a not in read}
    total = np.zeros(1, np.int64)
    for axes in sorted(parts):
        place = np.unravel_index(parts[axes], [shape[a] for a in axes])
        offset = sum(p.astype(np.int64) * strides[a] for p, a in zip(place, axes, strict=True))
        total = (total[:, None] + offset).reshape(-1)
    return total
