"""The inner loop of :func:`neurocompile.mapping.packing.pack`."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import helper, kernel

__all__ = ["pack", "ready_order"]

FULL = (97, 100)
"""Part of a capacity from which on a core takes no strangers."""
TRIES = 16
"""Cores that are tried for a vertex before a new one is opened."""
KNOWN = 32
"""Cores of a net that are remembered, the last ones."""


@helper
def _descending(values, low, high):
    """Sort ``values[low:high]``, which mostly ascend, downwards: numba takes four seconds to
    compile ``np.sort``.
    """
    for i in range((high - low) // 2):
        values[low + i], values[high - 1 - i] = values[high - 1 - i], values[low + i]
    for i in range(low + 1, high):
        value, j = values[i], i
        while j > low and values[j - 1] < value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


def ready_order(owner, offsets, pins, owned_offsets, owned, vertices):
    """Vertices in an order in which one follows its last source at once; int64. See
    ``packing.ready_order``.
    """
    need, stack, order = (np.zeros(vertices, dtype=np.int64) for _ in range(3))
    _ready_order(
        owner,
        offsets,
        pins,
        owned_offsets,
        owned,
        need,
        stack,
        order,
        np.zeros(vertices, dtype=np.bool_),
    )
    return order


@kernel
def _ready_order(owner, offsets, pins, owned_offsets, owned, need, stack, order, done):
    vertices = order.size
    for e in range(owner.size):
        if owner[e] >= 0:
            for i in range(offsets[e], offsets[e + 1]):
                need[pins[i]] += pins[i] != owner[e]
    count = 0
    for cycles in range(
        2
    ):  # what lies in or behind a loop never gets ready: it follows as it comes
        for first in range(vertices):
            if done[first] or (need[first] > 0 and cycles == 0):
                continue
            stack[0], top = first, 1
            while top:
                top -= 1
                v, bottom = stack[top], top
                done[v] = True
                order[count] = v
                count += 1
                for k in range(owned_offsets[v], owned_offsets[v + 1]):
                    for i in range(offsets[owned[k]], offsets[owned[k] + 1]):
                        w = pins[i]
                        if w != v:
                            need[w] -= 1
                            if need[w] == 0 and not done[w]:
                                done[w] = True
                                stack[top] = w
                                top += 1
                _descending(stack, bottom, top)  # the first of them comes next


def pack(
    vertex_offsets,
    nets_of,
    nets,
    weight,
    takes,
    limit,
    heavy,
    most,
    group,
    groups,
    order,
    tie,
    window,
    close,
    lists,
    reserve,
):
    """Core of each vertex, int64; see ``packing.pack``."""
    vertices, resources = takes.shape
    core_of = np.full(vertices, -1, dtype=np.int64)
    used, held = (
        np.zeros((vertices, resources), dtype=np.int64),
        np.zeros((vertices, groups), dtype=np.int32),
    )
    known, shared, part = (
        np.zeros((nets, KNOWN), dtype=np.int32),
        np.zeros(vertices),
        np.empty(resources),
    )
    held_count, known_count, touched, open_, refused = (
        np.zeros(n, dtype=np.int64)
        for n in (vertices, nets, vertices + window, window + 1, vertices)
    )
    first, lists_of = lists.by_vertex
    listed = (
        first,
        lists_of,
        lists.offsets,
        lists.owner,
        lists.size,
        lists.extra,
        lists.columns,
        lists.least,
        np.zeros(len(lists.pins), dtype=np.int64),  # cores of each list's pins
        np.zeros(len(lists.owner), dtype=np.int64),  # how many these are
        lists.fixed(vertices),  # entries of each vertex as far as consumers have cores
        reserve,
        np.zeros(vertices, dtype=np.int64),  # entries that a core would hold more
        np.zeros(vertices + 1, dtype=np.int64),  # these cores
    )
    _pack(
        vertex_offsets,
        nets_of,
        weight,
        takes,
        limit,
        heavy,
        most,
        group,
        groups,
        order,
        tie,
        window,
        close,
        core_of,
        used,
        held,
        known,
        shared,
        part,
        held_count,
        known_count,
        touched,
        open_,
        refused,
        listed,
    )
    return core_of


@helper
def _is_listed(e, core, offsets, cores, fan):
    """Whether a core is one of a list's."""
    for i in range(offsets[e] + fan[e] - 1, offsets[e] - 1, -1):
        if cores[i] == core:
            return True
    return False


@helper
def _lists_fit(v, core, core_of, used, takes, limit, listed):
    """Whether v's own lists fit into a core, and those in which the core is then listed into theirs."""
    first, lists_of, offsets, owner, size, extra, columns, least = listed[:8]
    cores, fan, entries, reserve, more, noted = listed[8:]
    count, own = 0, entries[v]
    if v + 1 < first.size:
        for i in range(first[v], first[v + 1]):
            e = lists_of[i]
            if _is_listed(e, core, offsets, cores, fan):
                continue
            now = fan[e] + extra[e]
            change = (now + 1 if now + 1 >= least else 0) - (now if now >= least else 0)
            o = owner[e]
            if o == v:
                own += change * size[e]
            elif core_of[o] >= 0:
                # Several lists of one owner: the bound of what they add is near enough.
                spare = max(reserve[o] - entries[o], 0)
                extra_entries = change * size[e] - spare
                if extra_entries > 0:
                    if more[core_of[o]] == 0:
                        noted[count] = core_of[o]
                        count += 1
                    more[core_of[o]] += extra_entries
    fine = True
    for c in columns:
        if used[core, c] + more[core] + takes[v, c] + max(own, reserve[v]) > limit[c]:
            fine = False
        for i in range(count):
            if used[noted[i], c] + more[noted[i]] > limit[c]:
                fine = False
    for i in range(count):
        more[noted[i]] = 0
    return fine


