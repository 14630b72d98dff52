"""Kernels of the machine that executes core images, message by message.

Everything is a flat table of all cores. A message is delivered when it is sent: each port's delay,
one step at least, chooses the slot of the ring in which it waits at its neurons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neurocompile.backends.kernels import lif
from neurocompile.images.image import DENSE, GROUP_FIELDS, KINDS, PORT_FIELDS, SPARSE, columns
from neurocompile.jit import cached_njit

__all__ = ["Events", "Frame", "State", "Tables", "run_steps"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
_KIND, _FIRST, _COUNT = _G["kind"], _G["first"], _G["count"]
_VTH, _DV, _DU = _G["vth"], _G["dv"], _G["du"]
_BIASED = _G["has_bias"]
_INTERVAL, _PHASE = _G["reset_interval"], _G["reset_phase"]
_P_KIND, _GROUP, _DELAY, _EXP = _P["kind"], _P["group"], _P["delay"], _P["weight_exp"]
_AXON, _ROWS, _WEIGHTS, _SYNAPSES = _P["axon"], _P["rows"], _P["weights"], _P["synapses"]
_SHARED, _INPUTS, _FIRST_GROUP = _P["shared"], _P["group_inputs"], _P["first_group"]
_GROUPS, _OUTPUTS = _P["groups"], _P["group_outputs"]
_HEIGHT, _WIDTH = _P["height"], _P["width"]
_STRIDE_Y, _STRIDE_X = _P["stride_y"], _P["stride_x"]
_PADDING_Y, _PADDING_X = _P["padding_y"], _P["padding_x"]
_DILATION_Y, _DILATION_X = _P["dilation_y"], _P["dilation_x"]
_DENSE, _SPARSE = DENSE, SPARSE
_LIF, _RELU = KINDS.index("LIF"), KINDS.index("GradedRelu")


class Tables(NamedTuple):
    """All cores' tables, one behind the other; indices are into these."""

    groups: np.ndarray
    boxes: np.ndarray
    """int64 (groups, 2, 3): the last three axes."""
    group_core: np.ndarray
    depths: np.ndarray
    bias: np.ndarray
    """int32 (neurons): with their exponent."""
    flat: np.ndarray
    """int64 (neurons): place in the population's array."""
    ports: np.ndarray
    axon_port: np.ndarray
    axon_next: np.ndarray
    row_start: np.ndarray
    """int64 (axons): of a sparse row, from its port's first synapse on."""
    row_end: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    neuron_map: np.ndarray
    """int64 (senders): entry of the output map by neuron, -1 for none; neurons, then the host's."""
    position_map: np.ndarray
    channels: np.ndarray
    """int64 (senders)."""
    map_start: np.ndarray
    map_end: np.ndarray
    entry_core: np.ndarray
    entry_axon: np.ndarray
    entry_set: np.ndarray
    channel_sets: np.ndarray


class Frame(NamedTuple):
    """What one stream of samples is."""

    total: int
    """Global steps."""
    rounds: int
    """Samples, or windows of all samples."""
    warm: int
    """Rounds in front that are not counted, and not traced."""
    period: int
    steps: int
    cores: int
    counting: bool
    """Whether active updates are counted."""


class Events(NamedTuple):
    """What the host sends."""

    ends: np.ndarray
    """int64 (2 * global steps): ends of those of each step that are not counted, and that are."""
    sender: np.ndarray
    """int64: neurons of the host come after those of the cores."""
    value: np.ndarray
    """int32."""


