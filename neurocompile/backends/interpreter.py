"""Runs a plan (:mod:`neurocompile.backends.plan`) in compiled code, sample after sample.

A plan is a table of operations, one a population, over two arenas: bytes for spikes and small
counts, int32 words for all else. An operation sums what its projections bring into one int32 row,
step by step, and turns the row into spikes or values. Weighted projections are event-driven: every
spike adds its row of int8 weights, held in registers as int16 (:mod:`neurocompile.backends.vectors`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.backends.table import Op, Source
from neurocompile.backends.vectors import (
    add_row,
    add_row8,
    copy_shifted,
    halving_row,
    lif_row,
    mask16,
    mask64,
    store_row,
    sum_rows8,
    trailing,
)
from neurocompile.ir.fields import PAYLOAD
from neurocompile.jit import cached_njit
from neurocompile.lanes import borrowed

__all__ = ["BLOCK", "run_samples"]

(
    EMIT, SIZE, WORDS, AT, STEPS, FIRST, LAST, LIMIT, KEEP_U, KEEP_V, BIAS, STATE_V, STATE_U, WIDE,
    ALIKE, HALVES, SILENT,
) = (int(k) for k in Op)  # fmt: skip
(
    KIND, S_WORDS, S_AT, S_SIZE, S_STEPS, ADVANCE, RECURRENT, LAG, DIMS, RANK, WEIGHT, SHIFT,
    S_OFFSET, D_OFFSET, HEIGHT, WIDTH, CHANNELS, ROWS, COLUMNS, OUT, KH, KW, SH, SW, PH, PW, DH, DW,
    W_AT, W_ROW, W_WORDS, AT_ONCE, GROUPS, SUB_FIRST, SUB_LAST, SCALARS, RECTIFIES, ABOVE, TOP,
    COUNTS, SELECTS, S_SILENT,
) = (int(k) for k in Source)  # fmt: skip


BLOCK = 8192
"""Sums that an operation makes at once, if it has as many steps and windows: what a source costs
before its first neuron is paid once for them, and they stay in the first-level cache."""

_inner = cached_njit(nogil=True, no_cfunc_wrapper=True, no_cpython_wrapper=True)


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def run_samples(  # type: ignore[no-untyped-def]  # noqa: C901
    groups, ops, sources, dims, small, wide32, bias, steps, windows,
    octets, words, acc, events, starts, places, chosen, hosts, sent, first_sample,
    records, of_octets, of_words, counts,
):  # fmt: skip
    """Samples one after another.

    One function for what others would call: numba compiles whatever is called again in each caller.

    Args:
        groups: int64 (groups, 3): 0 for one operation after another, 1 for a loop over steps, 2
            for one over windows, 3 where it reads windows to come; first and last operation.
        ops, sources: int64 tables, columns :class:`Op` and :class:`Source`; dims: int64, their
            loops.
        small, wide32: int8 and int32 weights, rows padded to 32; bias: int32.
        octets, words: the arenas; acc, events, starts (int32), places, chosen (int64):
            scratch.
        hosts: int64 (inputs, 2), where an input lies in ``words`` and its length; sent: int32
            (samples, all inputs one after another); first_sample: where they are in the traces.
        records: int64 (recorded, 7): whether it lies in ``words``, where, rows, their length, place
            in the trace, whether it goes to ``of_words``, how often a row is repeated.
        of_octets, of_words: flat traces, populations one after another, samples within.
        counts: int64, of each record how many values are not 0, added to, in place of traces; empty
            for traces.
    """
    groups, ops, sources, dims = borrowed(groups), borrowed(ops), borrowed(sources), borrowed(dims)
    small, bias, hosts = borrowed(small), borrowed(bias), borrowed(hosts)
    octets, words, acc, events = borrowed(octets), borrowed(words), borrowed(acc), borrowed(events)
    starts, places, sent, records = (
        borrowed(starts), borrowed(places), borrowed(sent), borrowed(records),
    )  # fmt: skip
    chosen, wide32 = borrowed(chosen), borrowed(wide32)
    of_octets, of_words, counts = borrowed(of_octets), borrowed(of_words), borrowed(counts)
    for sample in range(len(sent)):
        at = 0
        for h in range(len(hosts)):
            for i in range(hosts[h, 1]):
                words[hosts[h, 0] + i] = sent[sample, at + i]
            at += hosts[h, 1]
        for g in range(len(groups)):
            kind = groups[g, 0]
            turns = 1 if kind == 0 else steps if kind == 1 else windows
            if kind == 3:  # what is not yet sent is silence
                for o in range(groups[g, 1], groups[g, 2]):
                    length = ops[o, SIZE] * ops[o, STEPS] * windows
                    if ops[o, WORDS]:
                        _clear(words, ops[o, AT], length)
                    else:
                        _clear(octets, ops[o, AT], length)
            for turn in range(turns):
                for o in range(groups[g, 1], groups[g, 2]):
                    op = ops[o]
                    n = op[SIZE]
                    window = turn if kind >= 2 else 0
                    last_window = turn + 1 if kind >= 2 else windows
                    begin = turn if kind == 1 else 0
                    end = turn + 1 if kind == 1 else op[STEPS]
                    # sums: of as many steps, then as many windows, as BLOCK holds
                    rows = 1 if op[ALIKE] else end - begin
                    piece = min(rows, max(1, BLOCK // max(n, 1)))
                    wide = max(1, BLOCK // max(n * piece, 1)) if piece == rows else 1
                    while window < last_window:
                        stop, count = window, 0
                        while stop < last_window and count < wide:
                            if op[SILENT] < 0 or not dims[op[SILENT] + stop]:
                                chosen[count] = stop
                                count += 1
                            stop += 1
                        for first in range(begin, begin + rows, piece):
                            most = min(piece, begin + rows - first)
                            _sum(
                                op, sources, dims, small, wide32, octets, words, acc, events,
                                starts, places, steps, windows, chosen, count, first, most,
                            )  # fmt: skip
                            until = end if op[ALIKE] else first + most
                            _emit(
                                op, dims, bias, octets, words, acc, window, stop, first, until, most
                            )
                        window = stop
        for r in range(len(counts)):
            if records[r, 0]:
                counts[r] += (
                    _sent(words, records[r, 1], records[r, 2] * records[r, 3]) * records[r, 6]
                )
            else:
                counts[r] += (
                    _sent(octets, records[r, 1], records[r, 2] * records[r, 3]) * records[r, 6]
                )
        if len(counts) == 0:
            for r in range(len(records)):
                _record(records[r], octets, words, of_octets, of_words, first_sample + sample)


@_inner
def _sum(  # type: ignore[no-untyped-def]
    op, sources, dims, small, wide32, octets, words, acc, events,
    starts, places, steps, windows, chosen, count, first, most,
):  # fmt: skip
    """What all sources of an operation bring to ``most`` steps from ``first`` of the ``count``
    windows of ``chosen``: rows of ``acc``, window by window.
    """
    n = op[SIZE]
    _clear(acc, 0, count * most * n)
    for number in range(op[FIRST], op[LAST]):
        q = sources[number]
        if q[KIND] == 0:
            if q[S_WORDS]:
                _strided(q, dims, words, acc, n, steps, windows, chosen, count, first, most)
            else:
                _strided(q, dims, octets, acc, n, steps, windows, chosen, count, first, most)
            continue
        for k in range(count):
            for j in range(most):
                to = (k * most + j) * n
                if q[KIND] == 4:
                    _gated(
                        q, sources, dims, octets, words, steps, windows, acc, to, places,
                        chosen[k], first + j,
                    )  # fmt: skip
                    continue
                row = _row_at(q, dims, steps, windows, chosen[k], first + j)
                if row < 0:
                    continue
                if q[KIND] == 1:
                    _events(q, small, octets, row, acc, to, events, starts)
                else:
                    _valued(q, wide32, octets, words, row, acc, to, events)


@_inner
def _emit(op, dims, bias, octets, words, acc, window, stop, first, until, most):  # type: ignore[no-untyped-def]
    """Turn rows of ``acc`` into what an operation sends in steps ``first`` to ``until`` of all
    windows before ``stop``, in order: a row's last register reaches into the next one's place.
    """
    n, at = op[SIZE], 0
    for w in range(window, stop):
        out = op[AT] + (w * op[STEPS] + first) * n
        if op[SILENT] >= 0 and dims[op[SILENT] + w]:
            if op[WORDS]:
                _clear(words, out, (until - first) * n)
            else:
                _clear(octets, out, (until - first) * n)
            continue
        if op[EMIT] == 0 and first == 0:
            _clear(words, op[STATE_V], n)
            _clear(words, op[STATE_U], n * (op[KEEP_U] + op[WIDE] > 0))
        for t in range(until - first):
            row = at + (t if most > 1 else 0) * n
            if op[EMIT] == 0:
                if op[HALVES] >= 0:
                    halving_row(
                        acc, row, bias, op[BIAS], words, op[STATE_V], octets, out, n,
                        op[LIMIT], op[HALVES],
                    )  # fmt: skip
                elif op[WIDE]:
                    _wide_lif(op, acc, row, bias, words, octets, out)
                else:
                    lif_row(
                        acc, row, bias, op[BIAS], words, op[STATE_U], op[STATE_V],
                        octets, out, n, op[LIMIT], op[KEEP_U], op[KEEP_V],
                    )  # fmt: skip
            elif op[WORDS]:
                store_row(acc, row, words, out, n, op[EMIT] - 1)
            else:
                store_row(acc, row, octets, out, n, op[EMIT] - 1)
            out += n
        at += most * n


@_inner
def _sent(values, at, n):  # type: ignore[no-untyped-def]
    found = 0
    for i in range(n):
        if values[at + i] != 0:
            found += 1
    return found


@_inner
def _clear(values, at, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        values[at + i] = 0


@_inner
def _record(record, octets, words, of_octets, of_words, sample):  # type: ignore[no-untyped-def]
    n, repeat = record[3], record[6]
    out = record[4] + sample * record[2] * repeat * n
    for row in range(record[2]):
        at = record[1] + row * n
        for _ in range(repeat):
            if record[0]:
                for i in range(n):
                    of_words[out + i] = words[at + i]
            elif record[5]:
                for i in range(n):
                    of_words[out + i] = octets[at + i]
            else:
                for i in range(n):
                    of_octets[out + i] = octets[at + i]
            out += n


@_inner
def _wide_lif(op, acc, row, bias, words, octets, out):  # type: ignore[no-untyped-def]
    """:func:`lif_row` in int64, of inputs that nothing bounds."""
    limit = PAYLOAD + 1
    for i in range(op[SIZE]):
        current = np.int64(words[op[STATE_U] + i]) * op[KEEP_U]
        current = (current >> 12) if current >= 0 else -((-current) >> 12)
        current += np.int64(acc[row + i]) << 6
        if current > limit:
            current -= 2 * limit
        elif current <= -limit:
            current += 2 * limit
        voltage = np.int64(words[op[STATE_V] + i]) * op[KEEP_V]
        voltage = (voltage >> 12) if voltage >= 0 else -((-voltage) >> 12)
        voltage = min(max(voltage + current + bias[op[BIAS] + i], 1 - limit), limit - 1)
        spike = voltage > op[LIMIT]
        octets[out + i] = spike
        words[op[STATE_U] + i] = current
        words[op[STATE_V] + i] = 0 if spike else voltage


@_inner
def _row_at(q, dims, steps, windows, window, t):  # type: ignore[no-untyped-def]
    """Where the row lies that a source brings to a step of a window; -1 for silence."""
    w, t = window - q[LAG], t + q[ADVANCE] - q[RECURRENT]
    if w < 0 or w >= windows or t < 0 or t >= steps:
        return -1
    if q[S_SILENT] >= 0 and dims[q[S_SILENT] + w]:
        return -1
    return q[S_AT] + (w * q[S_STEPS] + (t if q[S_STEPS] > 1 else 0)) * q[S_SIZE]


@_inner
def _strided(q, dims, values, acc, size, steps, windows, chosen, count, begin, most):  # type: ignore[no-untyped-def]
    """A strided pattern, to all rows of :func:`_sum`."""
    inner = q[DIMS] + 3 * (q[RANK] - 1)
    n, weight = dims[inner], q[WEIGHT]
    line = q[RANK] == 1 and dims[inner + 1] == 1 and dims[inner + 2] == 1 and q[SHIFT] >= 0
    later, silent = q[ADVANCE] - q[RECURRENT], q[S_SILENT]
    moves = 1 if q[S_STEPS] > 1 else 0
    # all steps of a window lie one after another on both sides
    whole = line and n == size and n == q[S_SIZE] and moves and not later
    for place in range(count):
        w = chosen[place] - q[LAG]
        if w < 0 or w >= windows or (silent >= 0 and dims[silent + w]):
            continue
        at = q[S_AT] + w * q[S_STEPS] * q[S_SIZE] + q[S_OFFSET]
        to = place * most * size + q[D_OFFSET]
        if whole:
            _line(acc, to, values, at + begin * n, most * n, weight)
            continue
        for t in range(begin + later, begin + later + most):
            if 0 <= t < steps:
                s_first = at + moves * t * q[S_SIZE]
                if line:
                    _line(acc, to, values, s_first, n, weight)
                else:
                    _pattern(q, dims, values, s_first, acc, to)
            to += size


@_inner
def _pattern(q, dims, values, at, acc, to):  # type: ignore[no-untyped-def]
    """A strided pattern of one row from ``at`` to ``to``; the last loop is the longest contiguous one
    (plan), the two around it are loops here too: those of a folded circuit are short.
    """
    rank, first = q[RANK], q[DIMS]
    inner = first + 3 * (rank - 1)
    n, ss, ds = dims[inner], dims[inner + 1], dims[inner + 2]
    middle, sm, dm, around, sa, da, outer = 1, 0, 0, 1, 0, 0, 1
    if rank > 1:
        middle, sm, dm = dims[inner - 3], dims[inner - 2], dims[inner - 1]
    if rank > 2:
        around, sa, da = dims[inner - 6], dims[inner - 5], dims[inner - 4]
    for k in range(rank - 3):
        outer *= dims[first + 3 * k]
    weight, right = q[WEIGHT], -q[SHIFT] if q[SHIFT] < 0 else 0
    for turn in range(outer):
        s_turn, d_turn, rest = at, to, turn
        for k in range(rank - 4, -1, -1):
            length = dims[first + 3 * k]
            i = rest % length if rest >= length else rest
            rest //= length
            s_turn += i * dims[first + 3 * k + 1]
            d_turn += i * dims[first + 3 * k + 2]
        for a in range(around):
            s, d = s_turn + a * sa, d_turn + a * da
            _plane(acc, d, values, s, middle, sm, dm, n, ss, ds, weight, right)


@njit(inline="always")
def _line(acc, d, values, s, n, weight):  # type: ignore[no-untyped-def]
    """``acc[d + i] += weight * values[s + i]``."""
    whole, most = n & ~31, n & ~7
    if whole:
        add_row(acc, d, values, s, whole, weight)
    if whole < most:
        add_row8(acc, d + whole, values, s + whole, most - whole, weight)
    for i in range(most, n):
        acc[d + i] += weight * values[s + i]


@njit(inline="always")
def _plane(acc, d, values, s, turns, sm, dm, n, ss, ds, weight, right):  # type: ignore[no-untyped-def]
    """The last two loops of a strided pattern, which move by ``sm`` and ``ss`` in the source."""
    for _ in range(turns):
        if right:
            for i in range(n):
                acc[d + i * ds] += np.int32(np.int32(values[s + i * ss] * weight) >> right)
        elif ds == 1 and ss == 1:
            _line(acc, d, values, s, n, weight)
        elif ds == 0 and ss == 1:
            total = 0
            for i in range(n):
                total += values[s + i]
            acc[d] += weight * total
        elif ds == 1 and ss == 0:
            value = weight * values[s]
            if value:
                for i in range(n):
                    acc[d + i] += value
        else:
            for i in range(n):
                acc[d + i * ds] += weight * values[s + i * ss]
        s += sm
        d += dm


@njit(inline="always")
def _pixel(q, y, z, i, j):  # type: ignore[no-untyped-def]
    """The pixel that tap (i, j) of a convolution reads for the output at (y, z); -1 beyond the border."""
    top, left = y * q[SH] - q[PH] + i * q[DH], z * q[SW] - q[PW] + j * q[DW]
    inside = 0 <= top < q[HEIGHT] and 0 <= left < q[WIDTH]
    return top * q[WIDTH] + left if inside else -1


@_inner
def _events(q, weight, octets, at, acc, to, events, starts):  # type: ignore[no-untyped-def]  # noqa: C901
    """A matrix or convolution of spikes, or small counts: each adds its row of weights, as
    often as it counts.
    """
    channels, row, out = q[CHANNELS], q[W_ROW], q[OUT]
    pixels, counts, found = q[HEIGHT] * q[WIDTH], q[COUNTS], 0
    for p in range(pixels):
        starts[p] = found
        for c in range(0, channels, 64):
            bits = mask64(octets, at + p * channels + c)
            if channels - c < 64:
                bits &= (1 << (channels - c)) - 1
            while bits:
                i = c + trailing(bits)
                events[found] = i
                found += 1
                bits &= bits - 1
                if counts:
                    for _ in range(1, octets[at + p * channels + i]):
                        events[found] = i
                        found += 1
    starts[pixels] = found
    if found == 0:
        return
    most, w_at, shift, listed = q[AT_ONCE], q[W_AT], q[SHIFT], found + 16
    plain = q[KH] == 1 and q[KW] == 1
    for y in range(q[ROWS]):
        for z in range(q[COLUMNS]):
            sums = to + (y * q[COLUMNS] + z) * out
            first = last = listed
            for i in range(q[KH]):
                for j in range(q[KW]):
                    p = _pixel(q, y, z, i, j)
                    if p < 0:
                        continue
                    if plain:
                        first, last = starts[p], starts[p + 1]
                        continue
                    count = starts[p + 1] - starts[p]
                    tap = (i * q[KW] + j) * channels
                    copy_shifted(events, starts[p], count, tap, last)
                    last += count
            while first < last:
                end = min(last, first + most)
                sum_rows8(acc, sums, weight, w_at, row, events, first, end, shift)
                first = end


@_inner
def _valued(q, weight, octets, words, at, acc, to, values):  # type: ignore[no-untyped-def]  # noqa: C901
    """A matrix or convolution of any integers, in int32: each that is not 0 adds its row, times
    itself. In groups, weights are (kH, kW, inputs of a group, C_out).
    """
    channels, row, out, grouped = q[CHANNELS], q[W_ROW], q[OUT], q[KIND] == 3
    per_in, per_out = channels // q[GROUPS], out // q[GROUPS]
    if q[S_WORDS]:
        for i in range(q[S_SIZE]):
            values[i] = words[at + i]
    else:
        for i in range(q[S_SIZE]):
            values[i] = octets[at + i]
    for y in range(q[ROWS]):
        for z in range(q[COLUMNS]):
            sums = to + (y * q[COLUMNS] + z) * out
            for i in range(q[KH]):
                for j in range(q[KW]):
                    p = _pixel(q, y, z, i, j) * channels
                    if p < 0:
                        continue
                    w = q[W_AT] + (i * q[KW] + j) * per_in * row
                    if grouped and per_in == 1 and per_out == 1:
                        for c in range(out):
                            acc[sums + c] += values[p + c] * weight[w + c]
                        continue
                    for c in range(0, channels, 16):
                        bits = mask16(values, p + c)
                        if channels - c < 16:
                            bits &= (1 << (channels - c)) - 1
                        while bits:
                            k = c + trailing(bits)
                            bits &= bits - 1
                            value = values[p + k]
                            if not grouped:
                                add_row(acc, sums, weight, w + k * row, row, value)
                                continue
                            first = (k // per_in) * per_out
                            of = w + (k % per_in) * row
                            for m in range(first, first + per_out):
                                acc[sums + m] += value * weight[of + m]


@_inner
def _gated(  # type: ignore[no-untyped-def]  # noqa: C901
    q, sources, dims, octets, words, steps, windows, acc, row, places, window, t
):
    """A sum over gates that are never stored: ``acc += weight * gate(sum of its inputs)``.

    Loops run over the gates' digits. Inputs that do not move along the innermost one come first
    (``SCALARS``); where they leave even the largest of the others without an output, all of that
    loop is silent.
    """
    first, last = q[SUB_FIRST], q[SUB_LAST]
    inputs, rank, scalars = last - first, q[RANK], q[SCALARS]
    wide = 2 + inputs
    inner = q[DIMS] + wide * (rank - 1)
    n, ds = dims[inner], dims[inner + 1]
    middle = inner - wide  # its own loop: most of its turns are silent
    turns, ms = (dims[middle], dims[middle + 1]) if rank > 1 else (1, 0)
    outer = 1
    for k in range(rank - 2):
        outer *= dims[q[DIMS] + wide * k]
    digit, at = places[inputs:], places
    for k in range(rank):
        digit[k] = 0
    for m in range(inputs):
        at[m] = _row_at(sources[first + m], dims, steps, windows, window, t)
        at[m] += sources[first + m, S_OFFSET]
    d = row + q[D_OFFSET]
    above, rectifies, weight = q[ABOVE], q[RECTIFIES], q[WEIGHT]
    enough = above - q[TOP]
    simple = inputs - scalars == 1 and ds == 1 and dims[inner + 2 + scalars] == 1
    for _ in range(outer):
        silent = 0
        if q[SELECTS]:  # where the last scalar is 0, no gate opens
            for m in range(scalars - 1):
                silent += _value(sources, first + m, octets, words, at[m])
            silent = silent <= enough
        for c in range(0, turns, 64):
            bits = mask64(octets, at[scalars - 1] + c) if silent else np.int64(-1)
            if turns - c < 64:
                bits &= (1 << (turns - c)) - 1
            while bits:
                turn = c + trailing(bits)
                bits &= bits - 1
                base = 0
                for m in range(scalars):
                    place = at[m] + (turn * dims[middle + 2 + m] if rank > 1 else 0)
                    base += _value(sources, first + m, octets, words, place)
                if base <= enough:
                    continue
                to = d + turn * ms
                if simple:
                    sub = sources[first + scalars]
                    place = at[scalars] + (turn * dims[middle + 2 + scalars] if rank > 1 else 0)
                    if sub[S_WORDS]:
                        _open(acc, to, words, place, n, base, sub[WEIGHT], rectifies, above, weight)
                    else:
                        _open(
                            acc, to, octets, place, n, base, sub[WEIGHT], rectifies, above, weight
                        )
                    continue
                for i in range(n):
                    total = base
                    for m in range(scalars, inputs):
                        place = at[m] + i * dims[inner + 2 + m]
                        place += turn * dims[middle + 2 + m] if rank > 1 else 0
                        total += _value(sources, first + m, octets, words, place)
                    if total > above:
                        acc[to + i * ds] += weight * (total if rectifies else 1)
        for k in range(rank - 3, -1, -1):
            here = q[DIMS] + wide * k
            digit[k] += 1
            d += dims[here + 1]
            for m in range(inputs):
                at[m] += dims[here + 2 + m]
            if digit[k] < dims[here]:
                break
            digit[k] = 0
            d -= dims[here] * dims[here + 1]
            for m in range(inputs):
                at[m] -= dims[here] * dims[here + 2 + m]


@_inner
def _value(sources, number, octets, words, place):  # type: ignore[no-untyped-def]
    """What an input of a gate brings."""
    value = np.int64(words[place]) if sources[number, S_WORDS] else np.int64(octets[place])
    return sources[number, WEIGHT] * value


@_inner
def _open(acc, d, values, at, n, base, factor, rectifies, above, weight):  # type: ignore[no-untyped-def]
    if rectifies:
        for i in range(n):
            total = np.int32(base + factor * values[at + i])
            acc[d + i] += np.int32(weight * (total if total > 0 else 0))
    else:
        for i in range(n):
            acc[d + i] += np.int32(weight if base + factor * values[at + i] > above else 0)
