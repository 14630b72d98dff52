"""Tiles and their cores: the best of several ways to cut, packed, refined and cut anew."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Table
from dataclasses import replace
from itertools import count
from math import ceil
from typing import NamedTuple

import numpy as np

from neurocompile.errors import ViolationList
from neurocompile.mapping import precompile
from neurocompile.mapping.advice import budget_needs_more_cores, needs_more_cores
from neurocompile.mapping.grants import Grants, times
from neurocompile.mapping.packing import (
    TOGETHER,
    Packed,
    glance,
    hypergraph,
    improve,
    in_order,
    pack,
    press,
    ready_order,
    tighten,
)
from neurocompile.mapping.partition import Partition, Style, partition
from neurocompile.mapping.recut import Chain, Mapped
from neurocompile.mapping.refine import Hypergraph
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, in_two, merge_boxes
from neurocompile.mapping.tile_graph import TileGraph, make_tile_graph

__all__ = ["enough_for", "fit", "ways_of"]

WAYS = (
    (20_000, ((1, False), (4, True), (8, True), (8, False), (32, True))),
    (
        100_000,
        ((1, False), (4, True), (8, True), (16, False), (32, True), (48, False), (96, False)),
    ),
    (200_000, ((1, False), (4, True), (8, True), (8, False), (32, True))),
    (1_000_000, ((1, False), (5, True), (8, False), (8, True))),
    (30_000_000, ((5, True), (4, False))),
)
"""(neurons, (fineness, pairs) of each way to cut that is tried) of models up to so many neurons."""
ROOM = 0.015
"""Part of a core's neurons that terms leave to their sums in larger ones, where neurons bind: there
cores count first.
"""
SMALL, SEMIFINALISTS, FINALISTS = 200_000, 5, 2
"""Up to so many neurons: the ways to cut that are refined for longer, and those to the end."""
FIRST_ROUNDS, MORE_ROUNDS = 10, 25
"""Rounds of cutting anew of each of them, and of the best."""
FEW_TILES = 3_000
"""A mapping of more tiles is not cut anew."""
MULTIPLES = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Of a budget of spikes that does not fit: tried in turn, so that the error can name one that does.
"""
TIGHT = 1.08
"""Multiple of the lower bound down to which cores are given up."""
HALVINGS = 16
"""Times that a tile is halved for its output lists, at most."""
NEARLY, PRESSINGS = 1.06, 3
"""Multiple of the cores at hand up to which it is worth trying for longer, and how often."""
FEW, SPARE = 1.15, 2
"""A way to cut that takes more cores than FEW times the lower bound and SPARE is taken only if no
other is at hand.
"""


class _Way(NamedTuple):
    """A way to cut, as far as it was followed."""

    rank: tuple[int, float, int]
    """Whether it takes too many cores (of folded circuits: how many), packets a step, cores."""
    graph: TileGraph
    instance: Hypergraph
    packed: Packed

    def further(self, packed: Packed) -> _Way:
        """Followed further."""
        return self._replace(packed=packed, rank=(self.rank[0], packed.cost, packed.cores))


