"""Mappings by chance: tiles cut and laid on cores without regard for any limit. What holds for these
holds for what the mapper finds.
"""

from __future__ import annotations

import numpy as np

from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.mapping.mapping import CoreUse, Mapping, count_usage
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, whole
from neurocompile.mapping.tile_graph import make_tile_graph
from neurocompile.mapping.traffic import Traffic
from neurocompile.targets.schema import Slot, Target

NOTHING = Traffic(packets=0.0, local=0.0, from_host=0.0, to_host=0.0, hops=0.0)


def cut(tile: Tile, rng: np.random.Generator) -> list[Tile]:
    """A tile in some pieces, at random places."""
    axes = [a for a, n in enumerate(tile.shape) if n > 1]
    if not axes or rng.random() < 0.4:
        return [tile]
    axis = axes[rng.integers(len(axes))]
    at = int(rng.integers(tile.start[axis] + 1, tile.stop[axis]))
    low = (*tile.stop[:axis], at, *tile.stop[axis + 1 :])
    high = (*tile.start[:axis], at, *tile.start[axis + 1 :])
    parts = Tile(tile.population, tile.start, low), Tile(tile.population, high, tile.stop)
    return [piece for part in parts for piece in cut(part, rng)]


def place(circuit: CircuitGraph, tiles: list[Tile], core_of: np.ndarray, target: Target) -> Mapping:
    """Tiles on cores, which fill the chip in row order."""
    _, core_of = np.unique(core_of, return_inverse=True)  # no core is empty
    cores = int(core_of.max()) + 1
    graph = make_tile_graph(CostCounter(circuit, target), tiles, {})
    mesh = target.mesh
    each = mesh.cores_per_tile.value
    slots = [
        Slot(0, i // each % mesh.columns.value, i // each // mesh.columns.value, i % each)
        for i in range(cores)
    ]
    return Mapping(
        circuit=circuit.name,
        target=target.name,
        seed=0,
        cores=tuple(
            CoreUse(
                chip=s.chip,
                x=s.x,
                y=s.y,
                core=s.core,
                tiles=tuple(t for t, c in zip(tiles, core_of, strict=True) if c == i),
                used=used,
            )
            for i, (s, used) in enumerate(
                zip(slots, count_usage(graph, core_of, cores), strict=True)
            )
        ),
        traffic=NOTHING,
    )


def placed(circuit: CircuitGraph, target: Target, seed: int, cores: int = 5) -> Mapping:
    """A mapping by chance on at most ``cores`` cores."""
    rng = np.random.default_rng(seed)
    tiles = [
        piece
        for p in circuit.populations
        if not isinstance(p, HostInput)
        for piece in cut(whole(p), rng)
    ]
    order = rng.permutation(len(tiles))
    return place(circuit, [tiles[i] for i in order], rng.integers(0, cores, len(tiles)), target)
