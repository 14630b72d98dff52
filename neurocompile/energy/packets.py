"""Packets between cores: each message goes once to every distinct core where its neuron has a
synapse.

Sources that reach a tile are products of index sets (rows x columns x channels, or the components
of a strided pattern), so packets are counted by adding up message counts over these sets: exact,
and in time of the packets' sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Table
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.ir.circuit import CircuitGraph, Conv2d, Dense, HostInput, Strided
from neurocompile.ir.tables import KindTable
from neurocompile.mapping import Mapping
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.traffic import home_cores
from neurocompile.targets.schema import Slot, Target

__all__ = ["Packets", "count_packets", "link_loads", "routed"]


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


def count_packets(
    circuit: CircuitGraph, mapping: Mapping, target: Target, messages: Table[str, np.ndarray]
) -> Packets:
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
        owner, sent = np.asarray(owners, np.int64), messages[population.name]
        whole = np.bincount(label, weights=sent, minlength=len(owners))
        reach: dict[int, list[np.ndarray | None]] = {}
        for projection in counter.outgoing[population.name]:
            for core, tile in homes.get(projection.dst, ()):
                reach.setdefault(core, []).append(SOURCES.of(projection)(counter, projection, tile))
        seen = np.zeros(population.size, bool)
        for core, parts in sorted(reach.items(), key=lambda item: item[0]):
            if any(part is None for part in parts):
                used = np.flatnonzero(whole)
                sums = whole[used]
            else:
                chosen = _union([part for part in parts if part is not None], seen)
                used, inverse = np.unique(label[chosen], return_inverse=True)
                sums = np.bincount(inverse, weights=sent[chosen], minlength=len(used))
                used, sums = used[sums > 0], sums[sums > 0]
            if used.size:
                same = np.full(used.size, 1, np.int64)
                found.append((index * same, owner[used], core * same, sums))
    none = np.zeros(0, np.int64)
    found.append((none, none, none, np.zeros(0)))
    populations, src, dst, count = (np.concatenate(column) for column in zip(*found))
    return routed(populations, src, dst, count, [core.slot for core in mapping.cores], target)


def routed(
    population: np.ndarray,
    src: np.ndarray,
    dst: np.ndarray,
    count: np.ndarray,
    slots: Sequence[Slot],
    target: Target,
) -> Packets:
    """Packets with the way that each goes; ``slots`` are the places of the cores."""
    place = np.asarray([target.tile_position(slot) for slot in slots], np.int64).reshape(-1, 2)
    far = (
        np.where((src < 0)[:, None], 0, np.abs(place[src] - place[dst]))
        if src.size
        else np.zeros((0, 2), np.int64)
    )
    board = place // np.asarray([target.mesh.columns.value, target.mesh.rows.value])
    chips = (
        np.where(src < 0, 0, np.abs(board[src] - board[dst]).sum(axis=1))
        if src.size
        else np.zeros(0, np.int64)
    )
    return Packets(population, src, dst, count, far[:, 0], far[:, 1], chips)


def _union(parts: list[np.ndarray], seen: np.ndarray) -> np.ndarray:
    """Distinct neurons of index arrays that hold each neuron once; ``seen`` is all False before and
    after.
    """
    if len(parts) == 1:
        return parts[0]
    kept = []
    for part in parts:
        kept.append(part[~seen[part]])
        seen[part] = True
    chosen = np.concatenate(kept)
    seen[chosen] = False
    return chosen


SOURCES: KindTable[Callable[[CostCounter, Any, Tile], np.ndarray | None]] = KindTable(
    "packets", ("projection",), "which neurons reach a tile"
)
"""(counter, projection, tile) -> flat indices of the source neurons that reach a tile, each once;
None for all of them."""
SOURCES.add(lambda counter, projection, tile: None, Dense)


@SOURCES.rule(Conv2d)
def _convolution_sources(counter: CostCounter, q: Conv2d, tile: Tile) -> np.ndarray:
    src = counter.circuit.population[q.src]
    axes, kernel = [], counter.circuit.tensors[q.weight].shape[1:3]
    for a in (0, 1):
        first = np.arange(tile.start[a], tile.stop[a]) * q.stride[a] - q.padding[a]
        index = distinct(first[:, None] + np.arange(kernel[a]) * q.dilation[a])
        axes.append(index[(index >= 0) & (index < src.shape[a])])
    size = counter.circuit.population[q.dst].shape[2] // q.groups
    per_group = src.shape[2] // q.groups
    groups = np.arange(tile.start[2] // size, (tile.stop[2] - 1) // size + 1)
    channels = (groups[:, None] * per_group + np.arange(per_group)).reshape(-1)
    places = (axes[0][:, None] * src.shape[1] + axes[1]).reshape(-1)
    return (places[:, None] * src.shape[2] + channels).reshape(-1)


@SOURCES.rule(Strided)
def _strided_sources(counter: CostCounter, q: Strided, tile: Tile) -> np.ndarray:
    pattern = counter.pattern(q)
    index = np.zeros(0, np.int64)
    selections = pattern.select(tile.start, tile.stop)
    if selections is not None:
        index = np.array([pattern.src_offset])
        for selection in selections:
            index = (index[:, None] + selection.sources).reshape(-1)
    return distinct(index) if len(selections or ()) > 1 else index


def link_loads(packets: Packets, mapping: Mapping, target: Target) -> dict[str, np.ndarray]:
    """Packets of one inference over each link, routed along x first, then along y (the order is
    assumed).

    Returns:
        ``east``, ``west``, ``south``, ``north``: float64 (rows, columns) of all tiles of all chips;
            the link that
        leaves the tile in that direction (south is the direction of growing rows).
    """
    chips, wide = target.chips.value, target.chip_columns.value
    rows, columns = -(-chips // wide) * target.mesh.rows.value, wide * target.mesh.columns.value
    place = np.asarray(
        [target.tile_position(core.slot) for core in mapping.cores], np.int64
    ).reshape(-1, 2)
    inside = packets.src >= 0
    (x1, y1), (x2, y2) = place[packets.src[inside]].T, place[packets.dst[inside]].T
    count = packets.count[inside]
    # +n where a run of links starts, -n behind its end; the running sum is the load
    edges = {name: np.zeros((rows + 1, columns + 1)) for name in ("east", "west", "south", "north")}
    for name, go, (first, last), fixed in (
        ("east", x2 > x1, (x1, x2), y1),
        ("west", x2 < x1, (x2 + 1, x1 + 1), y1),
    ):
        np.add.at(edges[name], (fixed[go], first[go]), count[go])
        np.add.at(edges[name], (fixed[go], last[go]), -count[go])
    for name, go, (first, last) in (
        ("south", y2 > y1, (y1, y2)),
        ("north", y2 < y1, (y2 + 1, y1 + 1)),
    ):
        np.add.at(edges[name], (first[go], x2[go]), count[go])
        np.add.at(edges[name], (last[go], x2[go]), -count[go])
    axis = {"east": 1, "west": 1, "south": 0, "north": 0}
    return {
        name: np.maximum(np.cumsum(e, axis=axis[name])[:rows, :columns], 0.0)
        for name, e in edges.items()
    }
