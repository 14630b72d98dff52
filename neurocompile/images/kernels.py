"""Kernels of the machine that executes core images, message by message.

Everything is a flat table of all cores. A message is delivered when it is sent: each port's delay,
one step at least, chooses the slot of the ring in which it waits at its neurons.

Streams of several samples run in step, one a *lane*. A list, a chain and a row are looked up once for
all lanes in which a neuron sends; each of them adds the row to its own sums.
"""

from __future__ import annotations

import numpy as np

from neurocompile.images.image import DENSE, GROUP_FIELDS, KINDS, PORT_FIELDS, SPARSE, columns
from neurocompile.images.rows import add_lanes, add_row
from neurocompile.images.updates import count_active, keep, stillness, update
from neurocompile.jit import cached_njit
from neurocompile.lanes import borrowed

__all__ = ["run_steps"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
_KIND, _FIRST, _COUNT = _G["kind"], _G["first"], _G["count"]
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
_LIF = KINDS.index("LIF")


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _add_sparse(  # type: ignore[no-untyped-def]
    ring,
    touched,
    weights,
    targets,
    base,
    first,
    start,
    end,
    of,
    step,
    lane,
    value,
    item,
    stop,
    block,
    exponent,
):
    """Add a sparse row, ``value`` times in each lane of items ``item..stop``: synapses ``start..end`` of
    a port whose first target and first weight are ``first`` and ``of``; ``step`` 0 where one weight
    serves all; lanes lie ``block`` apart.
    """
    left, right = max(exponent, 0), max(-exponent, 0)
    for k in range(start, end):
        weight, to = np.int64(weights[of + step * k]), base + targets[first + k]
        add_lanes(ring, to, lane, value, item, stop, block, weight, left, right)
        if touched.size:
            for i in range(item, stop):
                touched[to + lane[i] * block] = 1


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _add_rows(  # type: ignore[no-untyped-def]
    ring, touched, weights, to, of, count, lane, value, item, stop, block, exponent
):
    """Add a row of weights to neighbouring neurons of each lane of items ``item..stop``, ``value``
    times; lanes lie ``block`` apart.
    """
    right = max(-exponent, 0)
    for i in range(item, stop):
        at = to + lane[i] * block
        add_row(ring, at, weights, of, count, np.int64(value[i]) << max(exponent, 0), right)
        if touched.size:
            touched[at : at + count] = 1


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _place(at, stride):  # type: ignore[no-untyped-def]
    """Output index of a stride's multiple, -1 of all else."""
    if stride == 1:
        return at
    return -1 if at % stride else at // stride


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _add_kernel(  # type: ignore[no-untyped-def]
    ring, touched, weights, ports, q, boxes, y, x, channel, base, lane, value, item, stop, block
):
    """One message from position (y, x) at port ``q`` of shared kernels; synapses met by each lane."""
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
    across, deep = boxes[b, 1, 1] - boxes[b, 0, 1], boxes[b, 1, 2] - boxes[b, 0, 2]
    start += channel % inputs * height * width * outputs
    # names of their own: the sums that are written could be any table
    first_row, end_row, first_column, end_column = (
        boxes[b, 0, 0],
        boxes[b, 1, 0],
        boxes[b, 0, 1],
        boxes[b, 1, 1],
    )
    stride_y, stride_x = ports[q, _STRIDE_Y], ports[q, _STRIDE_X]
    down, right = ports[q, _DILATION_Y], ports[q, _DILATION_X]
    top, left = y + ports[q, _PADDING_Y], x + ports[q, _PADDING_X]
    met = 0
    for i in range(height):
        row = _place(top - i * down, stride_y)
        if row < first_row or row >= end_row:
            continue
        for j in range(width):
            column = _place(left - j * right, stride_x)
            if column < first_column or column >= end_column:
                continue
            to = base + ((row - first_row) * across + column - first_column) * deep + first
            of = start + (i * width + j) * outputs
            _add_rows(
                ring, touched, weights, to, of, outputs, lane, value, item, stop, block, exponent
            )
            met += outputs
    return met


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _send(tables, state, frame, first, count, core, now, inside, senders, ends, lane, value, item):  # type: ignore[no-untyped-def]  # noqa: C901
    """All messages of some senders: to each core of a sender's two lists one, whose chains it names.

    Args:
        first: the first sender, or -1 where ``senders`` names each one.
        ends: of each one's items in ``lane`` and ``value``; those without send nothing.
        item: the first item.
    """
    # names of their own: reading a field of a tuple costs more than a message
    neuron_map, position_map, channels = tables.neuron_map, tables.position_map, tables.channels
    map_start, map_end, entry_core = tables.map_start, tables.map_end, tables.entry_core
    entry_axon, entry_set, channel_sets = tables.entry_axon, tables.entry_set, tables.channel_sets
    ports, groups, boxes, axon_port = tables.ports, tables.groups, tables.boxes, tables.axon_port
    axon_next, row_start, row_end = tables.axon_next, tables.row_start, tables.row_end
    positions, targets, weights = tables.positions, tables.targets, tables.weights
    ring, touched, ring_start = state.ring, state.touched, state.ring_start
    ring_slots, wide = state.ring_slots, state.wide
    arrived, arrived_start = state.arrived, state.arrived_start
    sent, operations, by_step = state.sent, state.operations, state.by_step
    log, logged = state.log, state.logged
    stop = item
    for n in range(count):
        item, stop = stop, ends[n]
        here = stop - item
        if here == 0:
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
            sent[inside, a if to_a == to else b] += here
            for side in range(2):
                if (to_a if side == 0 else to_b) != to:
                    continue
                axon = entry_axon[a] if side == 0 else entry_axon[b]
                while axon >= 0:
                    q = axon_port[axon]
                    g, row, kind = ports[q, _GROUP], axon - ports[q, _AXON], ports[q, _P_KIND]
                    size, block = groups[g, _COUNT], wide[g]
                    slot = (now + ports[q, _DELAY]) % ring_slots[g]
                    base = ring_start[g] + slot * frame.lanes * block
                    arrived[arrived_start[g] + slot] = 1
                    if kind == _DENSE:
                        of, done, exponent = ports[q, _WEIGHTS] + row * size, size, ports[q, _EXP]
                        _add_rows(
                            ring,
                            touched,
                            weights,
                            base,
                            of,
                            size,
                            lane,
                            value,
                            item,
                            stop,
                            block,
                            exponent,
                        )
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
                            lane,
                            value,
                            item,
                            stop,
                            block,
                            exponent,
                        )
                    else:
                        place = ports[q, _ROWS] + row
                        y, x = positions[place, 0], positions[place, 1]
                        done = _add_kernel(
                            ring,
                            touched,
                            weights,
                            ports,
                            q,
                            boxes,
                            y,
                            x,
                            channel,
                            base,
                            lane,
                            value,
                            item,
                            stop,
                            block,
                        )
                    operations[inside, q] += done * here
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
def run_steps(tables, state, events, frame):  # type: ignore[no-untyped-def]  # noqa: C901
    """Run streams of samples from reset state: :class:`Tables`, :class:`State`, :class:`Events`,
    :class:`Frame`.
    """
    tables, state, events = borrowed(tables), borrowed(state), borrowed(events)
    event, item = 0, 0
    for now in range(frame.total):
        for inside in range(2):
            stop = events.ends[2 * now + inside]
            sender, ends, count = (
                events.sender[event:stop],
                events.item_end[event:stop],
                stop - event,
            )
            lane, value = events.lane, events.value
            _send(
                tables,
                state,
                frame,
                -1,
                count,
                frame.cores,
                now,
                inside,
                sender,
                ends,
                lane,
                value,
                item,
            )
            event, item = stop, ends[count - 1] if count else item
        for g in range(len(tables.groups)):
            row, size = tables.groups[g], frame.lanes * state.wide[g]
            slot = now % state.ring_slots[g]
            base, waits = state.ring_start[g] + slot * size, state.arrived_start[g] + slot
            lif_, low = row[_KIND] == _LIF, state.start[g] * frame.lanes
            resets = lif_ and row[_INTERVAL] > 0 and now % row[_INTERVAL] == row[_PHASE]
            heard = state.arrived[waits] or frame.counting
            if not heard and (state.quiet[g] == 2 or state.quiet[g] == 1 and not resets):
                continue
            state.arrived[waits] = 0
            age = now - tables.depths[g]
            sample, step = age // frame.period - frame.warm, age % frame.period
            inside = 1 if 0 <= sample < frame.rounds - frame.warm and step < frame.steps else 0
            if not frame.counting and (age < 0 or age >= state.until[g]):
                state.ring[base : base + size] = 0
                continue
            if resets:
                state.u[low : low + size] = 0
                state.v[low : low + size] = 0
            if frame.counting:
                count_active(tables, state, g, base, now, inside)
            watched = lif_ and not heard
            if watched:
                state.before[0, :size] = state.u[low : low + size]
                state.before[1, :size] = state.v[low : low + size]
            found = update(tables, state, frame, g, base)
            state.quiet[g] = 2 if state.forgets[g] else 0
            if watched and found == 0 and not state.forgets[g]:
                state.quiet[g] = stillness(state, low, size)
            if found and inside and state.trace_start[g] >= 0:
                keep(tables, state, frame, g, base, sample, step)
            if heard:
                state.ring[base : base + size] = 0
            if frame.counting:
                state.touched[base : base + size] = 0
            if found == 0:
                continue
            state.fired[inside, g] += found
            core, first, count = tables.group_core[g], row[_FIRST], row[_COUNT]
            ends, lane, value = state.item_end, state.lane, state.value
            _send(
                tables,
                state,
                frame,
                first,
                count,
                core,
                now,
                inside,
                events.sender,
                ends,
                lane,
                value,
                0,
            )
