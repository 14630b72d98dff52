"""The oracle of traffic and output lists: a boolean array over the neurons of the source for each
consumer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.ir.circuit import Conv2d, HostInput
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.traffic import home_cores

__all__ = ["AxonLists", "axon_lists", "flows"]

Homes = Mapping[str, Sequence[tuple[int, Tile]]]


@dataclass(frozen=True)
class AxonLists:
    """Entries of output axon lists by neuron and by position; None where no consumer addresses that
    way.
    """

    by_neuron: np.ndarray | None
    by_position: np.ndarray | None

    def entries(self, tile: Tile) -> int:
        """Axon-memory entries of a tile: destinations of those with several (a single one lies in
        the axon map).
        """
        total = 0
        if self.by_neuron is not None:
            fan = self.by_neuron[tile.slices]
            total += int(fan[fan > 1].sum())
        if self.by_position is not None:
            fan = self.by_position[tile.slices[:-1]]
            total += int(fan[fan > 1].sum())
        return total


def _reached(
    counter: CostCounter, population: str, homes: Homes, positional: bool
) -> dict[int, np.ndarray]:
    """Core -> neurons of ``population`` that have a consumer there, by one way of addressing."""
    masks: dict[int, np.ndarray] = {}
    for projection in counter.outgoing[population]:
        if isinstance(projection, Conv2d) == positional:
            for core, tile in homes.get(projection.dst, ()):
                mask = counter.sources(projection, tile)
                masks[core] = masks[core] | mask if core in masks else mask
    return masks


def axon_lists(counter: CostCounter, population: str, homes: Homes) -> AxonLists:
    """Output axon lists of a population whose consumers are at ``homes``."""
    shape = counter.circuit.population[population].shape
    by_neuron = by_position = None
    if population in counter.neuronal:
        by_neuron = np.full(shape, int(population in counter.to_host), dtype=np.int64)
        for mask in _reached(counter, population, homes, positional=False).values():
            by_neuron += mask
    if population in counter.positional:
        by_position = np.zeros(shape[:-1], dtype=np.int64)
        for mask in _reached(counter, population, homes, positional=True).values():
            by_position += mask.any(axis=-1)
    return AxonLists(by_neuron, by_position)


def flows(
    counter: CostCounter, cores: Sequence[Sequence[Tile]], rates: Mapping[str, float]
) -> tuple[np.ndarray, float, float]:
    """Packets of one step.

    Args:
        cores: tiles of each core.
        rates: population -> mean probability that a neuron sends in a step; 1 where absent.

    Returns:
        float64 (cores, cores), packets from row to column (the diagonal stays on its core); packets
        from the host; values to the host.
    """
    homes = home_cores(cores)
    between = np.zeros((len(cores), len(cores)))
    from_host = to_host = 0.0
    for population in counter.circuit.populations:
        name, rate = population.name, rates.get(population.name, 1.0)
        masks = _reached(counter, name, homes, positional=False)
        for core, mask in _reached(counter, name, homes, positional=True).items():
            masks[core] = masks[core] | mask if core in masks else mask
        for core, mask in sorted(masks.items()):
            for home, tile in homes.get(name, ()):
                between[home, core] += rate * int(np.count_nonzero(mask[tile.slices]))
            if isinstance(population, HostInput):
                from_host += rate * int(np.count_nonzero(mask))
        to_host += rate * population.size * (name in counter.to_host)
    return between, from_host, to_host
