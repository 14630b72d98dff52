"""Packs tiles into cores, then finds fewer packets.

The seed: in depth order each tile goes, of the open cores where it fits, to the one that shares most of its messages
(their senders, or other receivers); a new core opens only where a tile fits none. Then, if a partitioner is installed
(``pip install 'neurocompile[mapping]'``), its assignment to as many cores is repaired until every capacity holds. Both are
refined by moves and swaps under all capacities, and what costs least by our own count is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.mapping.refine import Hypergraph, km1, refine
from neurocompile.mapping.resources import Usage
from neurocompile.mapping.seeds import mtkahypar_blocks, repair
from neurocompile.mapping.tile_graph import HOST, TileGraph
from neurocompile.targets.schema import RESOURCES

__all__ = ["Packed", "hypergraph", "improve", "in_order", "pack"]

_ADDITIVE = tuple(name for name in RESOURCES if name != "neuron_groups")
_OPEN = 512
"""Cores opened last that a tile without shared messages may join."""
_KNOWN = 64
"""Cores of a net that are looked at."""
STEPS = 1_000
"""Moves tried for each tile, within the limits below."""
MOST_STEPS = 6_000_000


@dataclass(frozen=True)
class Packed:
    """An assignment of tiles to cores."""

    core_of: np.ndarray
    """int64 (tiles)."""
    cores: int
    method: str
    cost: float
    """Packets a step, those from the host included."""


def hypergraph(graph: TileGraph, usage: Sequence[Usage], spikes: float | None) -> Hypergraph:
    """Tiles as vertices that take of every capacity of a core; nets with their owner as one more pin."""
    target, nets = graph.counter.target, graph.nets
    names = [name for name in _ADDITIVE if name in target.capacity]
    takes = [[getattr(u, name) for u in usage] for name in names]
    limit = [target.capacity[name] for name in names]
    if "total" in target.capacity:  # neuron groups count once a population: the bound of all of them is set aside
        takes.append([u.total - u.neuron_groups for u in usage])
        limit.append(target.capacity["total"] - target.capacity["neuron_groups"])
    if spikes is not None:  # in millionths, rounded to the cautious side
        index = {p.name: i for i, p in enumerate(graph.counter.circuit.populations)}
        sent = np.array([graph.rate[index[tile.population]] * tile.size for tile in graph.tiles])
        takes.append([int(n) for n in np.floor(sent * (1e6 / max(spikes, 1e-12)) * (1 - 1e-9))])
        limit.append(1_000_000)
    populations = {p.name: i for i, p in enumerate(graph.counter.on_chip)}
    group = np.array([populations[tile.population] for tile in graph.tiles], dtype=np.int32)
    offsets, pins = _with_owner(nets.owner, nets.offsets, nets.pins)
    matrix = np.array(takes, dtype=np.int64).reshape(len(limit), len(usage)).T
    return Hypergraph(
        offsets, pins, graph.weight, np.ascontiguousarray(matrix), np.array(limit, dtype=np.int64), group,
        target.capacity["neuron_groups"],
    )  # fmt: skip


def _with_owner(owner: np.ndarray, offsets: np.ndarray, pins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pins with the owner of each net (unless it is the host), each once."""
    net = np.repeat(np.arange(len(owner), dtype=np.int64), np.diff(offsets))
    own = np.flatnonzero(owner != HOST)
    pairs = np.unique(np.concatenate([(net << 32) | pins, (own << 32) | owner[own]]))
    return np.searchsorted(pairs, np.arange(len(owner) + 1, dtype=np.int64) << 32), (pairs & 0xFFFFFFFF).astype(np.int32)


def pack(graph: Hypergraph) -> np.ndarray:
    """Core of each vertex, int64, vertices in the order given."""
    count, order = graph.vertices, np.argsort(graph.pins, kind="stable")
    net_of = np.repeat(np.arange(len(graph.weight)), np.diff(graph.offsets))[order]
    first = np.searchsorted(graph.pins[order], np.arange(count + 1))
    weight, limit, group = graph.weight, graph.limit, graph.group.tolist()
    used, groups = np.zeros((64, len(limit)), dtype=np.int64), list[set[int]]()
    known: list[list[int]] = [[] for _ in range(len(weight))]
    core_of, open_ = np.zeros(count, dtype=np.int64), list[int]()
    for v in range(count):
        takes = graph.takes[v]
        nets = net_of[first[v] : first[v + 1]].tolist()
        shared: dict[int, float] = {}
        for e in nets:
            for core in known[e]:
                shared[core] = shared.get(core, 0.0) + float(weight[e])
        free = limit - takes

        def fits(core: int, v: int = v, free: np.ndarray = free) -> bool:
            held = groups[core]
            return (group[v] in held or len(held) < graph.groups) and bool((used[core] <= free).all())

        chosen = next((core for core in sorted(shared, key=lambda c: (-shared[c], c)) if shared[core] > 0 and fits(core)), -1)
        if chosen < 0 and open_:
            room = np.flatnonzero((used[open_] <= free).all(axis=1))
            chosen = next((open_[i] for i in room if fits(open_[i])), -1)
        if chosen < 0:
            chosen = len(groups)
            groups.append(set())
            if chosen == len(used):
                used = np.concatenate([used, np.zeros_like(used)])
            open_.append(chosen)
            del open_[:-_OPEN]
        used[chosen] += takes
        groups[chosen].add(group[v])
        core_of[v] = chosen
        for e in nets:
            if chosen not in known[e]:
                known[e].append(chosen)
                if len(known[e]) > _KNOWN:
                    del known[e][0]
    return core_of


def improve(graph: Hypergraph, start: np.ndarray, seed: int) -> Packed:
    """The best of the refined seed and of the refined partitioner's assignment."""
    cores = int(start.max(initial=-1)) + 1
    steps = min(MOST_STEPS, STEPS * graph.vertices)
    found = [Packed(start, cores, "packed", km1(graph, start))]
    refined = refine(graph, start, cores, steps=steps, hot=2.0, cold=0.02, seed=seed)
    found.append(Packed(refined, cores, "packed, annealed", km1(graph, refined)))
    blocks = mtkahypar_blocks(graph, cores, seed)
    repaired = None if blocks is None else repair(graph, blocks, cores)
    if repaired is not None:
        refined = refine(graph, repaired, cores, steps=steps, hot=0.6, cold=0.02, seed=seed)
        found.append(Packed(refined, cores, "mt-KaHyPar, repaired, annealed", km1(graph, refined)))
    best = min(found, key=lambda p: p.cost)
    core_of = in_order(best.core_of)
    return Packed(core_of, int(core_of.max(initial=-1)) + 1, best.method, best.cost)


def in_order(core_of: np.ndarray) -> np.ndarray:
    """The same cores, numbered by their first vertex; numbers of cores that were emptied are not used."""
    used, first, inverse = np.unique(core_of, return_index=True, return_inverse=True)
    number = np.empty(len(used), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(used))
    return number[inverse.ravel()]
