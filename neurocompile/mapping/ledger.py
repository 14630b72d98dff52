"""What annealing keeps of an assignment, and how a move is booked: pins of nets, capacities, groups,
members and output lists of each block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurocompile.mapping.jit import helper, kernel

if TYPE_CHECKING:
    from neurocompile.mapping.refine import Hypergraph, Kept

__all__ = [
    "Ledger",
    "Lists",
    "Noting",
    "distinct_blocks",
    "entries",
    "exchange",
    "forget",
    "gain",
    "make_ledger",
    "make_noting",
    "relocate",
    "swap_gain",
]


class Lists(NamedTuple):
    """Output lists (:class:`neurocompile.mapping.output_lists.OutputLists`) and their fans."""

    first: np.ndarray
    """int64: where the lists begin of which a vertex is a pin; none for later vertices."""
    lists_of: np.ndarray
    """int64: these lists."""
    owner: np.ndarray
    size: np.ndarray
    extra: np.ndarray
    columns: np.ndarray
    least: int
    fan: np.ndarray
    """int64 (lists): distinct blocks of a list's pins."""
    pins_in: np.ndarray
    """int16 (blocks, lists): pins of a list in a block."""


class Ledger(NamedTuple):
    """An assignment with all that follows from it.

    Vertices beyond those that move own lists and lie in blocks of their own, which hold no others.
    """

    block: np.ndarray
    """int64 (vertices): block of each."""
    takes: np.ndarray
    """int64 (vertices, resources), output lists included."""
    limit: np.ndarray
    """int64 (resources): capacity of a block."""
    group: np.ndarray
    """int64 (vertices that move)."""
    groups: int
    """Groups that a block has places for."""
    pins_in: np.ndarray
    """int16 (blocks, nets): pins of a net in a block; a move reads two rows, each nearly in order."""
    marked: np.ndarray
    """int16 (nets): 1 for those of a vertex that is on its way, 0 between two moves."""
    used: np.ndarray
    """int64 (blocks, resources)."""
    members_of_group: np.ndarray
    """int64 (blocks, groups)."""
    groups_used: np.ndarray
    """int64 (blocks)."""
    size: np.ndarray
    """int64 (blocks): members."""
    members: np.ndarray
    """int64 (blocks, room): which these are, the first ``size``."""
    place: np.ndarray
    """int64 (vertices that move): of a vertex among its block's members."""


class Noting(NamedTuple):
    """Blocks whose use a move changed, each once."""

    touched: np.ndarray
    """int64: the first so many as the count says."""
    marked: np.ndarray
    """bool (blocks): whether it is among them."""


def distinct_blocks(
    offsets: np.ndarray, pins: np.ndarray, block: np.ndarray, blocks: int
) -> np.ndarray:
    """Number of different blocks of each net's pins, int64 (nets)."""
    found = np.zeros(offsets.size - 1, dtype=np.int64)
    _distinct_blocks(offsets, pins, block, np.full(blocks, -1, dtype=np.int64), found)
    return found


@kernel
def _distinct_blocks(
    offsets: np.ndarray, pins: np.ndarray, block: np.ndarray, seen: np.ndarray, found: np.ndarray
) -> None:
    for e in range(found.size):
        for i in range(offsets[e], offsets[e + 1]):
            b = block[pins[i]]
            if seen[b] != e:
                seen[b] = e
                found[e] += 1


def make_noting(ledger: Ledger) -> Noting:
    """Nothing noted."""
    rows = len(ledger.used)
    return Noting(np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_))


