"""Packs tiles into cores, then finds fewer packets.

The seed: in depth order each tile goes, of the open cores where it fits, to the one that shares
most of its messages (their senders, or other receivers); a new core opens only where a tile fits
none. Then, if a partitioner is installed (``pip install 'neurocompile[mapping]'``), its assignment
to as many cores is repaired until every capacity holds. Both are refined by moves and swaps under
all capacities, and what costs least by our own count is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.mapping.grants import Grants, granted
from neurocompile.mapping.output_lists import OutputLists, no_lists
from neurocompile.mapping.refine import Hypergraph, km1, refine
from neurocompile.mapping.refine_turns import refine_in_turn
from neurocompile.mapping.resources import Usage
from neurocompile.mapping.seeds import mtkahypar_blocks, repair
from neurocompile.mapping.squeeze import squeeze, squeeze_in_turn
from neurocompile.mapping.tile_graph import HOST, TileGraph
from neurocompile.targets.schema import RESOURCES

__all__ = [
    "Packed",
    "glance",
    "hypergraph",
    "improve",
    "in_order",
    "pack",
    "press",
    "ready_order",
    "tighten",
]

_ADDITIVE = tuple(name for name in RESOURCES if name != "neuron_groups")
NEURONS = _ADDITIVE.index("neurons")
"""Column of a hypergraph's resources; every target has neurons."""
_OPEN, _OPEN_FOR_FILLING = 512, 5_000
"""Cores opened last that a tile may join for the room that they have; where tiles are cut to fill
such room.
"""
BUDGET_PARTS = 1 << 40
"""Whole numbers that stand for a core's budget of spikes."""
_TIE = 1e-6
"""Weight of the fit beside the share of messages."""
REPACKED = 3
"""Times that tiles are packed again with what output lists came to, at most."""
STEPS = 4_000
"""Moves tried for each tile, at most the number below."""
MOST_STEPS = 24_000_000
FEW_STEPS, MORE_STEPS = 200, 2_000
"""Moves tried for each tile to compare ways to cut, and to compare the best of these."""
LONG, LONG_STEPS = 3, 5_000_000
"""Moves of each of several starts: so many times as many, at most."""
RESTARTS, RESTART_TILES = 9, 3_000
"""Starts at most of instances up to so many tiles, as long as they try less than MOST_STEPS moves
together; three at least.
"""
MOST_THREADS = 4
"""Starts tried at a time: each has a table of up to 256 MiB."""
TOGETHER = 240
"""Cores that are refined at once where there are more: about two chips."""
TURNS = 3
"""Turns of squeezing and annealing where cores count first."""
TURN_STEPS = 300
"""Moves tried for each tile in a turn, at most."""
TURN_WORK = 600_000_000
"""Pins that all moves of a turn may look at."""
HOT, WARM, COLD = 3.0, 0.6, 0.05
"""Temperatures, in mean weights of a net: at first (of a start that is good already: WARM), and at
last.
"""
SCHEDULES = ((3.0, 0.05), (10.0, 0.3), (10.0, 0.05))
"""Temperatures at first and at last of restarts, in turn: which of them is best differs from model
to model.
"""


@dataclass(frozen=True)
class Packed:
    """An assignment of tiles to cores."""

    core_of: np.ndarray
    """int64 (tiles)."""
    cores: int
    method: str
    cost: float
    """Packets a step, those from the host included."""


