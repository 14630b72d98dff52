"""Kernels of the machine that update the neurons of a group, in all lanes."""

from __future__ import annotations

import numpy as np

from neurocompile.backends.kernels import lif
from neurocompile.backends.vectors import lif_row
from neurocompile.images.image import GROUP_FIELDS, KINDS, columns
from neurocompile.jit import cached_njit

__all__ = ["count_active", "keep", "stillness", "update"]

_G = columns(GROUP_FIELDS)
_KIND, _FIRST, _COUNT = _G["kind"], _G["first"], _G["count"]
_VTH, _DV, _DU = _G["vth"], _G["dv"], _G["du"]
_LIF, _RELU = KINDS.index("LIF"), KINDS.index("GradedRelu")


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _lif(tables, state, frame, g, base):  # type: ignore[no-untyped-def]
    """Spikes of a group into ``state.spiked``."""
    row, wide = tables.groups[g], state.wide[g]
    low, bias = state.start[g] * frame.lanes, state.start[g]
    bits = np.int64(0)
    for k in range(base, base + frame.lanes * wide):
        bits |= abs(np.int64(state.ring[k]))
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
    found = 0
    if kind == _LIF:
        _lif(tables, state, frame, g, base)
        for k in range(count):
            for lane in range(frame.lanes):
                state.lane[found] = lane
                state.value[found] = 1
                found += state.spiked[lane * wide + k]
            state.item_end[k] = found
        return found
    for k in range(count):
        for lane in range(frame.lanes):
            a = state.ring[base + lane * wide + k]
            state.lane[found] = lane
            state.value[found] = a
            found += a > 0 if kind == _RELU else a != 0
        state.item_end[k] = found
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
def keep(tables, state, frame, g, sample, step):  # type: ignore[no-untyped-def]
    """Write the items of a group into its population's trace."""
    first, item = tables.groups[g, _FIRST], 0
    turn, window = sample // frame.windows, sample % frame.windows
    for k in range(tables.groups[g, _COUNT]):
        for i in range(item, state.item_end[k]):
            number = turn * frame.lanes + state.lane[i]
            if number < frame.samples:
                at = (number * frame.windows + window) * frame.steps + step
                at = state.trace_start[g] + at * state.trace_size[g] + tables.flat[first + k]
                if tables.groups[g, _KIND] == _LIF:
                    state.spikes[at] = 1
                else:
                    state.values[at] = state.value[i]
        item = state.item_end[k]