@helper
def _enlist(v, core, core_of, used, listed):
    """Book that a core holds a consumer: its own lists, and those in which it is listed now."""
    first, lists_of, offsets, owner, size, extra, columns, least = listed[:8]
    cores, fan, entries, reserve = listed[8:12]
    if v + 1 < first.size:
        for i in range(first[v], first[v + 1]):
            e = lists_of[i]
            if _is_listed(e, core, offsets, cores, fan):
                continue
            now = fan[e] + extra[e]
            change = (now + 1 if now + 1 >= least else 0) - (now if now >= least else 0)
            cores[offsets[e] + fan[e]] = core
            fan[e] += 1
            o = owner[e]
            before = max(entries[o], reserve[o])
            entries[o] += change * size[e]
            if core_of[o] >= 0:
                for c in columns:
                    used[core_of[o], c] += max(entries[o], reserve[o]) - before
    for c in columns:
        used[core, c] += max(entries[v], reserve[v])
    core_of[v] = core


@kernel
def _pack(
    vertex_offsets,
    nets_of,
    weight,
    takes,
    limit,
    heavy,
    most,
    group,
    groups,
    order,
    tie,
    window,
    close,
    core_of,
    used,
    held,
    known,
    shared,
    part,
    held_count,
    known_count,
    touched,
    open_,
    refused,
    listed,
):
    resources, opened, cores = limit.size, 0, 0
    columns, entries, reserve = listed[6], listed[10], listed[11]
    for place in range(order.size):
        v = order[place]
        count, own = 0, 1e-300
        for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
            e = nets_of[i]
            own += weight[e]
            for j in range(min(known_count[e], KNOWN)):
                core = known[e, j]
                if shared[core] == 0 and weight[e] > 0:
                    touched[count] = core
                    count += 1
                shared[core] += weight[e]
        near = count
        for i in range(opened):
            if shared[open_[i]] == 0:
                touched[count] = open_[i]
                count += 1
        for c in columns:
            takes[v, c] += max(entries[v], reserve[v])
        length = 1e-300
        for r in range(resources):
            part[r] = takes[v, r] / max(limit[r], 1)
            length += part[r] * part[r]
        chosen = -1
        for _ in range(TRIES):
            chosen, best = -1, -1.0
            for i in range(count):
                core = touched[i]
                room = refused[core] != v + 1
                for r in range(resources):
                    if used[core, r] + takes[v, r] > (most[r] if heavy[v] else limit[r]):
                        room = False
                        break
                if room and held_count[core] == groups:
                    room = False
                    for j in range(groups):
                        if held[core, j] == group[v]:
                            room = True
                            break
                if not room:
                    continue
                # How well the tile takes what is left of the core: their cosine.
                dot, left = 0.0, 1e-300
                for r in range(resources):
                    free = (limit[r] - used[core, r]) / max(limit[r], 1)
                    dot += part[r] * free
                    left += free * free
                value = shared[core] / own + tie * dot / (np.sqrt(length) * np.sqrt(left))
                if value > best or (value == best and core < chosen):
                    chosen, best = core, value
            if chosen < 0:
                break
            for c in columns:
                takes[v, c] -= max(entries[v], reserve[v])
            fine = _lists_fit(v, chosen, core_of, used, takes, limit, listed)
            for c in columns:
                takes[v, c] += max(entries[v], reserve[v])
            if fine:
                break
            refused[chosen] = v + 1
            chosen = -1
        for i in range(near):
            shared[touched[i]] = 0
        for c in columns:
            takes[v, c] -= max(entries[v], reserve[v])
        if chosen < 0:
            chosen = cores
            cores += 1
            if opened == window:
                for i in range(window - 1):
                    open_[i] = open_[i + 1]
                opened -= 1
            open_[opened] = chosen
            opened += 1
        for r in range(resources):
            used[chosen, r] += takes[v, r]
        _enlist(v, chosen, core_of, used, listed)
        for r in range(resources):
            if (
                close and used[chosen, r] * FULL[1] >= limit[r] * FULL[0] and limit[r] > 0
            ):  # hardly anything fits: its place is another's
                for i in range(opened):
                    if open_[i] == chosen:
                        for j in range(i + 1, opened):
                            open_[j - 1] = open_[j]
                        opened -= 1
                        break
                break
        new = True
        for j in range(held_count[chosen]):
            if held[chosen, j] == group[v]:
                new = False
        if new:
            held[chosen, held_count[chosen]] = group[v]
            held_count[chosen] += 1
        for i in range(vertex_offsets[v], vertex_offsets[v + 1]):
            e = nets_of[i]
            new = True
            for j in range(min(known_count[e], KNOWN)):
                if known[e, j] == chosen:
                    new = False
            if new:
                known[e, known_count[e] % KNOWN] = chosen
                known_count[e] += 1
