"""What is counted once and kept never changes what is counted later."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping.output_lists import OutputLists
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, grid
from neurocompile.mapping.tile_graph import TileGraph, make_tile_graph
from neurocompile.targets import load_target


def tiles_of(circuit: CircuitGraph, rng: np.random.Generator) -> list[Tile]:
    """Every population in a random grid, all tiles in a random order."""
    counter = CostCounter(circuit, load_target("loihi2"))
    found = [
        tile
        for p in counter.on_chip
        for tile in grid(
            p, [int(rng.integers(1, min(n, 3) + 1)) for n in p.shape], [1] * len(p.shape)
        )
    ]
    return [found[i] for i in rng.permutation(len(found))]


def arrays(graph: TileGraph) -> list[np.ndarray]:
    """All that a graph counts."""
    return [
        value
        for nets in (graph.nets, graph.lists)
        for value in (nets.owner, nets.size, nets.population, nets.offsets, nets.pins)
    ]


@pytest.mark.parametrize("most", [8_000_000, 2_000])
def test_graphs_of_tiles_do_not_depend_on_earlier_ones(transformer, monkeypatch, most) -> None:
    """Two cuts, each twice and the second time in another order, by one counter and by new ones;
    with room to keep little, too."""
    monkeypatch.setattr("neurocompile.mapping.resources.KEPT_NUMBERS", most)
    rng, target, circuit = np.random.default_rng(3), load_target("loihi2"), transformer(blocks=1)
    warm = CostCounter(circuit, target)
    for _ in range(2):
        tiles = tiles_of(circuit, rng)
        for order in (tiles, tiles, [tiles[i] for i in rng.permutation(len(tiles))]):
            for a, b in zip(
                arrays(make_tile_graph(warm, order, {})),
                arrays(make_tile_graph(CostCounter(circuit, target), order, {})),
                strict=True,
            ):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b)
    assert warm.sends


def test_lists_that_never_change_are_told_from_the_others() -> None:
    """Their entries, and those of the others, make up all entries of every assignment."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        vertices, count = int(rng.integers(1, 8)), int(rng.integers(0, 12))
        length = rng.integers(0, min(4, vertices) + 1, count)
        pins = [rng.choice(vertices, n, replace=False) for n in length]
        lists = OutputLists(
            rng.integers(0, vertices, count),
            rng.integers(1, 9, count),
            rng.integers(0, 3, count),
            np.concatenate([[0], np.cumsum(length)]).astype(np.int64),
            np.concatenate([np.zeros(0, np.int64), *pins]).astype(np.int64),
            int(rng.integers(1, 4)),
            np.array([0]),
        )
        moving, constant = lists.moving
        assert (np.diff(moving.offsets) > 1).all()
        block = rng.integers(0, 3, vertices)
        apart = moving.entries(block)
        apart[: len(constant)] += constant
        assert np.array_equal(apart, lists.entries(block))
