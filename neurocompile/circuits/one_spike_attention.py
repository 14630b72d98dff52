"""SpikedAttention's head, one spike a value, in windows of T steps: no product of two numbers, no division.

Windows of a sample, T steps each; samples follow each other every T steps::

    1  q, k, v are sent. A spike leaves a trace, what it will have grown to: P(T - 1 - t). Gates let the
       trace of what came first pass when the second spike comes, and the membranes of the scores grow on:
       X_ij = sum_d P(T - 1 - t_q) P(T - 1 - t_k), an exact product of both values
    2  the winner-oriented shift: e_ij fires where ``X_ij - max X_i`` reaches a level that falls by ln base a
       step. Its values, as all, meet those of v; S_i collects the row of e
    3  the mixed values are sent from thresholds that S_i scales, which divides by it
    4  what they have become is read

All of it is spikes, gates of a graded value by a spike, and sums that grow
(:mod:`neurocompile.circuits.one_spike`); :func:`one_spike_attention_values` is its definition.
"""

from __future__ import annotations

from math import log, prod

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.clock import clock_line, table
from neurocompile.circuits.latch import hold
from neurocompile.circuits.maximum import row_maximum
from neurocompile.circuits.normalize import recurrent, threshold_unit
from neurocompile.circuits.one_spike import OneSpikeCode, Window, collect, one_spike_values, send
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.parameters import real, whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["one_spike_attention", "one_spike_attention_values", "shift_levels"]

Strides = tuple[int, ...]


def shift_levels(code: OneSpikeCode, largest: int, unit: float) -> np.ndarray:
    """How far below its row's largest a score may lie to fire in step t or before: int64 (T,) in units of
    the products of powers; -1 before the first allowed step.
    """
    scale = (code.largest / largest) ** 2 / unit  # of a score of 1
    t = np.arange(code.steps) - code.wait
    return np.where(t < 0, -1, np.rint((t + 0.5) * log(code.base) * scale)).astype(np.int64)


