"""The inner loop of :mod:`neurocompile.mapping.refine`."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import helper, kernel
from neurocompile.mapping.list_kernels import book_lists, keeps, relist

__all__ = ["anneal", "below", "distinct_blocks", "draw", "gain", "ledgers", "move"]


@helper
def draw(state: np.ndarray) -> np.uint64:
    """Next 64 random bits (xorshift64*); ``state`` uint64 (1), not 0."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(2685821657736338717)


@helper
def below(state: np.ndarray, n: int) -> int:
    """A random whole number in 0..n-1, n < 2^31."""
    return np.int64(((draw(state) >> np.uint64(33)) * np.uint64(n)) >> np.uint64(31))


def distinct_blocks(offsets, pins, block, blocks):
    """Number of different blocks of each net's pins, int64 (nets)."""
    found = np.zeros(offsets.size - 1, dtype=np.int64)
    _distinct_blocks(offsets, pins, block, np.full(blocks, -1, dtype=np.int64), found)
    return found


@kernel
def _distinct_blocks(offsets, pins, block, seen, found):
    for e in range(found.size):
        for i in range(offsets[e], offsets[e + 1]):
            b = block[pins[i]]
            if seen[b] != e:
                seen[b] = e
                found[e] += 1


@helper
def fits(v, out, b, takes, limit, used, group, groups, members_of_group, groups_used):
    """Whether v fits into b once ``out`` (or none, -1) has left it."""
    for r in range(limit.size):
        free = limit[r] - used[b, r] + (takes[out, r] if out >= 0 else 0)
        if takes[v, r] > free:
            return False
    need = groups_used[b]
    if members_of_group[b, group[v]] == 0:
        need += 1
    if out >= 0 and group[out] != group[v] and members_of_group[b, group[out]] == 1:
        need -= 1
    return need <= groups


@helper
def move(
    v, a, b, vertex_offsets, nets_of, count, takes, used, group, members_of_group, groups_used
):
    """Book v from a to b."""
    for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
        count[nets_of[i], a] -= 1
        count[nets_of[i], b] += 1
    for r in range(takes.shape[1]):
        used[a, r] -= takes[v, r]
        used[b, r] += takes[v, r]
    members_of_group[a, group[v]] -= 1
    if members_of_group[a, group[v]] == 0:
        groups_used[a] -= 1
    if members_of_group[b, group[v]] == 0:
        groups_used[b] += 1
    members_of_group[b, group[v]] += 1


@helper
def gain(v, a, b, vertex_offsets, nets_of, weight, count):
    """Change of km1 if v moved from a to b."""
    change = 0
    for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
        e = nets_of[i]
        if count[e, a] == 1:
            change -= weight[e]
        if count[e, b] == 0:
            change += weight[e]
    return change


@kernel
def book(
    offsets,
    pins,
    block,
    takes,
    group,
    count,
    used,
    members_of_group,
    groups_used,
    size,
    members,
    place,
):
    """Fill the ledgers of :func:`anneal`, all zero, from ``block``."""
    for e in range(offsets.size - 1):
        for i in range(offsets[e], offsets[e + 1]):
            count[e, block[pins[i]]] += 1
    for v in range(block.size):
        b = block[v]
        members[b, size[b]] = v
        place[v] = size[b]
        size[b] += 1
        for r in range(takes.shape[1]):
            used[b, r] += takes[v, r]
        if members_of_group[b, group[v]] == 0:
            groups_used[b] += 1
        members_of_group[b, group[v]] += 1


def ledgers(graph, kept, block, blocks, room, beyond):
    """Ledgers of annealing, in the order in which kernels take them: block of each vertex, what it takes
    and nets count; what blocks hold, their groups and members; the output lists.

    Vertices beyond those of ``block`` own lists and lie in blocks of their own that hold ``beyond``,
    int64 (fixed, resources), without these lists.
    """
    limit, lists, group, fixed = graph.limit, graph.lists, graph.group, len(beyond)
    count = np.zeros((kept.weight.size, blocks), dtype=np.int16)
    used = np.concatenate([np.zeros((blocks, limit.size), dtype=np.int64), beyond])
    takes = np.concatenate([graph.takes, np.zeros((fixed, limit.size), dtype=np.int64)])
    members_of_group = np.zeros((blocks, int(group.max(initial=0)) + 1), dtype=np.int64)
    groups_used, size = np.zeros(blocks, dtype=np.int64), np.zeros(blocks, dtype=np.int64)
    members, place = np.zeros((blocks, room), dtype=np.int64), np.zeros(block.size, dtype=np.int64)
    book(
        kept.offsets,
        kept.pins,
        block,
        takes,
        group.astype(np.int64),
        count,
        used,
        members_of_group,
        groups_used,
        size,
        members,
        place,
    )
    block = np.concatenate([block, np.arange(blocks, blocks + fixed)])
    first, lists_of = lists.by_vertex
    held = (
        first,
        lists_of,
        lists.owner,
        lists.size,
        lists.extra,
        lists.columns,
        lists.least,
        np.zeros(lists.owner.size, dtype=np.int64),
        np.zeros((lists.owner.size, blocks), dtype=np.int16),
    )
    book_lists(lists.offsets, lists.pins, block, held, takes, used)
    return block, takes, count, used, members_of_group, groups_used, size, members, place, held


