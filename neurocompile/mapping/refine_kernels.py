"""The inner loop of :mod:`neurocompile.mapping.refine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurocompile.lanes import borrowed
from neurocompile.mapping.jit import helper, kernel
from neurocompile.mapping.ledger import (
    Ledger,
    Lists,
    Noting,
    exchange,
    forget,
    gain,
    make_ledger,
    make_noting,
    relocate,
    swap_gain,
)
from neurocompile.mapping.random_kernels import below, draw, seeded

if TYPE_CHECKING:
    from neurocompile.mapping.refine import Hypergraph, Kept

__all__ = ["Cooling", "anneal"]


NOBODY = -2
"""Stands for a vertex where no exchange fits."""


class Cooling(NamedTuple):
    """How long and how hot; temperatures in units of the nets' weights."""

    steps: int
    hot: float
    cold: float
    exponential: np.ndarray
    """float64 (4096): of :func:`neurocompile.mapping.refine.exponential_table`."""


def anneal(
    graph: Hypergraph,
    kept: Kept,
    block: np.ndarray,
    blocks: int,
    cooling: Cooling,
    seed: int,
    beyond: np.ndarray,
) -> np.ndarray:
    """See :func:`neurocompile.mapping.refine.refine`; the best assignment found."""
    held = int(np.bincount(block, minlength=1).max(initial=0))
    room = max(4, 2 * held)  # members of a block: rows that grow
    ledger, lists = make_ledger(graph, kept, block, blocks, room, beyond)
    best = block.copy()
    _anneal(kept, ledger, lists, make_noting(ledger), cooling, seeded(seed, 0x1234567), best)
    return best


@helper
def _fits(v: int, out: int, b: int, ledger: Ledger) -> bool:
    """Whether v fits into b once ``out`` (or none, -1) has left it."""
    takes, group, members_of_group = ledger.takes, ledger.group, ledger.members_of_group
    for r in range(ledger.limit.size):
        free = ledger.limit[r] - ledger.used[b, r] + (takes[out, r] if out >= 0 else 0)
        if takes[v, r] > free:
            return False
    need = ledger.groups_used[b]
    if members_of_group[b, group[v]] == 0:
        need += 1
    if out >= 0 and group[out] != group[v] and members_of_group[b, group[out]] == 1:
        need -= 1
    return need <= ledger.groups


@helper
def _partner(v: int, a: int, b: int, room: int, ledger: Ledger, state: np.ndarray) -> int:
    """A random vertex that b gives a for v; -1 where v goes there alone, NOBODY where neither fits."""
    size = ledger.size[b]
    if size < room and _fits(v, -1, b, ledger):
        return -1
    if size == 0:
        return NOBODY
    w = ledger.members[b, below(state, size)]
    return w if _fits(v, w, b, ledger) and _fits(w, v, a, ledger) else NOBODY


@helper
def _keeps(noting: Noting, noted: int, ledger: Ledger, columns: np.ndarray) -> bool:
    """Whether the noted blocks keep the capacities that entries count in."""
    for i in range(noted):
        for c in columns:
            if ledger.used[noting.touched[i], c] > ledger.limit[c]:
                return False
    return True


@helper
def _book_if_kept(
    v: int, w: int, a: int, b: int, ledger: Ledger, lists: Lists, noting: Noting
) -> bool:
    """Move v from a to b, and w back (none, -1), unless output lists then break a capacity; their
    nets are left to :func:`exchange`.
    """
    noted = relocate(v, a, b, ledger, lists, noting, 0)
    if w >= 0:
        noted = relocate(w, b, a, ledger, lists, noting, noted)
    kept = _keeps(noting, noted, ledger, lists.columns)
    if not kept:
        noted = relocate(v, b, a, ledger, lists, noting, noted)
        if w >= 0:
            noted = relocate(w, a, b, ledger, lists, noting, noted)
    forget(noting, noted)
    return kept


@kernel
def _anneal(
    nets: Kept,
    ledger: Ledger,
    lists: Lists,
    noting: Noting,
    cooling: Cooling,
    state: np.ndarray,
    best: np.ndarray,
) -> None:
    nets, ledger, lists, noting = (
        borrowed(nets),
        borrowed(ledger),
        borrowed(lists),
        borrowed(noting),
    )
    cooling, state, best = borrowed(cooling), borrowed(state), borrowed(best)
    block = ledger.block
    offsets, pins, vertex_offsets = nets.offsets, nets.pins, nets.vertex_offsets
    vertices, room, steps = best.size, ledger.members.shape[1], cooling.steps
    for _ in range(8):
        draw(state)
    total, least = 0, 0
    epochs = max(1, min(1000, steps // 1000))
    factor = (cooling.cold / cooling.hot) ** (1.0 / epochs)
    temperature = cooling.hot
    for _ in range(epochs):
        for _ in range(steps // epochs):
            v = below(state, vertices)
            if vertex_offsets[v] == vertex_offsets[v + 1]:
                continue
            first = vertex_offsets[v]
            e = nets.nets_of[first + below(state, vertex_offsets[v + 1] - first)]
            b = block[pins[offsets[e] + below(state, offsets[e + 1] - offsets[e])]]
            a = block[v]
            if a == b:
                continue
            bar = temperature * cooling.exponential[np.int64(draw(state) >> np.uint64(52))]
            # before their nets are looked at, which takes far longer
            w = _partner(v, a, b, room, ledger, state)
            if w == NOBODY:
                continue
            change = gain(v, a, b, nets, ledger.pins_in)
            if w >= 0:
                # The largest gain that w could bring does not pay: no need to try.
                if change > bar + 4 * temperature * 16:
                    continue
                change += swap_gain(v, w, a, b, nets, ledger)
            if change > bar or not _book_if_kept(v, w, a, b, ledger, lists, noting):
                continue
            exchange(v, w, a, b, nets, ledger)
            total += change
        if total < least:
            least = total
            for i in range(vertices):
                best[i] = block[i]
        temperature *= factor