def fit(
    counter: CostCounter,
    rates: Table[str, float],
    limit: int,
    seed: int,
    spikes: Grants | None,
    done: Callable[[int, int], object] = lambda now, of: None,
) -> tuple[TileGraph, Packed]:
    """Tiles in the order of their cores, and these.

    Args:
        counter: of the circuit and the target.
        rates: population -> mean probability that a neuron sends a message in a step.
        limit: cores.
        seed: of all chance.
        spikes: expected messages that a core may send in a step.
        done: called with the populations that are cut, and how many come to the whole work: cutting
            is about half of it, of large models a sixth.

    Raises:
        ViolationList: NC3102, NC3101 or NC3114 if no way keeps to the cores.
    """
    size = sum(p.size for p in counter.on_chip)
    bound = max((need for _, need in counter.shortages().values()), default=0)
    few = ceil(TIGHT * bound) if spikes is None else limit
    found = _ways(counter, rates, limit, seed, spikes, bound, done)
    first = found[0]
    if size > SMALL or first.packed.cores > TOGETHER or len(first.graph.tiles) > FEW_TILES:
        hard = counter.circuit.windows > 1  # who folds wants few cores
        ranges = sum(3 * -(-way.packed.cores // TOGETHER) for way in found)
        (cutting, work), ticks = _work(counter, spikes), count(1)

        def tick() -> None:
            """A range of cores is searched: fewer once, annealed twice; pressed ones more often."""
            done(min(cutting + (work - cutting) * next(ticks) // (ranges + 1), work - 1), work)

        ways = [
            way.further(improve(way.instance, way.packed.core_of, seed, few, hard=hard, tick=tick))
            for way in found
        ]
        _, graph, _, packed = min(ways, key=lambda way: way.rank)
        tiles, core_of = merge_boxes(graph.tiles, packed.core_of)
    else:
        tiles, core_of, packed = _cut_anew(counter, rates, found, few, seed, spikes)
    order = np.argsort(core_of, kind="stable")
    core_of = in_order(core_of[order])
    packed = replace(packed, core_of=core_of, cores=int(core_of.max(initial=-1)) + 1)
    return make_tile_graph(counter, [tiles[i] for i in order], rates), packed


def _ways(
    counter: CostCounter,
    rates: Table[str, float],
    limit: int,
    seed: int,
    spikes: Grants | None,
    bound: int,
    done: Callable[[int, int], object],
) -> list[_Way]:
    """The best ways to cut that keep to the cores, best first; at least one."""
    size = sum(p.size for p in counter.on_chip)
    most = SEMIFINALISTS if size <= SMALL else 1
    fewest, parts, found = 0, Partition(), list[_Way]()
    styles = _styles(counter, spikes)
    ticks, (_, whole_work) = count(1), _work(counter, spikes)
    for chosen in (styles[:-1], styles[-1:]):  # the last resort only if nothing was found
        if found:
            break
        cut: list[tuple[Style, Partition]] = []
        for style in chosen:
            parts = partition(counter, rates, style, lambda: done(next(ticks), whole_work))
            if all(
                parts != other for _, other in cut
            ):  # of small models ways often come to the same cut
                cut.append((style, parts))
        precompile.wait()
        for style, parts in cut:
            graph, instance, start = _packed(counter, parts, rates, style)
            packed = Packed(start, int(start.max(initial=-1)) + 1, "packed", 0.0)
            looked = packed
            if len(styles) > 2:  # with one way there is nothing to compare
                looked = glance(instance, start, seed)
                packed = replace(packed, cost=looked.cost)
            if packed.cores > limit:
                packed = tighten(instance, looked, limit, seed)
            packed = _pressed(instance, packed, limit, seed)
            fewest = min(fewest or packed.cores, packed.cores)
            if packed.cores > limit:
                continue
            wide = _wide(counter, packed.cores, bound) if spikes is None else 0
            rank = wide, packed.cost, packed.cores
            found = sorted([*found, _Way(rank, graph, instance, packed)], key=lambda w: w.rank)
            found = found[:most]
    if not found and spikes is not None:
        enough = enough_for(counter, rates, limit, spikes)
        needs = budget_needs_more_cores(counter, fewest, limit, rates, spikes, enough)
        error = ViolationList("NC3114", [needs])
        error.details = [{"messages_times": enough}]
        raise error
    if not found:
        raise ViolationList("NC3101", [needs_more_cores(counter, parts, fewest, limit)])
    return found


def _pressed(graph: Hypergraph, packed: Packed, limit: int, seed: int) -> Packed:
    """On ``limit`` cores if that is near and some chance finds it, else on fewer if any does; asked
    for fewer than that, for cores that are given up in turn are few in each.
    """
    for turn in range(PRESSINGS):
        if not limit < packed.cores <= NEARLY * limit:
            break
        tried = press(graph, packed, int(limit / NEARLY), seed + turn)
        packed = tried if tried.cores < packed.cores else packed
    return packed


def _wide(counter: CostCounter, cores: int, bound: int) -> int:
    """Whether a way to cut takes too many cores; of a folded circuit, whose user wants few, how many
    too many.
    """
    wide = max(0, cores - int(FEW * bound + SPARE))
    return wide if counter.circuit.windows > 1 else min(wide, 1)


def _cut_anew(
    counter: CostCounter,
    rates: Table[str, float],
    found: list[_Way],
    few: int,
    seed: int,
    spikes: Grants | None,
) -> tuple[list[Tile], np.ndarray, Packed]:
    """The best of the ways after a longer look at all of them, on few cores, and rounds of cutting
    anew for the finalists.
    """
    if len(found) > 1 or found[0].packed.cores > 1:
        found = [
            way.further(glance(way.instance, way.packed.core_of, seed, longer=True))
            for way in found
        ]
    chains: list[tuple[int, Packed, Chain]] = []
    for i, way in enumerate(sorted(found, key=lambda way: way.rank)[:FINALISTS]):
        packed = tighten(way.instance, way.packed, few, seed)
        start = Mapped(way.graph.tiles, packed.core_of, packed.cost)
        chains.append((way.rank[0], packed, Chain(counter, rates, start, spikes, seed + i)))
        chains[-1][-1].run(FIRST_ROUNDS)
    _, packed, chain = min(chains, key=lambda item: (item[0], item[2].best.cost, item[1].cores))
    chain.run(MORE_ROUNDS)
    end = chain.best
    method = f"{packed.method}, cut anew" if end.cost < packed.cost else packed.method
    return list(end.tiles), end.core_of, replace(packed, method=method, cost=end.cost)


def _packed(
    counter: CostCounter, parts: Partition, rates: Table[str, float], style: Style
) -> tuple[TileGraph, Hypergraph, np.ndarray]:
    """Tiles of one way to cut, packed: where output lists take more than a core has (of neurons in a
    loop they are not known before all is cut), tiles are halved until they fit.
    """
    held = [item for tiles in parts.values() for item in tiles]
    for turn in range(HALVINGS + 1):
        graph = make_tile_graph(counter, [tile for tile, _ in held], rates)
        instance = hypergraph(graph, [usage for _, usage in held], style.spikes)
        start = pack(instance, ready_order(graph), style.room)
        used = instance.used(start)
        over = (used > instance.limit).any(axis=1)
        if turn == HALVINGS or not over.any():
            break
        entries = instance.lists.entries(start)
        longest = np.lexsort((-entries, start))
        worst = longest[np.unique(start[longest], return_index=True)[1]]
        held = [
            (half, counter.usage(half)) if half is not tile else (tile, usage)
            for i, (tile, usage) in enumerate(held)
            for half in (in_two(tile) if over[start[i]] and i in worst else (tile,))
        ]
    return graph, instance, start


def _work(counter: CostCounter, spikes: Grants | None) -> tuple[int, int]:
    """Populations that are cut by all ways, and how many come to the whole work."""
    cutting = len(counter.on_chip) * max(len(_styles(counter, spikes)) - 1, 1)
    return cutting, cutting * (2 if sum(p.size for p in counter.on_chip) <= SMALL else 6)


def enough_for(
    counter: CostCounter, rates: Table[str, float], limit: int, spikes: Grants, least: float = 1.0
) -> float | None:
    """A multiple of a budget of spikes that keeps to the cores, of those in ``MULTIPLES`` times
    ``least`` the first; None if there is none, or the circuit is too large to try.
    """
    if sum(p.size for p in counter.on_chip) > SMALL:
        return None
    for factor in MULTIPLES:
        style = Style(1.0, 1, times(spikes, factor * least))
        parts = partition(counter, rates, style)
        _, _, start = _packed(counter, parts, rates, style)
        if int(start.max(initial=-1)) < limit:
            return factor * least
    return None


def _styles(counter: CostCounter, spikes: Grants | None) -> list[Style]:
    """Ways to cut that are worth the time; the last one is for want of cores."""
    ways = ways_of(counter)
    styles = (
        [Style(1.1, 1, spikes, room=ROOM)]
        if not ways
        else [Style(1.1, fine, spikes, pairs) for fine, pairs in ways]
    )
    return [*styles, Style(1.0, 1, spikes)]


def ways_of(counter: CostCounter) -> tuple[tuple[int, bool], ...]:
    """(fineness, pairs) of the ways to cut that a circuit's size is worth; none of a very large
    one.
    """
    size = sum(p.size for p in counter.on_chip)
    return next((ways for most, ways in WAYS if size <= most), ())
