"""The inner loop of :mod:`neurocompile.mapping.relaxed`."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import helper, kernel
from neurocompile.mapping.refine_kernels import below, draw, gain, ledgers, move

__all__ = ["anneal"]

SWAPS = np.uint64(0.3 * 2**32)
"""Of 2^32 tries those that exchange two vertices; the others move one."""
ANYWHERE = np.uint64(0.02 * 2**32)
"""Of 2^32 tries those that go to any block, be it empty; the others go to one of a neighbour."""
URGENT = np.uint64(128)
"""Of 1,024 tries those that take a vertex of a block that is too full, as long as there is one."""
LEAST = 0.02
"""What the least excess costs, as a part of a capacity."""
GROUP = 0.125
"""What a group too many costs, as a part of a capacity."""


@helper
def excess_of(b, used, limit, groups_used, groups):
    """What a block uses beyond its capacities, each as a part of that capacity."""
    found = 0.0
    for r in range(limit.size):
        over = used[b, r] - limit[r]
        if over > 0:
            found += LEAST + over / max(limit[r], 1)
    if b < groups_used.size and groups_used[b] > groups:
        found += (groups_used[b] - groups) * GROUP
    return found


@helper
def touch(b, touched, marked, noted):
    """Note that block b's excess is to be counted again; how many are noted."""
    if not marked[b]:
        marked[b] = True
        touched[noted] = b
        noted += 1
    return noted


@helper
def relocate(
    v, a, b, block, nets, ledger, takes, used, group, members_of_group, groups_used, lists, noting
):
    """Book v from a to b: nets, capacities, groups and the entries of every list that this changes."""
    vertex_offsets, nets_of, count = nets[3], nets[4], ledger
    touched, marked, noted = noting
    move(v, a, b, vertex_offsets, nets_of, count, takes, used, group, members_of_group, groups_used)
    block[v] = b
    first, lists_of, owner, size, extra, columns, least, fan, list_count = lists
    if v + 1 < first.size:
        for i in range(first[v], first[v + 1]):
            e = lists_of[i]
            before = fan[e]
            list_count[e, a] -= 1
            if list_count[e, a] == 0:
                fan[e] -= 1
            if list_count[e, b] == 0:
                fan[e] += 1
            list_count[e, b] += 1
            if fan[e] == before:
                continue
            old, new = before + extra[e], fan[e] + extra[e]
            change = ((new if new >= least else 0) - (old if old >= least else 0)) * size[e]
            o = owner[e]
            for c in columns:
                takes[o, c] += change
                used[block[o], c] += change
            noted = touch(block[o], touched, marked, noted)
    noted = touch(a, touched, marked, noted)
    return touch(b, touched, marked, noted)