def one_spike_attention(
    n: int, d: int, largest: int, unit: float, code: OneSpikeCode, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """``softmax(unit Q K^T) V`` of n tokens of d channels.

    Input int32 (samples, 3, n, d) in -``largest``..``largest``: Q, K and V. The readout, (n * d,), is the
    attention in units of V. Raises NC2011 for sizes that leave their fields.
    """
    whole("n", n), whole("d", d), whole("largest", largest), real("unit", unit, "NC2011")
    b, size, top = Builder(fields), n * d, code.largest
    window = Window(b, code)
    levels = shift_levels(code, largest, unit)
    span = int(levels[-1]) + 1  # so far below, or more, a score never fires
    if not 1 <= span <= fields.current // 8:
        raise NeurocompileError(
            "NC2011",
            f"a shift over {code.steps} steps of base {code.base:g} tells scores up to {span:,} apart; 1 to "
            f"{fields.current // 8:,} is supported: use another unit or code",
        )
    line = clock_line(b, code.steps)
    late = np.where(np.arange(code.steps) < code.wait, 0, code.powers[::-1])
    powers = table(b, line, late, "power")
    x = b.population(c.HostInput, "x", (3, n, d), "x", low=-largest, high=largest)
    plus, minus = spikes = send(window, x, largest, largest, "sent", "sent")
    trace = _trace(window, powers, spikes, "trace")
    before = b.population(c.GradedRelay, "before", (n, d), "trace", largest=top)
    b.drive(before, [recurrent(strided(trace, (size,), (1,), (1,)))])

    query, key, sums = (d, 0, 1), (0, d, 1), (n, 1, 0)
    scores: list[c.Projection] = []
    for spike, sign in ((plus, 1), (minus, -1)):
        scores += _gated(b, (trace, size, key), (spike, 0, query), (n, n, d), top, sums, sign)
        scores += _gated(b, (before, 0, query), (spike, size, key), (n, n, d), top, sums, sign)
    most = d * top * top
    grown = collect(window, scores, (n, n), most, "scores", "scores")
    held = hold(b, grown, (-most, most), code.steps, "score", "scores")

    e = _shift(window, held, table(b, line, levels + 1, "level"), n, span)
    total = collect(
        window, [strided(e, (n, n), (n, 1), (1, 0))], (n, 1), n * top, "sum", "sum", signed=False
    )
    share = hold(b, total, (0, n * top), code.steps, "share", "sum")
    weight = _trace(window, powers, [e], "weight")
    earlier = b.population(c.GradedRelu, "earlier", (n, n), "weight", largest=top)
    window.late(weight, earlier)

    shape, pair, value, out = (n, n, d), (n, 1, 0), (0, d, 1), (d, 0, 1)
    mixed = _gated(b, (trace, 2 * size, value), (e, 0, pair), shape, top, out, 1)
    for spike, sign in ((plus, 1), (minus, -1)):
        mixed += _gated(
            b, (earlier, 0, pair), (spike, 2 * size, value), shape, top, out, sign, signed=False
        )
    most = n * top * top
    y = collect(window, mixed, (n, d), most, "mixed", "mixed")
    sent = send(window, y, most, top, "out", "out", shares=share, most=n * top)
    read = [
        strided(s, (size,), (1,), (1,), weight=sign) for s, sign in zip(sent, (1, -1), strict=True)
    ]
    final = collect(window, read, (n, d), top, "collected", "out")
    b.readout(hold(b, final, (-top, top), code.steps, "answer", "out"), largest / top)
    return b.finish("attention of one spike a value", code.steps)


def _trace(window: Window, powers: str, spikes: list[str], name: str) -> str:
    """What spikes will have grown to at the window's end, from their step on; of two signs signed."""
    b, top, shape = window.builder, window.code.largest, window.builder.shape(spikes[0])
    signed = len(spikes) == 2
    kind = c.GradedRelay if signed else c.GradedRelu
    found = b.population(kind, name, shape, name, largest=top)
    window.late(found, found)
    one = b.always_on(f"{name}.gate")
    for spike, sign in zip(spikes, (1, -1), strict=False):
        gate = b.population(c.GradedRelu, f"{name}.gate", shape, name, largest=top)
        window.everywhere(powers, gate, 1)
        window.same(spike, gate, top)
        window.everywhere(one, gate, -top)
        window.same(gate, found, sign)
    return found


def _shift(window: Window, scores: str, level: str, n: int, span: int) -> str:
    """Spikes (n, n) of the winner-oriented shift of rows of ``scores``, constant over a window."""
    b = window.builder
    largest = row_maximum(b, scores, n, n, "largest", "shift")
    below = b.population(c.GradedRelu, "below", (n, n), "shift", largest=span)
    b.drive(below, [strided(scores, (n * n,), (1,), (1,))])
    b.drive(below, [strided(largest, (n, n), (1, 0), (n, 1), weight=-1)])
    window.everywhere(b.always_on("span"), below, span)
    reach = 2 * span + 1
    fires, e = (threshold_unit(b, name, (n, n), reach) for name in ("reached", "e"))
    one = b.always_on("reached")
    for dst in (fires, e):  # below - span + level >= 0, and level is one more
        window.same(below, dst)
        window.everywhere(level, dst, 1)
        window.everywhere(one, dst, -span - 1)
    window.late(fires, e, -reach)
    return e


def _gated(
    b: Builder,
    value: tuple[str, int, Strides],
    spike: tuple[str, int, Strides],
    shape: tuple[int, ...],
    top: int,
    sums: Strides,
    sign: int,
    signed: bool = True,
) -> list[c.Projection]:
    """``sign * value * spike`` over ``shape``, summed along zeros of ``sums``: projections without
    destination. Values and spikes are (population, offset, strides); values reach ``top``.
    """
    strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
    size, twice = prod(shape), 1 + signed  # a value of either sign: 2 top opens the gate
    gate = b.population(c.GradedRelu, "gate", shape, "gates", largest=twice * top)
    one = b.always_on("gate")
    b.drive(gate, [strided(value[0], shape, value[2], strides, src_offset=value[1])])
    opened = [
        strided(spike[0], shape, spike[2], strides, src_offset=spike[1], weight=w)
        for w in b.terms(twice * top)
    ]
    b.drive(gate, opened)
    b.drive(gate, [strided(one, (size,), (0,), (1,), weight=-w) for w in b.terms(top)])
    found: list[c.Projection] = [strided(gate, shape, strides, sums, weight=sign)]
    if signed:
        found += [
            strided(spike[0], shape, spike[2], sums, src_offset=spike[1], weight=-sign * w)
            for w in b.terms(top)
        ]
    return found


# ---- definition ----------------------------------------------------------------------------------


def one_spike_attention_values(
    x: np.ndarray, unit: float, largest: int, code: OneSpikeCode
) -> np.ndarray:
    """What :func:`one_spike_attention` reads out of int (samples, 3, n, d): float64 (samples, n, d)."""
    q, k, v = np.moveaxis(one_spike_values(x, code.threshold(largest), code), 1, 0)
    scores = q @ k.swapaxes(-1, -2)
    below = scores - scores.max(axis=-1, keepdims=True)
    levels = shift_levels(code, largest, unit)
    reached = (levels >= 0) & (below[..., None] + levels >= 0)
    e = np.where(reached.any(-1), code.powers[code.steps - 1 - reached.argmax(-1)], 0)
    level = code.threshold(code.largest) * e.sum(axis=-1, keepdims=True)
    return one_spike_values(e @ v, level, code) * (largest / code.largest)
