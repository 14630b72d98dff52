"""The inner loops of :func:`neurocompile.mapping.packing.pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurocompile.mapping.jit import helper, kernel
from neurocompile.mapping.ledger import entries as held_entries

if TYPE_CHECKING:
    from neurocompile.mapping.output_lists import OutputLists

__all__ = ["Instance", "pack", "ready_order"]

FULL = (97, 100)
"""Part of a capacity from which on a core takes no strangers."""
TRIES = 16
"""Cores that are tried for a vertex before a new one is opened."""
KNOWN = 32
"""Cores of a net that are remembered, the last ones."""


class Instance(NamedTuple):
    """What is to be packed; see :func:`neurocompile.mapping.packing.pack`."""

    vertex_offsets: np.ndarray
    """int64 (vertices + 1): where a vertex's nets begin."""
    nets_of: np.ndarray
    """int64."""
    weight: np.ndarray
    """float64 (nets)."""
    takes: np.ndarray
    """int64 (vertices, resources)."""
    limit: np.ndarray
    """int64 (resources)."""
    heavy: np.ndarray
    """bool (vertices): those that fill a core up to ``most`` alone."""
    most: np.ndarray
    """int64 (resources)."""
    group: np.ndarray
    """int32 (vertices)."""
    groups: int
    order: np.ndarray
    """int64 (vertices): in which they are taken."""
    tie: float
    """What the fit into a core's free room counts beside shared messages."""
    window: int
    """Cores that stay open to strangers."""
    close: bool
    """Whether a core that is as good as full makes way for another."""


class Cores(NamedTuple):
    """Cores as they fill."""

    of: np.ndarray
    """int64 (vertices): core of each, -1 while it has none."""
    used: np.ndarray
    """int64 (cores, resources)."""
    groups: np.ndarray
    """int32 (cores, groups): the first ``group_count``."""
    group_count: np.ndarray
    """int64 (cores)."""
    known: np.ndarray
    """int32 (nets, KNOWN): cores of a net, a ring."""
    known_count: np.ndarray
    """int64 (nets)."""
    open: np.ndarray
    """int64 (window + 1): cores that are open, the oldest first."""
    shared: np.ndarray
    """float64 (cores): messages that a vertex shares, 0 between vertices."""
    touched: np.ndarray
    """int64: candidates for a vertex."""
    refused: np.ndarray
    """int64 (cores): vertex + 1 whose output lists did not fit."""
    part: np.ndarray
    """float64 (resources): what a vertex takes, as parts of capacities."""


class Listed(NamedTuple):
    """Output lists, and what they hold so far."""

    first: np.ndarray
    lists_of: np.ndarray
    offsets: np.ndarray
    owner: np.ndarray
    size: np.ndarray
    extra: np.ndarray
    columns: np.ndarray
    least: int
    cores: np.ndarray
    """int64: cores of each list's pins, from its offset on."""
    fan: np.ndarray
    """int64 (lists): how many these are."""
    entries: np.ndarray
    """int64 (vertices): as far as consumers have cores."""
    reserve: np.ndarray
    """int64 (vertices): entries set aside."""
    more: np.ndarray
    """int64 (cores): entries that a core would hold more, 0 between vertices."""
    noted: np.ndarray
    """int64: these cores."""


@helper
def _descending(values: np.ndarray, low: int, high: int) -> None:
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


def ready_order(
    owner: np.ndarray,
    offsets: np.ndarray,
    pins: np.ndarray,
    owned_offsets: np.ndarray,
    owned: np.ndarray,
    vertices: int,
) -> np.ndarray:
    """Vertices in an order in which one follows its last source at once; int64. See
    ``packing.ready_order``.
    """
    need, stack, order = (np.zeros(vertices, dtype=np.int64) for _ in range(3))
    done = np.zeros(vertices, dtype=np.bool_)
    _ready_order(owner, offsets, pins, owned_offsets, owned, need, stack, order, done)
    return order


@kernel
def _ready_order(
    owner: np.ndarray,
    offsets: np.ndarray,
    pins: np.ndarray,
    owned_offsets: np.ndarray,
    owned: np.ndarray,
    need: np.ndarray,
    stack: np.ndarray,
    order: np.ndarray,
    done: np.ndarray,
) -> None:
    vertices = order.size
    for e in range(owner.size):
        if owner[e] >= 0:
            for i in range(offsets[e], offsets[e + 1]):
                need[pins[i]] += pins[i] != owner[e]
    count = 0
    # what lies in or behind a loop never gets ready: it follows as it comes
    for cycles in range(2):
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