def hypergraph(graph: TileGraph, usage: Sequence[Usage], spikes: Grants | None) -> Hypergraph:
    """Tiles as vertices that take of every capacity of a core; nets with their owner as one more
    pin.
    """
    target, nets = graph.counter.target, graph.nets
    names = [name for name in _ADDITIVE if name in target.capacity]
    lists = _output_lists(graph, names)
    takes = [[getattr(u, name) if name != "axon_memory" else 0 for u in usage] for name in names]
    limit = [target.capacity[name] for name in names]
    if (
        "total" in target.capacity
    ):  # neuron groups count once a core: the bound of all of them is set aside
        takes.append([u.total - u.neuron_groups - u.axon_memory for u in usage])
        limit.append(target.capacity["total"] - target.capacity["neuron_groups"])
    if spikes is not None:  # as parts of the budget, rounded up: the sum of a core keeps it
        everything = graph.counter.circuit.populations
        index = {p.name: i for i, p in enumerate(everything)}
        which = np.array([index[tile.population] for tile in graph.tiles], dtype=np.int64)
        sent = graph.rate[which] * np.array([tile.size for tile in graph.tiles])
        most = np.array([granted(spikes, p.layer) for p in everything])[which]
        parts = np.ceil(sent * (BUDGET_PARTS / np.maximum(most, 1e-300)))
        takes.append(
            np.where(sent <= most, np.minimum(parts, BUDGET_PARTS), parts).astype(np.int64).tolist()
        )
        limit.append(BUDGET_PARTS)
    groups = graph.counter.group_of
    group = np.array([groups[tile.population] for tile in graph.tiles], dtype=np.int32)
    offsets, pins = _with_owner(nets.owner, nets.offsets, nets.pins)
    matrix = np.array(takes, dtype=np.int64).reshape(len(limit), len(usage)).T
    return Hypergraph(
        offsets,
        pins,
        graph.weight,
        np.ascontiguousarray(matrix),
        np.array(limit, dtype=np.int64),
        group,
        min(
            target.capacity["neuron_groups"], max(len(set(groups.values())), 1)
        ),  # more are never counted
        lists,
    )


def _output_lists(graph: TileGraph, names: Sequence[str]) -> OutputLists:
    """Output lists of tiles; they count as axon memory and in the total."""
    lists, capacity = graph.lists, graph.counter.target.capacity
    columns = [names.index("axon_memory")] if "axon_memory" in names else []
    columns += [len(names)] if "total" in capacity else []
    if not columns:
        return no_lists()
    return OutputLists(
        lists.owner.astype(np.int64),
        np.abs(lists.size),
        (graph.read_by_host[lists.population] & (lists.size > 0)).astype(np.int64),
        lists.offsets,
        lists.pins.astype(np.int64),
        graph.counter.cost.least_listed,
        np.array(columns, dtype=np.int64),
    )


