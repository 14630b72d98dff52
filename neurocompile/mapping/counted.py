"""Other mappings of a circuit, found with the messages that each neuron really sent.

The mapper weighs a population by its mean rate. Where messages were counted neuron by neuron, tiles are cut
anew and trade cores, and cores trade places, by what their own neurons sent. Which of these mappings is the
best is the caller's to count: the one it has stays among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Table

import numpy as np

from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping.mapping import Mapping, placed_on
from neurocompile.mapping.packing import TOGETHER, hypergraph, improve, in_order
from neurocompile.mapping.placement import place
from neurocompile.mapping.recut import Chain, Mapped
from neurocompile.mapping.refine import Hypergraph, km1
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.tile_graph import make_tile_graph
from neurocompile.targets.schema import Target

__all__ = ["balanced", "core_loads", "others"]

ROUNDS = 35
"""Of cutting anew."""
MOST_NEURONS, MOST_TILES = 200_000, 3_000
"""Of larger models tiles are not cut anew."""
TRADES = 400
"""Trades of tiles for an evener load, at most."""
Loads = Callable[[Sequence[Tile]], np.ndarray]
"""Tiles -> float64 (tiles): time that each one's core spends on it."""


def others(
    circuit: CircuitGraph,
    mapping: Mapping,
    target: Target,
    rates: Table[str, float],
    sent: Table[str, np.ndarray],
    loads: Loads | None = None,
) -> Iterator[Mapping]:
    """Mappings to compare ``mapping`` with: its cores placed anew; its tiles refined, or cut anew
    where that is not too much; and each of these with an evener load, if ``loads`` are given.

    Args:
        rates: population -> messages a neuron a step, as ``mapping`` was made with.
        sent: population -> float64 (neurons,): messages a step, counted.
    """
    counter = CostCounter(circuit, target)
    tiles = [tile for core in mapping.cores for tile in core.tiles]
    start = np.repeat(np.arange(mapping.cores_used), [len(core.tiles) for core in mapping.cores])
    spikes = mapping.spikes_per_core_step

    def instance_of(tiles: Sequence[Tile]) -> Hypergraph:
        graph = make_tile_graph(counter, tiles, rates, sent=sent)
        return hypergraph(graph, [counter.usage(tile) for tile in tiles], spikes)

    def made(tiles: Sequence[Tile], block: np.ndarray) -> Mapping:
        core_of = in_order(block)
        order = np.argsort(core_of, kind="stable")
        core_of, tiles = in_order(core_of[order]), [tiles[i] for i in order]
        cores = int(core_of.max(initial=-1)) + 1
        flows = make_tile_graph(counter, tiles, rates, sent=sent).flows(core_of, cores)
        return placed_on(
            make_tile_graph(counter, tiles, rates),
            core_of,
            place(target, flows, cores, mapping.seed),
            rates,
            seed=mapping.seed,
            method=f"{mapping.method}, refined on counted messages",
            spikes_per_core_step=spikes,
        )

    yield made(tiles, start)
    instance = instance_of(tiles)
    small = sum(p.size for p in counter.on_chip) <= MOST_NEURONS and len(tiles) <= MOST_TILES
    if small and mapping.cores_used <= TOGETHER:
        begin = Mapped(tiles, start, km1(instance, start))
        chain = Chain(counter, rates, begin, spikes, mapping.seed, sent)
        chain.run(ROUNDS)
        better, block = list(chain.best.tiles), chain.best.core_of
    else:
        better, block = tiles, improve(instance, start, mapping.seed, mapping.cores_used).core_of
    yield made(better, block)
    if loads is not None:
        yield made(tiles, balanced(instance, start, loads(tiles)))
        yield made(better, balanced(instance_of(better), block, loads(better)))


def balanced(graph: Hypergraph, block: np.ndarray, load: np.ndarray) -> np.ndarray:
    """The blocks after moves and swaps out of the most loaded one, each of which makes the larger load of
    its two blocks smaller, within all capacities; until there is none.

    Args:
        load: float64 (vertices).
    """
    block = block.copy()
    blocks = int(block.max(initial=-1)) + 1
    for _ in range(TRADES):
        total = np.bincount(block, load, blocks)
        worst = int(total.argmax())
        inside, outside = np.flatnonzero(block == worst), np.flatnonzero(block != worst)
        gain = load[inside][:, None] - np.concatenate([load[outside], np.zeros(blocks)])[None]
        there = np.concatenate([block[outside], np.arange(blocks)])
        after = np.maximum(total[worst] - gain, total[there][None] + gain)
        good = (after < total[worst]) & (gain > 0) & (there != worst)[None]
        found = False
        order = np.argsort(np.where(good, after, np.inf), axis=None, kind="stable")
        for pick in order[: min(int(good.sum()), 64)].tolist():
            vertex, other = divmod(pick, len(there))
            tried = block.copy()
            tried[inside[vertex]] = there[other]
            if other < len(outside):
                tried[outside[other]] = worst
            if graph.fits(tried):
                block, found = tried, True
                break
        if not found:
            break
    return block


def core_loads(
    mapping: Mapping, shapes: Table[str, tuple[int, ...]], sent: Table[str, np.ndarray]
) -> np.ndarray:
    """Messages that the neurons of each core send, float64 (cores); ``sent`` as in :func:`others`."""
    return np.array(
        [
            sum(
                float(sent[t.population].reshape(shapes[t.population])[t.slices].sum())
                for t in core.tiles
            )
            for core in mapping.cores
        ]
    )