def pack(instance: Instance, lists: OutputLists, reserve: np.ndarray) -> np.ndarray:
    """Core of each vertex, int64; see ``packing.pack``. Changes ``instance.takes`` on the way."""
    (vertices, resources), nets = instance.takes.shape, len(instance.weight)

    def numbers(*size: int) -> np.ndarray:
        return np.zeros(size, dtype=np.int64)

    cores = Cores(
        np.full(vertices, -1, dtype=np.int64),
        numbers(vertices, resources),
        np.zeros((vertices, instance.groups), dtype=np.int32),
        numbers(vertices),
        np.zeros((nets, KNOWN), dtype=np.int32),
        numbers(nets),
        numbers(instance.window + 1),
        np.zeros(vertices),
        numbers(vertices + instance.window),
        numbers(vertices),
        np.empty(resources),
    )
    first, lists_of = lists.by_vertex
    listed = Listed(
        first,
        lists_of,
        lists.offsets,
        lists.owner,
        lists.size,
        lists.extra,
        lists.columns,
        lists.least,
        numbers(len(lists.pins)),
        numbers(len(lists.owner)),
        lists.fixed(vertices),
        reserve,
        numbers(vertices),
        numbers(vertices + 1),
    )
    _pack(instance, cores, listed)
    return cores.of


@helper
def _is_listed(e: int, core: int, listed: Listed) -> bool:
    """Whether a core is one of a list's."""
    start = listed.offsets[e]
    for i in range(start + listed.fan[e] - 1, start - 1, -1):
        if listed.cores[i] == core:
            return True
    return False


@helper
def _one_more(e: int, listed: Listed) -> int:
    """Entries of a neuron that one core more in its list adds."""
    now = listed.fan[e] + listed.extra[e]
    return held_entries(now + 1, listed.least) - held_entries(now, listed.least)


@helper
def _lists_fit(v: int, core: int, cores: Cores, instance: Instance, listed: Listed) -> bool:  # noqa: C901
    """Whether v's own lists fit into a core, and those in which the core is then listed into theirs."""
    more, noted, reserve, entries = listed.more, listed.noted, listed.reserve, listed.entries
    count, own = 0, entries[v]
    if v + 1 < listed.first.size:
        for i in range(listed.first[v], listed.first[v + 1]):
            e = listed.lists_of[i]
            if _is_listed(e, core, listed):
                continue
            added, o = _one_more(e, listed) * listed.size[e], listed.owner[e]
            if o == v:
                own += added
            elif cores.of[o] >= 0:
                # Several lists of one owner: the bound of what they add is near enough.
                beyond = added - max(reserve[o] - entries[o], 0)
                if beyond > 0:
                    if more[cores.of[o]] == 0:
                        noted[count] = cores.of[o]
                        count += 1
                    more[cores.of[o]] += beyond
    fine, used, limit = True, cores.used, instance.limit
    for c in listed.columns:
        if used[core, c] + more[core] + instance.takes[v, c] + max(own, reserve[v]) > limit[c]:
            fine = False
        for i in range(count):
            if used[noted[i], c] + more[noted[i]] > limit[c]:
                fine = False
    for i in range(count):
        more[noted[i]] = 0
    return fine


@helper
def _enlist(v: int, core: int, cores: Cores, listed: Listed) -> None:
    """Book that a core holds a consumer: its own lists, and those in which it is listed now."""
    entries, reserve = listed.entries, listed.reserve
    if v + 1 < listed.first.size:
        for i in range(listed.first[v], listed.first[v + 1]):
            e = listed.lists_of[i]
            if _is_listed(e, core, listed):
                continue
            added, o = _one_more(e, listed) * listed.size[e], listed.owner[e]
            listed.cores[listed.offsets[e] + listed.fan[e]] = core
            listed.fan[e] += 1
            before = max(entries[o], reserve[o])
            entries[o] += added
            if cores.of[o] >= 0:
                for c in listed.columns:
                    cores.used[cores.of[o], c] += max(entries[o], reserve[o]) - before
    for c in listed.columns:
        cores.used[core, c] += max(entries[v], reserve[v])
    cores.of[v] = core


@helper
def _candidates(v: int, opened: int, cores: Cores, instance: Instance) -> tuple[int, int, float]:
    """Cores that share v's messages, then the open ones: how many share, how many there are, and all
    messages of v.
    """
    weight, known, shared = instance.weight, cores.known, cores.shared
    count, own = 0, 1e-300
    for i in range(instance.vertex_offsets[v], instance.vertex_offsets[v + 1]):
        e = instance.nets_of[i]
        own += weight[e]
        for j in range(min(cores.known_count[e], KNOWN)):
            core = known[e, j]
            if shared[core] == 0 and weight[e] > 0:
                cores.touched[count] = core
                count += 1
            shared[core] += weight[e]
    near = count
    for i in range(opened):
        if shared[cores.open[i]] == 0:
            cores.touched[count] = cores.open[i]
            count += 1
    return near, count, own


