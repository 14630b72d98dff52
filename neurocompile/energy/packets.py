"""Packets between cores: each message goes once to every distinct core where its neuron has a synapse.

Sources that reach a tile are products of index sets (rows x columns x channels, or the components of a strided
pattern), so packets are counted by adding up message counts over these sets: exact, and in time of the packets' sources.
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass

import numpy as np

from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.mapping import Mapping
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.traffic import home_cores
from neurocompile.targets.schema import Target

__all__ = ["Packets", "count_packets", "link_loads"]


@dataclass(frozen=True)
class Packets:
    """Packets of one inference by population, source core and destination core; equal lengths."""

    population: np.ndarray
    """int64, index into the circuit's populations."""
    src: np.ndarray
    """int64 core of the mapping; -1 the host."""
    dst: np.ndarray
    """int64 core of the mapping."""
    count: np.ndarray
    """float64."""
    hops_x: np.ndarray
    """int64, tiles to the east or west; 0 from the host, whose place is unknown."""
    hops_y: np.ndarray
    """int64, tiles to the north or south."""
    chips: np.ndarray
    """int64, chip borders crossed."""


def count_packets(circuit: CircuitGraph, mapping: Mapping, target: Target, messages: Table[str, np.ndarray]) -> Packets:
    """Count the packets of ``messages`` (population -> float64 (neurons,), of one inference)."""
    counter = CostCounter(circuit, target)
    homes = home_cores([core.tiles for core in mapping.cores])
    found: list[tuple[np.ndarray, ...]] = []
    for index, population in enumerate(circuit.populations):
        on_host = isinstance(population, HostInput)
        label = np.zeros(population.size, np.int64)
        owners = [-1] if on_host else [core for core, _ in homes[population.name]]
        grid = label.reshape(population.shape)
        for i, (_, tile) in enumerate(() if on_host else homes[population.name]):
            grid[tile.slices] = i
        reach: dict[int, dict[int, np.ndarray]] = {}
        for projection in counter.outgoing[population.name]:
            for core, tile in homes.get(projection.dst, ()):
                mask = counter.sources(projection, tile)
                reach.setdefault(core, {})[id(mask)] = mask
        owner = np.asarray(owners, np.int64)
        for core, masks in sorted(reach.items()):
            union = np.logical_or.reduce(list(masks.values())).reshape(-1)
            sums = np.bincount(label[union], weights=messages[population.name][union], minlength=len(owners))
            used = np.flatnonzero(sums)
            if used.size:
                same = np.full(used.size, 1, np.int64)
                found.append((index * same, owner[used], core * same, sums[used]))
    columns = [np.concatenate(c) for c in zip(*found)] if found else [np.zeros(0, np.int64)] * 3 + [np.zeros(0)]
    place = np.asarray([target.tile_position(core.slot) for core in mapping.cores], np.int64).reshape(-1, 2)
    src, dst = columns[1], columns[2]
    far = np.where((src < 0)[:, None], 0, np.abs(place[src] - place[dst])) if src.size else np.zeros((0, 2), np.int64)
    board = place // np.asarray([target.mesh.columns.value, target.mesh.rows.value])
    chips = np.where(src < 0, 0, np.abs(board[src] - board[dst]).sum(axis=1)) if src.size else np.zeros(0, np.int64)
    return Packets(*columns, far[:, 0], far[:, 1], chips)


def link_loads(packets: Packets, mapping: Mapping, target: Target) -> dict[str, np.ndarray]:
    """Packets of one inference over each link, routed along x first, then along y (the order is assumed).

    Returns:
        ``east``, ``west``, ``south``, ``north``: float64 (rows, columns) of all tiles of all chips; the link that
        leaves the tile in that direction (south is the direction of growing rows).
    """
    chips, wide = target.chips.value, target.chip_columns.value
    rows, columns = -(-chips // wide) * target.mesh.rows.value, wide * target.mesh.columns.value
    place = np.asarray([target.tile_position(core.slot) for core in mapping.cores], np.int64).reshape(-1, 2)
    inside = packets.src >= 0
    (x1, y1), (x2, y2) = place[packets.src[inside]].T, place[packets.dst[inside]].T
    count = packets.count[inside]
    # +n where a run of links starts, -n behind its end; the running sum is the load
    edges = {name: np.zeros((rows + 1, columns + 1)) for name in ("east", "west", "south", "north")}
    for name, go, (first, last), fixed in (
        ("east", x2 > x1, (x1, x2), y1), ("west", x2 < x1, (x2 + 1, x1 + 1), y1),
    ):  # fmt: skip
        np.add.at(edges[name], (fixed[go], first[go]), count[go])
        np.add.at(edges[name], (fixed[go], last[go]), -count[go])
    for name, go, (first, last) in (("south", y2 > y1, (y1, y2)), ("north", y2 < y1, (y2 + 1, y1 + 1))):
        np.add.at(edges[name], (first[go], x2[go]), count[go])
        np.add.at(edges[name], (last[go], x2[go]), -count[go])
    axis = {"east": 1, "west": 1, "south": 0, "north": 0}
    return {name: np.maximum(np.cumsum(e, axis=axis[name])[:rows, :columns], 0.0) for name, e in edges.items()}