def make_ledger(
    graph: Hypergraph, kept: Kept, block: np.ndarray, blocks: int, room: int, beyond: np.ndarray
) -> tuple[Ledger, Lists]:
    """The ledger of a start, and its output lists.

    Args:
        block: int64 (vertices that move).
        room: most members of a block.
        beyond: int64 (fixed, resources): what the blocks of the vertices hold that do not move, without
            the lists.
    """
    limit, fixed = graph.limit, len(beyond)
    lists, constant = graph.lists.moving
    takes = np.concatenate([graph.takes, np.zeros((fixed, limit.size), dtype=np.int64)])
    takes[: constant.size, lists.columns] += constant[:, None]
    beyond = beyond + takes[block.size :]
    ledger = Ledger(
        block,
        takes,
        limit,
        graph.group.astype(np.int64),
        graph.groups,
        np.zeros((blocks, kept.weight.size), dtype=np.int16),
        np.zeros(kept.weight.size, dtype=np.int16),
        np.concatenate([np.zeros((blocks, limit.size), dtype=np.int64), beyond]),
        np.zeros((blocks, int(graph.group.max(initial=0)) + 1), dtype=np.int64),
        np.zeros(blocks, dtype=np.int64),
        np.zeros(blocks, dtype=np.int64),
        np.zeros((blocks, room), dtype=np.int64),
        np.zeros(block.size, dtype=np.int64),
    )
    first, lists_of = lists.by_vertex
    held = Lists(
        first,
        lists_of,
        lists.owner,
        lists.size,
        lists.extra,
        lists.columns,
        lists.least,
        np.zeros(lists.owner.size, dtype=np.int64),
        np.zeros((blocks, lists.owner.size), dtype=np.int16),
    )
    _book(kept.offsets, kept.pins, ledger)
    ledger = ledger._replace(block=np.concatenate([block, np.arange(blocks, blocks + fixed)]))
    _book_lists(lists.offsets, lists.pins, ledger, held)
    return ledger, held


@kernel
def _book(offsets: np.ndarray, pins: np.ndarray, ledger: Ledger) -> None:
    """Fill a ledger, all zero, from its blocks."""
    block, group, size = ledger.block, ledger.group, ledger.size
    for e in range(offsets.size - 1):
        for i in range(offsets[e], offsets[e + 1]):
            ledger.pins_in[block[pins[i]], e] += 1
    for v in range(block.size):
        b = block[v]
        ledger.members[b, size[b]] = v
        ledger.place[v] = size[b]
        size[b] += 1
        for r in range(ledger.limit.size):
            ledger.used[b, r] += ledger.takes[v, r]
        if ledger.members_of_group[b, group[v]] == 0:
            ledger.groups_used[b] += 1
        ledger.members_of_group[b, group[v]] += 1


@kernel
def _book_lists(offsets: np.ndarray, pins: np.ndarray, ledger: Ledger, lists: Lists) -> None:
    """Fill the fans of output lists, all zero, and book their entries."""
    block, fan = ledger.block, lists.fan
    for e in range(offsets.size - 1):
        for i in range(offsets[e], offsets[e + 1]):
            b = block[pins[i]]
            if b >= 0:
                fan[e] += lists.pins_in[b, e] == 0
                lists.pins_in[b, e] += 1
        held = entries(fan[e] + lists.extra[e], lists.least) * lists.size[e]
        if held != 0:
            owner = lists.owner[e]
            for c in lists.columns:
                ledger.takes[owner, c] += held
                ledger.used[block[owner], c] += held


@helper
def entries(fan: int, least: int) -> int:
    """Entries that a neuron with so many destinations holds in its output list."""
    return fan if fan >= least else 0


@helper
def gain(v: int, a: int, b: int, nets: Kept, count: np.ndarray) -> int:
    """Change of km1 if v moved from a to b."""
    change, here, there = 0, count[a], count[b]
    for i in range(nets.vertex_offsets[v], nets.vertex_offsets[v + 1]):
        e = nets.nets_of[i]
        change += nets.weight[e] * (np.int64(there[e] == 0) - np.int64(here[e] == 1))
    return change