class State(NamedTuple):
    """What a run changes; all arrays are zero before it."""

    ring: np.ndarray
    """int32: sums that wait, for each group (slots, neurons)."""
    touched: np.ndarray
    """uint8, of the same places; empty unless counting."""
    ring_start: np.ndarray
    ring_slots: np.ndarray
    arrived: np.ndarray
    """uint8: whether anything waits, for each group (slots)."""
    arrived_start: np.ndarray
    quiet: np.ndarray
    """uint8 (groups): nothing happens in a step without messages: all currents and voltages are 0, or
    leak whole, and there is no bias."""
    forgets: np.ndarray
    """uint8 (groups): quiet whatever it holds."""
    u: np.ndarray
    v: np.ndarray
    out: np.ndarray
    """int32 (neurons of the largest group)."""
    spiked: np.ndarray
    """uint8, of the same length."""
    trace_start: np.ndarray
    """int64 (groups): where its population's trace begins; -1 for none."""
    trace_size: np.ndarray
    """int64 (groups): neurons of its population."""
    spikes: np.ndarray
    """uint8: traces of spiking populations."""
    values: np.ndarray
    """int32: traces of graded ones."""
    sent: np.ndarray
    """int64 (2, entries): messages outside and inside of samples' own steps."""
    operations: np.ndarray
    """int64 (2, ports): synapses met, likewise."""
    fired: np.ndarray
    """int64 (2, groups): neuron outputs that are not 0, likewise."""
    active: np.ndarray
    """int64 (groups): updates inside that received, have a bias or hold a voltage."""
    by_step: np.ndarray
    """int64 (global steps or 0, cores + 1, 4): sent, received, synapses met, active updates; the host
    is the last."""
    log: np.ndarray
    """int64 (messages or 0, 5): step, source core, destination core, synapses met, sender."""
    logged: np.ndarray
    """int64 (1): messages so far, logged or not."""


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _add_row(ring, touched, weights, to, of, count, value, exponent):  # type: ignore[no-untyped-def]
    """Add ``value`` times a row of weights to neighbouring neurons."""
    if exponent >= 0:
        scaled = np.int32(value << exponent)
        for k in range(count):
            ring[to + k] += scaled * np.int32(weights[of + k])
    else:
        for k in range(count):
            ring[to + k] += np.int32(value) * np.int32(weights[of + k] >> -exponent)
    if touched.size:
        for k in range(count):
            touched[to + k] = 1


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _add_sparse(  # type: ignore[no-untyped-def]
    ring, touched, weights, targets, base, first, start, end, of, step, value, exponent
):
    """Add ``value`` times a sparse row, synapses ``start..end`` of a port whose first target and
    first weight are ``first`` and ``of``; ``step`` 0 where one weight serves all.
    """
    for k in range(start, end):
        product = np.int32(value) * np.int32(weights[of + step * k])
        product = product << exponent if exponent >= 0 else product >> -exponent
        to = base + targets[first + k]
        ring[to] += product
        if touched.size:
            touched[to] = 1


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _add_kernel(ring, touched, weights, ports, q, boxes, y, x, channel, value, base):  # type: ignore[no-untyped-def]
    """One message from position (y, x) at port ``q`` of shared kernels; synapses met."""
    inputs, size, exponent = ports[q, _INPUTS], ports[q, _OUTPUTS], ports[q, _EXP]
    group, b = channel // inputs - ports[q, _FIRST_GROUP], ports[q, _GROUP]
    if group < 0 or group >= ports[q, _GROUPS]:
        return 0
    height, width = ports[q, _HEIGHT], ports[q, _WIDTH]
    start, first, outputs = ports[q, _WEIGHTS], 0, 0
    for g in range(group + 1):
        low = max(boxes[b, 0, 2], (ports[q, _FIRST_GROUP] + g) * size)
        high = min(boxes[b, 1, 2], (ports[q, _FIRST_GROUP] + g + 1) * size)
        if g < group:
            start += inputs * height * width * (high - low)
        first, outputs = low - boxes[b, 0, 2], high - low
    wide, deep = boxes[b, 1, 1] - boxes[b, 0, 1], boxes[b, 1, 2] - boxes[b, 0, 2]
    start += channel % inputs * height * width * outputs
    met = 0
    for i in range(height):
        top = y + ports[q, _PADDING_Y] - i * ports[q, _DILATION_Y]
        row = top // ports[q, _STRIDE_Y]
        if top % ports[q, _STRIDE_Y] or row < boxes[b, 0, 0] or row >= boxes[b, 1, 0]:
            continue
        for j in range(width):
            left = x + ports[q, _PADDING_X] - j * ports[q, _DILATION_X]
            column = left // ports[q, _STRIDE_X]
            if left % ports[q, _STRIDE_X] or column < boxes[b, 0, 1] or column >= boxes[b, 1, 1]:
                continue
            to = base + ((row - boxes[b, 0, 0]) * wide + column - boxes[b, 0, 1]) * deep + first
            of = start + (i * width + j) * outputs
            _add_row(ring, touched, weights, to, of, outputs, value, exponent)
            met += outputs
    return met


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _send(tables, state, frame, first, count, core, now, inside, senders, values):  # type: ignore[no-untyped-def]  # noqa: C901
    """All messages of some senders: to each core of a sender's two lists one, whose chains it names.

    Args:
        first: sender of ``values[0]``, or -1 where ``senders`` names each one's.
        values: int32 (count at least); those that are 0 send nothing.
    """
    # names of their own: reading a field of a tuple costs more than a message
    neuron_map, position_map, channels = tables.neuron_map, tables.position_map, tables.channels
    map_start, map_end, entry_core = tables.map_start, tables.map_end, tables.entry_core
    entry_axon, entry_set, channel_sets = tables.entry_axon, tables.entry_set, tables.channel_sets
    ports, groups, boxes, axon_port = tables.ports, tables.groups, tables.boxes, tables.axon_port
    axon_next, row_start, row_end = tables.axon_next, tables.row_start, tables.row_end
    positions, targets, weights = tables.positions, tables.targets, tables.weights
    ring, touched, ring_start, ring_slots = (
        state.ring,
        state.touched,
        state.ring_start,
        state.ring_slots,
    )
    arrived, arrived_start = state.arrived, state.arrived_start
    sent, operations, by_step = state.sent, state.operations, state.by_step
    log, logged = state.log, state.logged
    for n in range(count):
        value = values[n]
        if value == 0:
            continue
        sender = senders[n] if first < 0 else first + n
        channel, by_neuron, by_position = (
            channels[sender],
            neuron_map[sender],
            position_map[sender],
        )
        a, a_end, b, b_end = 0, 0, 0, 0
        if by_neuron >= 0:
            a, a_end = map_start[by_neuron], map_end[by_neuron]
        if by_position >= 0:
            b, b_end = map_start[by_position], map_end[by_position]
        while a < a_end or b < b_end:
            if b < b_end and entry_set[b] >= 0 and channel_sets[entry_set[b], channel] == 0:
                b += 1
                continue
            to_a = entry_core[a] if a < a_end else frame.cores
            to_b = entry_core[b] if b < b_end else frame.cores
            to, met = min(to_a, to_b), 0
            sent[inside, a if to_a == to else b] += 1
            for side in range(2):
                if (to_a if side == 0 else to_b) != to:
                    continue
                axon = entry_axon[a] if side == 0 else entry_axon[b]
                while axon >= 0:
                    q = axon_port[axon]
                    g, row, kind = ports[q, _GROUP], axon - ports[q, _AXON], ports[q, _P_KIND]
                    size = groups[g, _COUNT]
                    slot = (now + ports[q, _DELAY]) % ring_slots[g]
                    base = ring_start[g] + slot * size
                    arrived[arrived_start[g] + slot] = 1
                    if kind == _DENSE:
                        of, done = ports[q, _WEIGHTS] + row * size, size
                        _add_row(ring, touched, weights, base, of, size, value, ports[q, _EXP])
                    elif kind == _SPARSE:
                        start, end = row_start[axon], row_end[axon]
                        of, step = ports[q, _WEIGHTS], 1 - ports[q, _SHARED]
                        head, exponent, done = ports[q, _SYNAPSES], ports[q, _EXP], end - start
                        _add_sparse(
                            ring,
                            touched,
                            weights,
                            targets,
                            base,
                            head,
                            start,
                            end,
                            of,
                            step,
                            value,
                            exponent,
                        )
                    else:
                        place = ports[q, _ROWS] + row
                        y, x = positions[place, 0], positions[place, 1]
                        done = _add_kernel(
                            ring, touched, weights, ports, q, boxes, y, x, channel, value, base
                        )
                    operations[inside, q] += done
                    met += done
                    axon = axon_next[axon]
            a += to_a == to
            b += to_b == to
            if by_step.shape[0] and to >= 0:
                by_step[now, core, 0] += 1
                by_step[now, to, 1] += 1
                by_step[now, to, 2] += met
                if logged[0] < log.shape[0]:
                    row = log[logged[0]]
                    row[0], row[1], row[2], row[3], row[4] = now, core, to, met, sender
                logged[0] += 1


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _lif(tables, state, g, base):  # type: ignore[no-untyped-def]
    """Spikes of a group into ``state.out``."""
    row = tables.groups[g]
    first, count = row[_FIRST], row[_COUNT]
    lif(
        state.ring[base : base + count].reshape(1, 1, count),
        tables.bias[first : first + count],
        row[_VTH] << 6,
        row[_DV],
        row[_DU],
        state.u[first : first + count].reshape(1, count),
        state.v[first : first + count].reshape(1, count),
        state.spiked[:count].reshape(1, 1, count),
    )
    state.out[:count] = state.spiked[:count]


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _rests(tables, state, g):  # type: ignore[no-untyped-def]
    """Whether a group without biases holds no current and no voltage."""
    first, count = tables.groups[g, _FIRST], tables.groups[g, _COUNT]
    if tables.groups[g, _BIASED]:
        return False
    u, v = state.u[first : first + count], state.v[first : first + count]
    for k in range(count):
        if u[k] != 0 or v[k] != 0:
            return False
    return True


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _count_active(tables, state, g, base, now, inside):  # type: ignore[no-untyped-def]
    """Count a group's active updates, before its update."""
    busy = 0
    first, count = tables.groups[g, _FIRST], tables.groups[g, _COUNT]
    spiking = tables.groups[g, _KIND] == _LIF
    for k in range(count):
        held = spiking and (tables.bias[first + k] != 0 or state.v[first + k] != 0)
        busy += 1 if held or state.touched[base + k] != 0 else 0
    if inside:
        state.active[g] += busy
    if state.by_step.shape[0]:
        state.by_step[now, tables.group_core[g], 3] += busy


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def run_steps(tables, state, events, frame):  # type: ignore[no-untyped-def]  # noqa: C901
    """Run a stream of samples from reset state: :class:`Tables`, :class:`State`, :class:`Events`,
    :class:`Frame`.
    """
    event = 0
    for now in range(frame.total):
        for inside in range(2):
            stop = events.ends[2 * now + inside]
            sender, value = events.sender[event:stop], events.value[event:stop]
            count = stop - event
            _send(tables, state, frame, -1, count, frame.cores, now, inside, sender, value)
            event = stop
        for g in range(len(tables.groups)):
            row = tables.groups[g]
            first, count, kind = row[_FIRST], row[_COUNT], row[_KIND]
            slot = now % state.ring_slots[g]
            base, waits = state.ring_start[g] + slot * count, state.arrived_start[g] + slot
            if state.quiet[g] and not state.arrived[waits] and not frame.counting:
                continue
            state.arrived[waits] = 0
            age = now - tables.depths[g]
            sample, step = age // frame.period - frame.warm, age % frame.period
            inside = 1 if 0 <= sample < frame.rounds - frame.warm and step < frame.steps else 0
            if kind == _LIF and row[_INTERVAL] > 0 and now % row[_INTERVAL] == row[_PHASE]:
                state.u[first : first + count] = 0
                state.v[first : first + count] = 0
            if frame.counting:
                _count_active(tables, state, g, base, now, inside)
            if kind == _LIF:
                _lif(tables, state, g, base)
            else:
                for k in range(count):
                    a = state.ring[base + k]
                    state.out[k] = max(a, 0) if kind == _RELU else a
            state.quiet[g] = state.forgets[g] or (kind == _LIF and _rests(tables, state, g))
            state.ring[base : base + count] = 0
            if frame.counting:
                state.touched[base : base + count] = 0
            if inside and state.trace_start[g] >= 0:
                at = state.trace_start[g]
                at += (sample * frame.steps + step) * state.trace_size[g]
                for k in range(count):
                    if kind == _LIF:
                        state.spikes[at + tables.flat[first + k]] = state.out[k]
                    else:
                        state.values[at + tables.flat[first + k]] = state.out[k]
            for k in range(count):
                state.fired[inside, g] += state.out[k] != 0
            core, out = tables.group_core[g], state.out
            _send(tables, state, frame, first, count, core, now, inside, events.sender, out)