def _with_owner(
    owner: np.ndarray, offsets: np.ndarray, pins: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pins with the owner of each net (unless it is the host), each once."""
    net = np.repeat(np.arange(len(owner), dtype=np.int64), np.diff(offsets))
    own = np.flatnonzero(owner != HOST)
    pairs = np.concatenate([(net << 32) | pins, (own << 32) | owner[own]])
    pairs.sort(kind="stable")  # two sorted runs: merged
    pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])] if len(pairs) else pairs
    return np.searchsorted(pairs, np.arange(len(owner) + 1, dtype=np.int64) << 32), (
        pairs & 0xFFFFFFFF
    ).astype(np.int32)


def ready_order(graph: TileGraph) -> np.ndarray:
    """Numbers of the tiles, int64, such that a tile comes right after the last of its sources where
    that is possible.

    So a sum is packed while the core of its terms is still open. Tiles of equal standing keep their
    order.
    """
    from neurocompile.mapping.packing_kernels import ready_order as kernel

    nets, tiles = graph.nets, len(graph.tiles)
    owned = np.argsort(nets.owner, kind="stable")
    first = np.searchsorted(nets.owner[owned], np.arange(tiles + 1))
    return kernel(nets.owner, nets.offsets, nets.pins, first, owned, tiles)


def pack(graph: Hypergraph, order: np.ndarray, room: float = 0.0) -> np.ndarray:
    """Core of each vertex, int64: vertices are taken in ``order``, each goes where most of its
    messages are shared.

    Of cores that share none, the one whose free room is most like what the vertex takes. First output
    lists are reserved for as if each consumer had a core of its own; where they would bind, what they
    came to is reserved, and so on while that takes fewer cores.

    Args:
        graph: the instance.
        order: int64 (vertices).
        room: the part of a core's neurons that vertices which need neurons more than anything else
            leave to the others, which then look further back.
    """
    best = _pack(graph, order, room, graph.lists.bound(graph.vertices))
    for _ in range(REPACKED if len(graph.lists.owner) else 0):
        found = _pack(graph, order, room, graph.lists.entries(best))
        if found.max(initial=-1) >= best.max(initial=-1) or not graph.fits(found):
            break
        best = found
    return best


def _pack(graph: Hypergraph, order: np.ndarray, room: float, reserve: np.ndarray) -> np.ndarray:
    """The same with entries of output lists that are reserved for each vertex, int64 (vertices)."""
    from neurocompile.mapping.packing_kernels import Instance  # numba takes a second to import
    from neurocompile.mapping.packing_kernels import pack as kernel

    vertex_offsets, nets_of = graph.by_vertex
    heavy, most = np.zeros(graph.vertices, dtype=np.bool_), graph.limit.copy()
    if room > 0:
        heavy = (graph.takes / np.maximum(graph.limit, 1)).argmax(axis=1) == NEURONS
        most[NEURONS] = int(most[NEURONS] * (1 - room))
    instance = Instance(
        vertex_offsets,
        nets_of,
        graph.weight,
        graph.takes.copy(),
        graph.limit,
        heavy,
        most,
        graph.group,
        graph.groups,
        order,
        _TIE,
        min(_OPEN_FOR_FILLING if room > 0 else _OPEN, max(graph.vertices, 1)),
        room > 0,
    )
    return kernel(instance, graph.lists, reserve)


def glance(graph: Hypergraph, start: np.ndarray, seed: int, *, longer: bool = False) -> Packed:
    """The seed, refined for a short time (or a longer one): enough to compare ways to cut."""
    cores = int(start.max(initial=-1)) + 1
    steps = min(MOST_STEPS // 20, (MORE_STEPS if longer else FEW_STEPS) * graph.vertices)
    tried = [
        refine(graph, start, cores, steps=steps, hot=hot, cold=cold, seed=seed)
        for hot, cold in SCHEDULES[: 1 + longer]
    ]
    cost, refined = min(((km1(graph, found), i) for i, found in enumerate(tried)))
    return Packed(tried[refined], cores, "packed, annealed", cost)


def tighten(
    graph: Hypergraph,
    packed: Packed,
    most: int,
    seed: int,
    *,
    hard: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> Packed:
    """The same on fewer cores, down to ``most`` where that is found; of many cores in turn, which
    takes longer if ``hard``.
    """
    if packed.cores <= most:
        return packed
    if packed.cores > TOGETHER:
        block = in_order(packed.core_of)
        given = packed.cores, most
        how = {"together": TOGETHER, "seed": seed}
        block = squeeze_in_turn(graph, block, *given, **how, hard=hard, tick=tick)
    else:
        block = squeeze(graph, packed.core_of, packed.cores, most, seed)
    cores = len(distinct(block))
    if cores == packed.cores:
        return packed
    method = packed.method
    return _numbered(graph, block, method if "squeezed" in method else f"{method}, squeezed")


def press(graph: Hypergraph, packed: Packed, most: int, seed: int) -> Packed:
    """The same on fewer cores, down to ``most`` where that is found, by turns of squeezing and of
    annealing: annealing brings consumers of the same messages together, so that output lists leave
    room that squeezing uses.
    """
    for turn in range(TURNS):
        before = packed.cores
        packed = tighten(graph, packed, most, seed + turn, hard=turn > 0)
        if packed.cores <= most or (turn > 0 and packed.cores == before):
            break
        if packed.cores > TOGETHER:
            packed = _turned(graph, packed, seed)
        else:
            steps = min(MOST_STEPS, STEPS * graph.vertices)
            given = packed.core_of, packed.cores
            block = refine(graph, *given, steps=steps, hot=WARM, cold=COLD, seed=seed + turn)
            packed = _numbered(graph, block, packed.method)
    return packed


def _turned(
    graph: Hypergraph, packed: Packed, seed: int, tick: Callable[[], object] = lambda: None
) -> Packed:
    """Annealed, some consecutive cores at a time."""
    start = in_order(packed.core_of)
    steps = max(1, min(TURN_STEPS, TURN_WORK // max(len(graph.pins), 1)))
    turned = refine_in_turn(
        graph,
        start,
        packed.cores,
        together=TOGETHER,
        steps=steps,
        hot=HOT,
        cold=COLD,
        seed=seed,
        tick=tick,
    )
    method = packed.method
    return _numbered(
        graph,
        min(turned, start, key=lambda block: km1(graph, block)),
        method if "in turn" in method else f"{method}, annealed in turn",
    )


def improve(
    graph: Hypergraph,
    start: np.ndarray,
    seed: int,
    few: int = 0,
    *,
    hard: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> Packed:
    """The best of the refined seed and of the refined partitioner's assignment; cores numbered in
    order, ``few`` of them if they can be that few, which is tried longer if ``hard``.

    Of many cores only neighbours in order trade tiles (about two chips at a time), and no
    partitioner is asked; ``tick`` is called after each range of cores then.
    """
    cores = int(start.max(initial=-1)) + 1
    if cores > TOGETHER:
        packed = Packed(start, cores, "packed", km1(graph, start))
        if hard:
            packed = press(graph, packed, few, seed)
        else:
            packed = tighten(graph, packed, few, seed, tick=tick)
        return _turned(graph, packed, seed, tick)
    steps = min(MOST_STEPS, STEPS * graph.vertices)
    found = [Packed(start, cores, "packed", km1(graph, start))]
    attempts = 1
    if graph.vertices <= RESTART_TILES:
        steps = min(LONG * steps, LONG_STEPS)
        attempts = min(RESTARTS, max(len(SCHEDULES), MOST_STEPS // max(steps, 1)))

    def attempt(number: int) -> Packed:
        hot, cold = SCHEDULES[number % len(SCHEDULES)]
        refined = refine(graph, start, cores, steps=steps, hot=hot, cold=cold, seed=seed + number)
        return Packed(refined, cores, "packed, annealed", km1(graph, refined))

    with ThreadPoolExecutor(
        min(attempts, MOST_THREADS, os.cpu_count() or 1)
    ) as threads:  # the kernels hold no lock
        found += threads.map(attempt, range(attempts))
    blocks = mtkahypar_blocks(graph, cores, seed)
    repaired = None if blocks is None else repair(graph, blocks, cores)
    if repaired is not None:
        refined = refine(graph, repaired, cores, steps=steps, hot=WARM, cold=COLD, seed=seed)
        found.append(Packed(refined, cores, "mt-KaHyPar, repaired, annealed", km1(graph, refined)))
    best = min(found, key=lambda p: p.cost)
    fewer = tighten(graph, best, few, seed)
    if fewer is not best:
        block = refine(
            graph, fewer.core_of, fewer.cores, steps=steps, hot=WARM, cold=COLD, seed=seed
        )
        return _numbered(graph, block, fewer.method)
    return _numbered(graph, best.core_of, best.method)


def _numbered(graph: Hypergraph, core_of: np.ndarray, method: str) -> Packed:
    core_of = in_order(core_of)
    return Packed(core_of, int(core_of.max(initial=-1)) + 1, method, km1(graph, core_of))


def in_order(core_of: np.ndarray) -> np.ndarray:
    """The same cores, numbered by their first vertex; numbers of cores that were emptied are not
    used.
    """
    used, first, inverse = np.unique(core_of, return_index=True, return_inverse=True)
    number = np.empty(len(used), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(used))
    return number[inverse.ravel()]
