"""Softmax attention in spikes (Lemma 6): ``softmax(Q K^T) V`` of integers, with an error of O(1/T).

K is rate-coded for the first T1 steps: integrate and fire with soft reset on ``k + M`` with
threshold 2 M (its membrane starts half way), so a key's channel fires (k + M) / (2 M) of them. The
offset adds the same to all scores of a row, which a softmax does not see. Scores are gates of Q and
these spikes, :mod:`neurocompile.circuits.softmax` turns their sums into spikes with the rates of
the softmax, and gates of these and V are the output::

    X_ij = sum_t sum_d q_id s_jd(t)      p = softmax(X)      y_id = sum_j p_ij v_jd

No multiplier and no random number: every product is a gate of a graded value and a spike
(:mod:`neurocompile.circuits.gates`).
"""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.clock import clock_line, window
from neurocompile.circuits.normalize import recurrent
from neurocompile.circuits.soft_reset import soft_reset
from neurocompile.circuits.softmax import SoftmaxPlan, plan_softmax, softmax, softmax_spikes
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref
from neurocompile.parameters import real, whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["attention", "attention_plan", "attention_spikes", "rate_spikes", "softmax_attention"]


def attention_plan(
    n: int, d: int, levels: int, unit: float, steps: int, fields: ChipFields = LOIHI2
) -> SoftmaxPlan:
    """The softmax of :func:`attention`; ``unit`` is the float value of 1 of a product q k."""
    for name, value in (("n", n), ("d", d), ("levels", levels), ("steps", steps)):
        whole(name, value, code="NC2012")
    real("unit", unit, "NC2012")
    count = max(steps // 4, 1)
    most = fields.current // 16
    if levels > most:
        raise NeurocompileError(
            "NC2012",
            f"attention of {n} tokens, {d} channels, levels up to {levels:,}: levels are 1 to {most:,}",
        )
    return plan_softmax(n, steps, 2 * levels * unit / count, d * levels * count, count, fields)


def attention(
    n: int, d: int, levels: int, unit: float, steps: int, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """One head over n tokens of d channels.

    Input int32 (samples, 3, n, d) in -levels..levels: Q, K and V. The readout, (n, d), is the
    attention in units of V. Scores are ``unit`` Q K^T. Raises NC2012 for sizes that leave their
    fields.
    """
    plan = attention_plan(n, d, levels, unit, steps, fields)
    builder, size = Builder(fields), n * d
    x = builder.population(c.HostInput, "x", (3, n, d), "x", low=-levels, high=levels)
    line = clock_line(builder, steps)
    key = _rate(builder, x, size, (n, d), levels, window(builder, line, 0, plan.count, "counting"))
    scores = builder.population(c.GradedRelay, "scores", (n, n), "scores", largest=plan.reach)
    # gates of (query, key, channel)
    _product(
        builder,
        x,
        0,
        (d, 0, 1),
        key,
        (0, d, 1),
        (n, n, d),
        levels,
        scores,
        (n, 1, 0),
        "scores.gate",
    )
    builder.drive(scores, [recurrent(strided(scores, (n * n,), (1,), (1,)))])
    p = softmax(builder, scores, n, plan, line, "softmax")
    out = builder.population(c.GradedRelay, "out", (n, d), "out")
    _product(
        builder, x, 2 * size, (0, d, 1), p, (n, 1, 0), (n, n, d), levels, out, (d, 0, 1), "out.gate"
    )
    builder.readout(out, steps / plan.divide)
    return builder.finish("softmax attention", steps)


def _rate(
    builder: Builder, x: str, offset: int, shape: tuple[int, int], levels: int, during: str
) -> str:
    """Spikes of rate (x + levels) / (2 levels) while ``during`` fires."""
    size = shape[0] * shape[1]
    current = builder.population(c.GradedRelay, "key.in", shape, "key", largest=2 * levels)
    builder.drive(current, [strided(x, (size,), (1,), (1,), src_offset=offset)])
    node = s.SoftIntegerLIF(
        name="key.rate", x=Ref("x"), threshold=levels, reset=2 * levels, decay=0
    )
    rate = soft_reset(builder, current, np.array([levels]), node, 3 * levels)
    key = builder.population(c.LIF, "key", shape, "key", vth=1, dv=ALL, reset=True)
    builder.drive(key, [strided(rate, (size,), (1,), (1,)), strided(during, (size,), (0,), (1,))])
    return key


def _product(
    builder: Builder,
    value: str,
    offset: int,
    value_strides: tuple[int, ...],
    spike: str,
    spike_strides: tuple[int, ...],
    shape: tuple[int, ...],
    largest: int,
    dst: str,
    dst_strides: tuple[int, ...],
    name: str,
) -> None:
    """Add ``value * spike``, broadcast to ``shape`` and summed along zeros of ``dst_strides``, to
    ``dst``: signed gates.
    """
    strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    gate = builder.population(c.GradedRelu, name, shape, dst, largest=2 * largest)
    one, full = builder.always_on(name), int(np.prod(shape))
    builder.drive(gate, [strided(value, shape, value_strides, strides, src_offset=offset)])
    builder.drive(
        gate,
        [
            strided(spike, shape, spike_strides, strides, weight=w)
            for w in builder.terms(2 * largest)
        ],
    )
    builder.drive(
        gate, [strided(one, (full,), (0,), (1,), weight=-w) for w in builder.terms(largest)]
    )
    builder.drive(dst, [strided(gate, shape, strides, dst_strides)])
    builder.drive(
        dst,
        [
            strided(spike, shape, spike_strides, dst_strides, weight=-w)
            for w in builder.terms(largest)
        ],
    )


def rate_spikes(x: np.ndarray, levels: int, count: int) -> np.ndarray:
    """Spikes of integrate and fire with soft reset from half way, by its definition: int64
    (samples, count, ...).
    """
    whole("levels", levels), whole("count", count)
    moments = np.arange(count + 1).reshape(-1, *[1] * x.ndim)
    total = (moments * (x.astype(np.int64) + levels) + levels) // (2 * levels)
    return np.moveaxis(np.diff(total, axis=0), 0, 1)


def attention_spikes(x: np.ndarray, levels: int, plan: SoftmaxPlan) -> np.ndarray:
    """What population ``out`` of :func:`attention` emits, by the definition: int64 (samples, steps,
    n, d).
    """
    q, k, v = np.moveaxis(x.astype(np.int64), 1, 0)
    spikes = np.zeros((len(x), plan.steps, *k.shape[1:]), np.int64)
    spikes[:, : plan.count] = rate_spikes(k, levels, plan.count)
    scores = np.cumsum(q[:, None] @ spikes.swapaxes(-1, -2), axis=1)
    return softmax_spikes(scores, plan) @ v[:, None]


def softmax_attention(x: np.ndarray, unit: float) -> np.ndarray:
    """The same in floating point: ``softmax(unit Q K^T) V``, float64 (samples, n, d)."""
    q, k, v = np.moveaxis(x.astype(np.float64), 1, 0)
    scores = unit * q @ k.swapaxes(-1, -2)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True) @ v
