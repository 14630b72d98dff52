"""Fewer cores for an assignment: the least filled are emptied, and annealing that may exceed capacities
(:mod:`neurocompile.mapping.relaxed`) finds room for their tiles in the others.

Packing takes tiles one after the other and reserves for output lists that consumers to come may need;
once annealing has brought consumers together, much of that is free.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from math import ceil

import numpy as np

from neurocompile.mapping.refine import Hypergraph
from neurocompile.mapping.refine_turns import Turns
from neurocompile.mapping.relaxed import refine_relaxed

__all__ = ["fill_of", "squeeze", "squeeze_in_turn"]

FULL = 0.99
"""Part of all capacities above which fewer cores are not tried."""
STEPS, MOST_STEPS, TRIES = 1_000, 6_000_000, 6
"""Moves tried for each vertex and number of cores, and at most; numbers of cores tried."""
TURN_STEPS, TURN_TRIES = 200, 3
"""The same of each of several turns."""
HARD_STEPS, HARD_TRIES = 800, 4
"""The same where cores count more than time."""
HOT, COLD = 1.0, 0.05
"""Temperatures, in mean weights of a net."""
LIGHT, HEAVY = 10.0, 1000.0
"""Price of exceeding a capacity by all of it, in mean packets of a core: at first and at last."""


def fill_of(used: np.ndarray, limit: np.ndarray) -> float:
    """Cores that are needed for what all use together, as a fraction."""
    return float((used.sum(axis=0) / np.maximum(limit, 1)).max(initial=0.0))


def squeeze(
    graph: Hypergraph,
    block: np.ndarray,
    cores: int,
    most: int,
    seed: int,
    beyond: np.ndarray | None = None,
    steps: int = STEPS,
    tries: int = TRIES,
    ahead: bool = False,
) -> np.ndarray:
    """An assignment to fewer cores, int64 (vertices), down to ``most`` if that is found; the given one
    if none is.

    Args:
        graph: the instance.
        block: int64 (vertices): the start, within all capacities.
        cores: that it may use.
        most: cores that are few enough.
        seed: of all chance.
        beyond: see :func:`neurocompile.mapping.relaxed.refine_relaxed`.
        steps: moves tried for each vertex and number of cores.
        tries: numbers of cores that are tried, at most.
        ahead: also try, on other threads, the numbers that come next if one fails after the other;
            the same is found.
    """
    used = np.zeros((cores, len(graph.limit)), dtype=np.int64)
    now = graph.used(block)
    used[: len(now)] = now
    low, high = max(most, ceil(fill_of(used, graph.limit) / FULL), 1), cores
    best = block

    def attempt(count: int) -> np.ndarray | None:
        return refine_relaxed(
            graph,
            _emptied(graph, best, used, count),
            count,
            steps=min(MOST_STEPS, steps * graph.vertices),
            hot=HOT,
            cold=COLD,
            light=LIGHT,
            heavy=HEAVY,
            seed=seed,
            beyond=beyond,
            first=True,
        )

    together = min(tries, os.cpu_count() or 1) if ahead else 1
    with ThreadPoolExecutor(together) as threads:  # the kernels hold no lock
        tried, left, running = low, tries, dict[int, Future[np.ndarray | None]]()
        while left and low < high:
            wanted = [tried]
            while len(wanted) < min(together, left) and wanted[-1] + 1 < high:
                wanted.append((wanted[-1] + 1 + high) // 2)
            running = {
                k: running[k] if k in running else threads.submit(attempt, k) for k in wanted
            }
            found = running[tried].result()
            if found is None:
                low = tried + 1
            else:
                for other in running.values():
                    other.cancel()
                wait([f for f in running.values() if not f.cancelled()])  # they read ``best``
                best, high, running = found, tried, {}
                used = graph.used(best)
            tried, left = (low + high) // 2, left - 1
    return best


def _emptied(graph: Hypergraph, block: np.ndarray, used: np.ndarray, cores: int) -> np.ndarray:
    """The vertices of the least filled blocks on the others, in turn; blocks in the same order."""
    share = (used / np.maximum(graph.limit, 1)).max(axis=1)
    kept = np.sort(np.argsort(-share, kind="stable")[:cores])
    number = np.full(len(used), -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    found = number[block]
    out = np.flatnonzero(found < 0)
    found[out] = np.arange(len(out)) % cores
    return found


def squeeze_in_turn(
    graph: Hypergraph,
    block: np.ndarray,
    cores: int,
    most: int,
    *,
    together: int,
    seed: int,
    hard: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """The same for instances of any size: ``together`` consecutive cores at a time, tried longer if
    ``hard``; ``tick`` is called after each of them.
    """
    turns = Turns(graph, block, cores)
    steps, tries = (HARD_STEPS, HARD_TRIES) if hard else (TURN_STEPS, TURN_TRIES)
    part_of = most / max(cores, 1)
    for first in range(0, cores, together):
        last = min(first + together, cores)
        order = np.flatnonzero((turns.block >= first) & (turns.block < last))
        if len(order) < 2:
            continue
        part, beyond = turns.part(order)
        few = ceil((last - first) * part_of)
        here = turns.block[order] - first
        taken = (few, seed + first, beyond, steps, tries)
        found = squeeze(part, here, last - first, *taken, ahead=True)
        turns.move(order, found + first)
        tick()
    return turns.block