@helper
def swap_gain(v: int, w: int, a: int, b: int, nets: Kept, ledger: Ledger) -> int:
    """Change of km1 if w moved from b to a once v has moved from a to b."""
    change, here, there, own = 0, ledger.pins_in[b], ledger.pins_in[a], ledger.marked
    for i in range(nets.vertex_offsets[v], nets.vertex_offsets[v + 1]):
        own[nets.nets_of[i]] = 1
    for i in range(nets.vertex_offsets[w], nets.vertex_offsets[w + 1]):
        e = nets.nets_of[i]
        emptied, entered = here[e] + own[e] == 1, there[e] == own[e]
        change += nets.weight[e] * (np.int64(entered) - np.int64(emptied))
    for i in range(nets.vertex_offsets[v], nets.vertex_offsets[v + 1]):
        own[nets.nets_of[i]] = 0
    return change


@helper
def _touch(b: int, noting: Noting, noted: int) -> int:
    """Note a block; how many are noted."""
    if not noting.marked[b]:
        noting.marked[b] = True
        noting.touched[noted] = b
        noted += 1
    return noted


@helper
def forget(noting: Noting, noted: int) -> None:
    """Note nothing any more."""
    for i in range(noted):
        noting.marked[noting.touched[i]] = False


@helper
def _rewire(v: int, a: int, b: int, nets: Kept, ledger: Ledger) -> None:
    """Book the nets of v from a to b."""
    here, there = ledger.pins_in[a], ledger.pins_in[b]
    for i in range(nets.vertex_offsets[v], nets.vertex_offsets[v + 1]):
        here[nets.nets_of[i]] -= 1
        there[nets.nets_of[i]] += 1


@helper
def _move(v: int, a: int, b: int, ledger: Ledger) -> None:
    """Book v from a to b: capacities and groups."""
    takes, used, group = ledger.takes, ledger.used, ledger.group
    for r in range(ledger.limit.size):
        used[a, r] -= takes[v, r]
        used[b, r] += takes[v, r]
    ledger.members_of_group[a, group[v]] -= 1
    if ledger.members_of_group[a, group[v]] == 0:
        ledger.groups_used[a] -= 1
    if ledger.members_of_group[b, group[v]] == 0:
        ledger.groups_used[b] += 1
    ledger.members_of_group[b, group[v]] += 1
    ledger.block[v] = b


@helper
def relocate(
    v: int, a: int, b: int, ledger: Ledger, lists: Lists, noting: Noting, noted: int
) -> int:
    """Book v from a to b, but for its nets (:func:`exchange`), and the entries of every list that this
    changes; how many blocks are noted.
    """
    _move(v, a, b, ledger)
    block, fan, count = ledger.block, lists.fan, lists.pins_in
    if v + 1 < lists.first.size:
        for i in range(lists.first[v], lists.first[v + 1]):
            e = lists.lists_of[i]
            before = fan[e]
            count[a, e] -= 1
            if count[a, e] == 0:
                fan[e] -= 1
            if count[b, e] == 0:
                fan[e] += 1
            count[b, e] += 1
            if fan[e] == before:
                continue
            extra, o = lists.extra[e], lists.owner[e]
            old, new = entries(before + extra, lists.least), entries(fan[e] + extra, lists.least)
            change = (new - old) * lists.size[e]
            for c in lists.columns:
                ledger.takes[o, c] += change
                ledger.used[block[o], c] += change
            noted = _touch(block[o], noting, noted)
    noted = _touch(a, noting, noted)
    return _touch(b, noting, noted)


@helper
def exchange(v: int, w: int, a: int, b: int, nets: Kept, ledger: Ledger) -> None:
    """Book nets, and members of a and b, after v moved from a to b, and w back (none, -1)."""
    _rewire(v, a, b, nets, ledger)
    if w >= 0:
        _rewire(w, b, a, nets, ledger)
    members, place, size = ledger.members, ledger.place, ledger.size
    if w >= 0:
        members[a, place[v]] = w
        members[b, place[w]] = v
        place[v], place[w] = place[w], place[v]
    else:
        size[a] -= 1
        last = members[a, size[a]]
        members[a, place[v]] = last
        place[last] = place[v]
        members[b, size[b]] = v
        place[v] = size[b]
        size[b] += 1