def anneal(
    graph, kept, block, blocks, steps, hot, cold, light, heavy, seed, exponential, beyond, only
):
    """See :func:`neurocompile.mapping.relaxed.refine`; the best assignment found within all capacities,
    and whether there is one.
    """
    vertices, rows = block.size, blocks + len(beyond)
    group = graph.group.astype(np.int64)
    ledger = ledgers(graph, kept, block, blocks, vertices, beyond)
    block, takes, count, used, members_of_group, groups_used, size, members, place, lists = ledger
    state = np.empty(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state[0] = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x1234567)
    best, found = block[:vertices].copy(), np.zeros(1, dtype=np.int64)
    epochs = max(1, min(1000, steps // 1000))
    cooler, heavier = (cold / hot) ** (1.0 / epochs), (heavy / light) ** (1.0 / epochs)
    _anneal(
        tuple(kept),
        block,
        takes,
        graph.limit,
        group,
        graph.groups,
        epochs,
        steps // epochs,
        hot,
        cooler,
        light,
        heavier,
        exponential,
        count,
        used,
        members_of_group,
        groups_used,
        size,
        members,
        place,
        lists,
        np.zeros(rows),
        np.zeros(rows, dtype=np.int64),
        np.zeros(rows, dtype=np.bool_),
        np.zeros(rows + 1, dtype=np.int64),
        state,
        best,
        found,
        only,
    )
    return best, bool(found[0])


@kernel
def _anneal(
    nets,
    block,
    takes,
    limit,
    group,
    groups,
    epochs,
    each,
    hot,
    cooler,
    light,
    heavier,
    exponential,
    count,
    used,
    members_of_group,
    groups_used,
    size,
    members,
    place,
    lists,
    excess,
    touched,
    marked,
    full,
    state,
    best,
    found,
    only,
):
    offsets, pins, weight, vertex_offsets, nets_of = nets
    vertices, blocks = place.size, size.size
    for _ in range(8):
        draw(state)
    beyond, overfull = 0.0, 0
    for b in range(excess.size):
        excess[b] = excess_of(b, used, limit, groups_used, groups)
        beyond += excess[b]
        if excess[b] > 0:
            full[overfull] = b
            overfull += 1
    total, least, temperature, price = 0, 0, hot, light
    found[0] = overfull == 0
    for _ in range(epochs):
        for _ in range(each):
            v = below(state, vertices)
            chance = draw(state)
            urgent = overfull > 0 and (chance >> np.uint64(32)) % np.uint64(1024) < URGENT
            if urgent:
                b = below(state, overfull)
                urgent = full[b] < blocks and size[full[b]] > 0
                if urgent:
                    v = members[full[b], below(state, size[full[b]])]
            if (
                urgent
                or vertex_offsets[v] == vertex_offsets[v + 1]
                or (chance & np.uint64(0xFFFFFFFF)) < ANYWHERE
            ):
                b = below(state, blocks)
            else:
                e = nets_of[
                    vertex_offsets[v] + below(state, vertex_offsets[v + 1] - vertex_offsets[v])
                ]
                b = block[pins[offsets[e] + below(state, offsets[e + 1] - offsets[e])]]
            a = block[v]
            if a == b:
                continue
            bar = temperature * exponential[np.int64(draw(state) >> np.uint64(52))]
            change = gain(v, a, b, vertex_offsets, nets_of, weight, count)
            w = -1
            if size[b] > 0 and (chance >> np.uint64(32)) < SWAPS:
                w = members[b, below(state, size[b])]
                for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
                    count[nets_of[i], a] -= 1
                    count[nets_of[i], b] += 1
                change += gain(w, b, a, vertex_offsets, nets_of, weight, count)
                for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
                    count[nets_of[i], a] += 1
                    count[nets_of[i], b] -= 1
            elif size[b] == members.shape[1]:
                continue
            if change - price * beyond > bar:  # even if no excess were left
                continue
            noted, more, taken = 0, 0.0, False
            for turn in range(2):  # there, and back again if that costs too much
                x, y = (a, b) if turn == 0 else (b, a)
                noted = relocate(
                    v,
                    x,
                    y,
                    block,
                    nets,
                    count,
                    takes,
                    used,
                    group,
                    members_of_group,
                    groups_used,
                    lists,
                    (touched, marked, noted),
                )
                if w >= 0:
                    noted = relocate(
                        w,
                        y,
                        x,
                        block,
                        nets,
                        count,
                        takes,
                        used,
                        group,
                        members_of_group,
                        groups_used,
                        lists,
                        (touched, marked, noted),
                    )
                if turn == 0:
                    for i in range(noted):
                        t = touched[i]
                        more += excess_of(t, used, limit, groups_used, groups) - excess[t]
                    taken = change + price * more <= bar
                    if taken:
                        break
            for i in range(noted):
                t = touched[i]
                marked[t] = False
                if taken:
                    new = excess_of(t, used, limit, groups_used, groups)
                    if new > 0 and excess[t] <= 0:
                        full[overfull] = t
                        overfull += 1
                    elif new <= 0 and excess[t] > 0:
                        for k in range(overfull):
                            if full[k] == t:
                                overfull -= 1
                                full[k] = full[overfull]
                                break
                    excess[t] = new
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
            beyond = beyond + more if overfull else 0.0
        if overfull == 0 and (total < least or found[0] == 0):
            found[0], least = 1, total
            for i in range(vertices):
                best[i] = block[i]
            if only:
                return
        temperature *= cooler
        price *= heavier