def anneal(graph, kept, block, blocks, steps, hot, cold, seed, exponential, beyond):
    """See :func:`neurocompile.mapping.refine.refine`; the best assignment found."""
    vertices, held = block.size, int(np.bincount(block, minlength=1).max(initial=0))
    room = max(4, 2 * held)  # members of a block: rows that grow
    block, takes, count, used, members_of_group, groups_used, size, members, place, lists = ledgers(
        graph, kept, block, blocks, room, beyond
    )
    state = np.empty(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state[0] = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x1234567)
    best = block[:vertices].copy()
    _anneal(
        kept.offsets,
        kept.pins,
        kept.weight,
        kept.vertex_offsets,
        kept.nets_of,
        block,
        takes,
        graph.limit,
        graph.group.astype(np.int64),
        graph.groups,
        steps,
        hot,
        cold,
        exponential,
        count,
        used,
        members_of_group,
        groups_used,
        size,
        members,
        place,
        state,
        best,
        lists,
        np.zeros(2 * int(np.diff(lists[0]).max(initial=0)) + 2, dtype=np.int64),
    )
    return best


@kernel
def _anneal(
    offsets,
    pins,
    weight,
    vertex_offsets,
    nets_of,
    block,
    takes,
    limit,
    group,
    groups,
    steps,
    hot,
    cold,
    exponential,
    count,
    used,
    members_of_group,
    groups_used,
    size,
    members,
    place,
    state,
    best,
    lists,
    touched,
):
    vertices, room, columns = place.size, members.shape[1], lists[5]
    for _ in range(8):
        draw(state)
    total, least = 0, 0
    epochs = max(1, min(1000, steps // 1000))
    factor = (cold / hot) ** (1.0 / epochs)
    temperature = hot
    each = steps // epochs
    for _ in range(epochs):
        for _ in range(each):
            v = below(state, vertices)
            if vertex_offsets[v] == vertex_offsets[v + 1]:
                continue
            e = nets_of[vertex_offsets[v] + below(state, vertex_offsets[v + 1] - vertex_offsets[v])]
            b = block[pins[offsets[e] + below(state, offsets[e + 1] - offsets[e])]]
            a = block[v]
            if a == b:
                continue
            bar = temperature * exponential[np.int64(draw(state) >> np.uint64(52))]
            change = gain(v, a, b, vertex_offsets, nets_of, weight, count)
            w = -1
            if not (
                fits(v, -1, b, takes, limit, used, group, groups, members_of_group, groups_used)
                and size[b] < room
            ):
                if size[b] == 0:
                    continue
                w = members[b, below(state, size[b])]
                # The largest gain that w could bring does not pay: no need to try.
                if change > bar + 4 * temperature * 16:
                    continue
                if not fits(
                    v, w, b, takes, limit, used, group, groups, members_of_group, groups_used
                ):
                    continue
                if not fits(
                    w, v, a, takes, limit, used, group, groups, members_of_group, groups_used
                ):
                    continue
                for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
                    count[nets_of[i], a] -= 1
                    count[nets_of[i], b] += 1
                change += gain(w, b, a, vertex_offsets, nets_of, weight, count)
                for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
                    count[nets_of[i], a] += 1
                    count[nets_of[i], b] -= 1
            if change > bar:
                continue
            taken = False
            for turn in range(2):  # there, and back again if output lists then break a capacity
                x, y = (a, b) if turn == 0 else (b, a)
                move(
                    v,
                    x,
                    y,
                    vertex_offsets,
                    nets_of,
                    count,
                    takes,
                    used,
                    group,
                    members_of_group,
                    groups_used,
                )
                block[v] = y
                if w >= 0:
                    move(
                        w,
                        y,
                        x,
                        vertex_offsets,
                        nets_of,
                        count,
                        takes,
                        used,
                        group,
                        members_of_group,
                        groups_used,
                    )
                    block[w] = x
                noted = relist(v, x, y, block, lists, takes, used, touched, 0)
                if w >= 0:
                    noted = relist(w, y, x, block, lists, takes, used, touched, noted)
                taken = turn == 0 and keeps(touched, noted, used, limit, columns)
                if taken:
                    break
            if not taken:
                continue
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
            total += change
        if total < least:
            least = total
            for i in range(vertices):
                best[i] = block[i]
        temperature *= factor
