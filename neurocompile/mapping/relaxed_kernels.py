"""The inner loop of :mod:`neurocompile.mapping.relaxed`."""

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
from neurocompile.mapping.refine_kernels import Cooling

if TYPE_CHECKING:
    from neurocompile.mapping.refine import Hypergraph, Kept

__all__ = ["Prices", "anneal"]

SWAPS = np.uint64(0.3 * 2**32)
"""Of 2^32 tries those that exchange two vertices; the others move one."""
ANYWHERE = np.uint64(0.02 * 2**32)
"""Of 2^32 tries those that go to any block, be it empty; the others go to one of a neighbour."""
URGENT = np.uint64(128)
"""Of 1,024 tries those that take a vertex of a block that is too full, as long as there is one."""
LEAST = 0.02
"""What the least excess costs, as a part of a capacity."""
SLACK = 1e-9
"""Of such parts: more than sums of them round to."""
GROUP = 0.125
"""What a group too many costs, as a part of a capacity."""


class Prices(NamedTuple):
    """Of exceeding a capacity by all of it, at first and at last, in units of the nets' weights."""

    light: float
    heavy: float


class Excess(NamedTuple):
    """Blocks beyond their capacities."""

    of: np.ndarray
    """float64 (blocks): what each uses too much, as parts of capacities."""
    full: np.ndarray
    """int64: the blocks with an excess, the first so many as the count says."""
    listed: np.ndarray
    """bool (resources): those that entries of output lists count in."""
    of_lists: np.ndarray
    """float64 (blocks and one more): what each uses too much of these, and all of them."""
    most: np.ndarray
    """int64 (vertices): weight of all nets of each, which no move of it can bring more than."""