@helper
def _has_room(v: int, core: int, cores: Cores, instance: Instance) -> bool:
    """Whether a core keeps its capacities and groups with v."""
    if cores.refused[core] == v + 1:
        return False
    for r in range(instance.limit.size):
        most = instance.most[r] if instance.heavy[v] else instance.limit[r]
        if cores.used[core, r] + instance.takes[v, r] > most:
            return False
    if cores.group_count[core] < instance.groups:
        return True
    for j in range(instance.groups):
        if cores.groups[core, j] == instance.group[v]:
            return True
    return False


@helper
def _best(v: int, count: int, own: float, length: float, cores: Cores, instance: Instance) -> int:
    """The candidate that shares most of v's messages, ties broken by how well v takes what is left of
    it (the cosine of the two); -1 where none has room.
    """
    chosen, best = -1, -1.0
    for i in range(count):
        core = cores.touched[i]
        if not _has_room(v, core, cores, instance):
            continue
        dot, left = 0.0, 1e-300
        for r in range(instance.limit.size):
            free = (instance.limit[r] - cores.used[core, r]) / max(instance.limit[r], 1)
            dot += cores.part[r] * free
            left += free * free
        fit = instance.tie * dot / (np.sqrt(length) * np.sqrt(left))
        value = cores.shared[core] / own + fit
        if value > best or (value == best and core < chosen):
            chosen, best = core, value
    return chosen


@helper
def _add_lists(v: int, sign: int, instance: Instance, listed: Listed) -> None:
    """Count v's output lists among what it takes (1), or no longer (-1)."""
    for c in listed.columns:
        instance.takes[v, c] += sign * max(listed.entries[v], listed.reserve[v])


@helper
def _choose(v: int, opened: int, cores: Cores, instance: Instance, listed: Listed) -> int:
    """The core for v among those that are there; -1 where none takes it."""
    near, count, own = _candidates(v, opened, cores, instance)
    _add_lists(v, 1, instance, listed)
    length = 1e-300
    for r in range(instance.limit.size):
        cores.part[r] = instance.takes[v, r] / max(instance.limit[r], 1)
        length += cores.part[r] * cores.part[r]
    chosen = -1
    for _ in range(TRIES):
        chosen = _best(v, count, own, length, cores, instance)
        if chosen < 0:
            break
        _add_lists(v, -1, instance, listed)
        fine = _lists_fit(v, chosen, cores, instance, listed)
        _add_lists(v, 1, instance, listed)
        if fine:
            break
        cores.refused[chosen] = v + 1
        chosen = -1
    for i in range(near):
        cores.shared[cores.touched[i]] = 0
    _add_lists(v, -1, instance, listed)
    return chosen


@helper
def _opened(core: int, opened: int, window: int, cores: Cores) -> int:
    """Open a new core, in place of the oldest where too many are; how many are open."""
    if opened == window:
        for i in range(window - 1):
            cores.open[i] = cores.open[i + 1]
        opened -= 1
    cores.open[opened] = core
    return opened + 1


@helper
def _closed_if_full(core: int, opened: int, cores: Cores, instance: Instance) -> int:
    """Close a core into which hardly anything fits: its place is another's. How many are open."""
    for r in range(instance.limit.size):
        limit = instance.limit[r]
        if cores.used[core, r] * FULL[1] >= limit * FULL[0] and limit > 0:
            for i in range(opened):
                if cores.open[i] == core:
                    for j in range(i + 1, opened):
                        cores.open[j - 1] = cores.open[j]
                    return opened - 1
            break
    return opened


@helper
def _remember(v: int, core: int, cores: Cores, instance: Instance) -> None:
    """Note v's group among the core's, and the core among those of v's nets."""
    new = True
    for j in range(cores.group_count[core]):
        if cores.groups[core, j] == instance.group[v]:
            new = False
    if new:
        cores.groups[core, cores.group_count[core]] = instance.group[v]
        cores.group_count[core] += 1
    for i in range(instance.vertex_offsets[v], instance.vertex_offsets[v + 1]):
        e = instance.nets_of[i]
        new = True
        for j in range(min(cores.known_count[e], KNOWN)):
            if cores.known[e, j] == core:
                new = False
        if new:
            cores.known[e, cores.known_count[e] % KNOWN] = core
            cores.known_count[e] += 1


@kernel
def _pack(instance: Instance, cores: Cores, listed: Listed) -> None:
    opened, there = 0, 0
    for place in range(instance.order.size):
        v = instance.order[place]
        core = _choose(v, opened, cores, instance, listed)
        if core < 0:
            core = there
            there += 1
            opened = _opened(core, opened, instance.window, cores)
        for r in range(instance.limit.size):
            cores.used[core, r] += instance.takes[v, r]
        _enlist(v, core, cores, listed)
        if instance.close:
            opened = _closed_if_full(core, opened, cores, instance)
        _remember(v, core, cores, instance)
