"""Kernels of the machine that update the neurons of a group, in all lanes."""

from __future__ import annotations

import numpy as np

from neurocompile.backends.kernels import lif
from neurocompile.backends.vectors import lif_row
from neurocompile.images.image import GROUP_FIELDS, KINDS, columns
from neurocompile.images.rows import lowest
from neurocompile.jit import cached_njit

__all__ = ["count_active", "keep", "stillness", "update"]

_G = columns(GROUP_FIELDS)
_KIND, _FIRST, _COUNT = _G["kind"], _G["first"], _G["count"]
_VTH, _DV, _DU = _G["vth"], _G["dv"], _G["du"]
_SHORT = 4
"""Mean length of runs of neighbours from which whole runs are written, not spike by spike."""
_LIF, _RELU = KINDS.index("LIF"), KINDS.index("GradedRelu")


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _lif(tables, state, frame, g, base):  # type: ignore[no-untyped-def]
    """Spikes of a group into ``state.spiked``."""
    row, wide = tables.groups[g], state.wide[g]
    low, bias = state.start[g] * frame.lanes, state.start[g]
    size, bits = frame.lanes * wide, np.int64(0)
    for a in state.ring[base : base + size]:
        bits |= abs(np.int64(a))
    if bits >> 17:  # further than what 32 bits hold
        shape = (frame.lanes, 1, wide)
        lif(
            state.ring[base : base + frame.lanes * wide].reshape(shape),
            state.bias[bias : bias + wide],
            row[_VTH] << 6,
            row[_DV],
            row[_DU],
            state.u[low : low + frame.lanes * wide].reshape((frame.lanes, wide)),
            state.v[low : low + frame.lanes * wide].reshape((frame.lanes, wide)),
            state.spiked[: frame.lanes * wide].reshape(shape),
        )
        return
    keep_u, keep_v = 4096 - (row[_DU] + 1), 4096 - row[_DV]
    for lane in range(frame.lanes):
        at = lane * wide
        lif_row(
            state.ring,
            base + at,
            state.bias,
            bias,
            state.held,
            low + at,
            state.u.size + low + at,
            state.spiked,
            at,
            wide,
            row[_VTH] << 6,
            keep_u,
            keep_v,
        )


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def update(tables, state, frame, g, base):  # type: ignore[no-untyped-def]
    """Update a group; what its neurons send are items in ``state``. Their number."""
    count, wide, kind = tables.groups[g, _COUNT], state.wide[g], tables.groups[g, _KIND]
    lanes, value, ends, spiked = state.lane, state.value, state.item_end, state.spiked
    ring, found = state.ring, 0
    if kind == _LIF:
        _lif(tables, state, frame, g, base)
    ends[:count] = 0
    for lane in range(frame.lanes):  # a bit of each lane, neurons beside each other
        at = lane * wide
        own, sums = spiked[at : at + count], ring[base + at : base + at + count]  # plain indices
        if kind == _LIF:
            for k in range(count):
                ends[k] |= np.int64(own[k]) << lane
        elif kind == _RELU:
            for k in range(count):
                ends[k] |= np.int64(sums[k] > 0) << lane
        else:
            for k in range(count):
                ends[k] |= np.int64(sums[k] != 0) << lane
    for k in range(count):
        bits = ends[k]
        while bits:
            lane = lowest(bits)
            lanes[found] = lane
            value[found] = 1 if kind == _LIF else ring[base + lane * wide + k]
            found += 1
            bits &= bits - 1
        ends[k] = found
    return found


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def stillness(state, low, size):  # type: ignore[no-untyped-def]
    """2 if neurons ``low..low + size`` hold nothing, 1 if they hold what they held, otherwise 0."""
    level = 2
    for k in range(size):
        u, v = state.u[low + k], state.v[low + k]
        if u != state.before[0, k] or v != state.before[1, k]:
            return 0
        if u != 0 or v != 0:
            level = 1
    return level


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def count_active(tables, state, g, base, now, inside):  # type: ignore[no-untyped-def]
    """Count a group's active updates, before its update."""
    busy = 0
    spiking = tables.groups[g, _KIND] == _LIF
    for k in range(tables.groups[g, _COUNT]):
        at = state.start[g] + k
        held = spiking and (state.bias[at] != 0 or state.v[at] != 0)
        busy += 1 if held or state.touched[base + k] != 0 else 0
    if inside:
        state.active[g] += busy
    if state.by_step.shape[0]:
        state.by_step[now, tables.group_core[g], 3] += busy


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def keep(tables, state, frame, g, base, sample, step):  # type: ignore[no-untyped-def]  # noqa: C901
    """Write what a group sends into its population's trace, before its sums are cleared."""
    first, count, flat = tables.groups[g, _FIRST], tables.groups[g, _COUNT], tables.flat
    wide, kind = state.wide[g], tables.groups[g, _KIND]
    turn, window = sample // frame.windows, sample % frame.windows
    lanes = min(frame.lanes, frame.samples - turn * frame.lanes)
    each = frame.windows * frame.steps * state.trace_size[g]
    begin = (turn * frame.lanes * frame.windows + window) * frame.steps + step
    begin = state.trace_start[g] + begin * state.trace_size[g]
    if tables.runs[g] * _SHORT <= count:
        k = 0
        while k < count:  # neurons that lie beside each other in the population too
            end = k + 1
            while end < count and flat[first + end] == flat[first + end - 1] + 1:
                end += 1
            to, at = begin + flat[first + k], k
            for _ in range(lanes):
                sums = state.ring[base + at : base + at + end - k]
                if kind == _LIF:
                    spikes, own = state.spikes[to : to + end - k], state.spiked[at : at + end - k]
                    for i in range(end - k):
                        spikes[i] = own[i]
                else:
                    values, least = (
                        state.values[to : to + end - k],
                        0 if kind == _RELU else -(1 << 31),
                    )
                    for i in range(end - k):
                        values[i] = max(sums[i], least)
                to, at = to + each, at + wide
            k = end
        return
    item = 0
    for k in range(count):
        for i in range(item, state.item_end[k]):
            if state.lane[i] < lanes:
                to = begin + state.lane[i] * each + flat[first + k]
                if kind == _LIF:
                    state.spikes[to] = 1
                else:
                    state.values[to] = state.value[i]
        item = state.item_end[k]