def anneal(
    graph: Hypergraph,
    kept: Kept,
    block: np.ndarray,
    blocks: int,
    cooling: Cooling,
    prices: Prices,
    seed: int,
    beyond: np.ndarray,
    only: bool,
) -> tuple[np.ndarray, bool]:
    """See :func:`neurocompile.mapping.relaxed.refine_relaxed`; the best assignment found within all
    capacities, and whether there is one.
    """
    ledger, lists = make_ledger(graph, kept, block, blocks, block.size, beyond)
    rows = len(ledger.used)
    best, found = block.copy(), np.zeros(1, dtype=np.int64)
    epochs = max(1, min(1000, cooling.steps // 1000))
    cooler = (cooling.cold / cooling.hot) ** (1.0 / epochs)
    heavier = (prices.heavy / prices.light) ** (1.0 / epochs)
    _anneal(
        kept,
        ledger,
        lists,
        make_noting(ledger),
        _no_excess(rows, lists, kept, limits=len(graph.limit)),
        cooling,
        (epochs, cooler, prices.light, heavier),
        seeded(seed, 0x1234567),
        best,
        found,
        only,
    )
    return best, bool(found[0])


def _no_excess(rows: int, lists: Lists, kept: Kept, limits: int) -> Excess:
    """Nothing counted yet."""
    sums = np.concatenate([[0], np.cumsum(kept.weight[kept.nets_of])])
    full, of_lists = np.zeros(rows + 1, dtype=np.int64), np.zeros(rows + 1)
    most = np.diff(sums[kept.vertex_offsets]).astype(np.int64)
    return Excess(np.zeros(rows), full, np.isin(np.arange(limits), lists.columns), of_lists, most)


@helper
def _excess_of(b: int, ledger: Ledger) -> float:
    """What a block uses beyond its capacities, each as a part of that capacity."""
    found = 0.0
    for r in range(ledger.limit.size):
        over = ledger.used[b, r] - ledger.limit[r]
        if over > 0:
            found += LEAST + over / max(ledger.limit[r], 1)
    if b < ledger.groups_used.size and ledger.groups_used[b] > ledger.groups:
        found += (ledger.groups_used[b] - ledger.groups) * GROUP
    return found


@helper
def _count_lists(b: int, ledger: Ledger, excess: Excess) -> None:
    """Count the part of it that output lists have a share in."""
    found = 0.0
    for r in range(ledger.limit.size):
        over = ledger.used[b, r] - ledger.limit[r]
        if excess.listed[r] and over > 0:
            found += LEAST + over / max(ledger.limit[r], 1)
    excess.of_lists[-1] += found - excess.of_lists[b]
    excess.of_lists[b] = found


@helper
def _begun(ledger: Ledger, excess: Excess) -> tuple[float, int]:
    """Count the excess of a start: of all blocks, and how many are too full."""
    beyond, overfull = 0.0, 0
    for b in range(excess.of.size):
        excess.of[b] = _excess_of(b, ledger)
        beyond += excess.of[b]
        _count_lists(b, ledger, excess)
        if excess.of[b] > 0:
            excess.full[overfull] = b
            overfull += 1
    return beyond, overfull


@helper
def _without_lists(v: int, w: int, a: int, b: int, ledger: Ledger, listed: np.ndarray) -> float:
    """By how much a and b exceed more, what lists have a share in left out, if v moved from a to b,
    and w back (none, -1).
    """
    takes, used, limit, found = ledger.takes, ledger.used, ledger.limit, 0.0
    for r in range(limit.size):
        if listed[r]:
            continue
        moved = takes[v, r] - (takes[w, r] if w >= 0 else 0)
        for t, change in ((a, -moved), (b, moved)):
            before = used[t, r] - limit[r]
            after = before + change
            if after > 0:
                found += LEAST + after / max(limit[r], 1)
            if before > 0:
                found -= LEAST + before / max(limit[r], 1)
    group, held, used_groups = ledger.group, ledger.members_of_group, ledger.groups_used
    more_a, more_b = -1 * (held[a, group[v]] == 1), 1 * (held[b, group[v]] == 0)
    if w >= 0:
        if group[v] == group[w]:
            return found
        more_a += held[a, group[w]] == 0
        more_b -= held[b, group[w]] == 1
    for t, change in ((a, more_a), (b, more_b)):
        before = used_groups[t] - ledger.groups
        found += (max(before + change, 0) - max(before, 0)) * GROUP
    return found


@helper
def _least_more(v: int, w: int, a: int, b: int, ledger: Ledger, excess: Excess) -> float:
    """The least by which all blocks exceed more: that of lists could at best end."""
    return _without_lists(v, w, a, b, ledger, excess.listed) - excess.of_lists[-1] - SLACK


@helper
def _most(v: int, w: int, excess: Excess) -> int:
    """What a move or an exchange of the two could gain at most."""
    return excess.most[v] + (excess.most[w] if w >= 0 else 0)


@helper
def _gain(v: int, w: int, a: int, b: int, nets: Kept, ledger: Ledger) -> int:
    """Change of km1 if v moved from a to b, and w back (none, -1)."""
    change = gain(v, a, b, nets, ledger.pins_in)
    return change + swap_gain(v, w, a, b, nets, ledger) if w >= 0 else change


@helper
def _more(noting: Noting, noted: int, ledger: Ledger, excess: Excess) -> float:
    """By how much the noted blocks exceed more than before."""
    found = 0.0
    for i in range(noted):
        t = noting.touched[i]
        found += _excess_of(t, ledger) - excess.of[t]
    return found


@helper
def _settle(noting: Noting, noted: int, ledger: Ledger, excess: Excess, overfull: int) -> int:
    """Take over what the noted blocks exceed now; how many blocks are too full."""
    full = excess.full
    for i in range(noted):
        t = noting.touched[i]
        new = _excess_of(t, ledger)
        if new > 0 and excess.of[t] <= 0:
            full[overfull] = t
            overfull += 1
        elif new <= 0 and excess.of[t] > 0:
            for k in range(overfull):
                if full[k] == t:
                    overfull -= 1
                    full[k] = full[overfull]
                    break
        excess.of[t] = new
        _count_lists(t, ledger, excess)
    return overfull


@helper
def _relocate_both(
    v: int, w: int, a: int, b: int, ledger: Ledger, lists: Lists, noting: Noting, noted: int
) -> int:
    """Book v from a to b, and w back (none, -1); how many blocks are noted."""
    noted = relocate(v, a, b, ledger, lists, noting, noted)
    return relocate(w, b, a, ledger, lists, noting, noted) if w >= 0 else noted


@kernel
def _anneal(  # noqa: C901
    nets: Kept,
    ledger: Ledger,
    lists: Lists,
    noting: Noting,
    excess: Excess,
    cooling: Cooling,
    plan: tuple[int, float, float, float],
    state: np.ndarray,
    best: np.ndarray,
    found: np.ndarray,
    only: bool,
) -> None:
    nets, ledger, lists, noting = (
        borrowed(nets),
        borrowed(ledger),
        borrowed(lists),
        borrowed(noting),
    )
    excess, cooling, state, best = (
        borrowed(excess),
        borrowed(cooling),
        borrowed(state),
        borrowed(best),
    )
    offsets, pins, vertex_offsets = nets.offsets, nets.pins, nets.vertex_offsets
    block, size, members, full = ledger.block, ledger.size, ledger.members, excess.full
    vertices, blocks = best.size, size.size
    epochs, cooler, price, heavier = plan
    for _ in range(8):
        draw(state)
    beyond, overfull = _begun(ledger, excess)
    total, least, temperature = 0, 0, cooling.hot
    found[0] = overfull == 0
    for _ in range(epochs):
        for _ in range(cooling.steps // epochs):
            v = below(state, vertices)
            chance = draw(state)
            urgent = overfull > 0 and (chance >> np.uint64(32)) % np.uint64(1024) < URGENT
            if urgent:
                b = below(state, overfull)
                urgent = full[b] < blocks and size[full[b]] > 0
                if urgent:
                    v = members[full[b], below(state, size[full[b]])]
            first, last = vertex_offsets[v], vertex_offsets[v + 1]
            if urgent or first == last or (chance & np.uint64(0xFFFFFFFF)) < ANYWHERE:
                b = below(state, blocks)
            else:
                e = nets.nets_of[first + below(state, last - first)]
                b = block[pins[offsets[e] + below(state, offsets[e + 1] - offsets[e])]]
            a = block[v]
            if a == b:
                continue
            bar = temperature * cooling.exponential[np.int64(draw(state) >> np.uint64(52))]
            w = -1
            if size[b] > 0 and (chance >> np.uint64(32)) < SWAPS:
                w = members[b, below(state, size[b])]
            elif size[b] == members.shape[1]:
                continue
            # before nets and lists are looked at
            cost = price * _least_more(v, w, a, b, ledger, excess)
            if cost - _most(v, w, excess) > bar:
                continue
            change = _gain(v, w, a, b, nets, ledger)
            if change - price * beyond > bar or change + cost > bar:
                continue
            noted = _relocate_both(v, w, a, b, ledger, lists, noting, 0)
            more = _more(noting, noted, ledger, excess)
            taken = change + price * more <= bar
            if taken:
                overfull = _settle(noting, noted, ledger, excess, overfull)
            else:
                noted = _relocate_both(v, w, b, a, ledger, lists, noting, noted)
            forget(noting, noted)
            if not taken:
                continue
            exchange(v, w, a, b, nets, ledger)
            total += change
            beyond = beyond + more if overfull else 0.0
        if overfull == 0 and (total < least or found[0] == 0):
            found[0], least = 1, total
            for i in range(vertices):
                best[i] = block[i]
            if only:
                return
        temperature *= cooler
        price *= heavier
