"""Integer kernels of the emulator: a projection over a batch of rows, and the LIF recurrence.

Weighted projections are event-driven: the cost is that of the spikes, as on the chip, and every sum
is an int32.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from neurocompile.ir.circuit import Conv2d, Dense, Projection, Strided, powered
from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.ir.tables import KindTable
from neurocompile.jit import cached_njit

__all__ = ["KERNELS", "Kernel", "lif", "prepared", "project", "project_prepared"]


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def lif(a, bias, vth, dv, du, u, v, out):  # type: ignore[no-untyped-def]
    """One LIF population over a batch, in place: :class:`neurocompile.ir.circuit.LIF`.

    Args:
        a: int32 (samples, steps, neurons) input, or (samples, 1, neurons) if it is the same in
            every step.
        bias: int32 (neurons,) shifted by its exponent.
        vth: threshold shifted by 6 bits; dv, du: decays.
        u, v: int32 (samples, neurons) state, updated.
        out: uint8 (samples, steps, neurons) spikes, written.
    """
    keep_u, keep_v, limit = ALL - (du + 1), ALL - dv, PAYLOAD + 1
    for b in range(a.shape[0]):
        for t in range(out.shape[1]):
            now = t if a.shape[1] > 1 else 0
            for i in range(a.shape[2]):
                current = np.int64(u[b, i]) * keep_u
                current = (current >> 12) if current >= 0 else -((-current) >> 12)
                current += np.int64(a[b, now, i]) << 6
                if current > limit:
                    current -= 2 * limit
                elif current <= -limit:
                    current += 2 * limit
                voltage = np.int64(v[b, i]) * keep_v
                voltage = (voltage >> 12) if voltage >= 0 else -((-voltage) >> 12)
                voltage += current + bias[i]
                voltage = min(max(voltage, 1 - limit), limit - 1)
                spike = voltage > vth
                out[b, t, i] = spike
                u[b, i] = current
                v[b, i] = 0 if spike else voltage


class Kernel(NamedTuple):
    """What a kind of projection computes."""

    prepare: Callable[[Any, Any, tuple[int, ...]], np.ndarray | None]
    """:func:`prepared`."""
    add: Callable[[Any, Any, np.ndarray, tuple[int, ...], np.ndarray], None]
    """:func:`project_prepared`."""


KERNELS: KindTable[Kernel] = KindTable(
    "emulator kernels", ("projection",), "what it adds to its destination"
)


def prepared(
    projection: Projection, weight: np.ndarray | None, src_shape: tuple[int, ...]
) -> np.ndarray | None:
    """A projection's weights as :func:`project_prepared` reads them, int32 (C, kH, kW, outputs of
    the channel's group), shifted by their exponent; None of a Strided one. Make it once for many
    steps.
    """
    return KERNELS.of(projection).prepare(projection, weight, src_shape)


def project(
    projection: Projection,
    weight: np.ndarray | None,
    x: np.ndarray,
    src_shape: tuple[int, ...],
    a: np.ndarray,
) -> None:
    """Add the projection of ``x`` to ``a``: :func:`project_prepared` from a projection's weights as
    the circuit holds them.
    """
    project_prepared(projection, prepared(projection, weight, src_shape), x, src_shape, a)


def project_prepared(
    projection: Projection,
    kernel: np.ndarray | None,
    x: np.ndarray,
    src_shape: tuple[int, ...],
    a: np.ndarray,
) -> None:
    """Add the projection of ``x`` to ``a`` (int32 (rows, n_dst)), in place.

    Args:
        kernel: from :func:`prepared`.
        x: int32 (rows, n_src), C-contiguous (one dtype: each further one would cost a compilation).
        src_shape: array shape of the source population.
    """
    KERNELS.of(projection).add(projection, kernel, x, src_shape, a)


def _dense_weights(q: Dense, weight: np.ndarray, src_shape: tuple[int, ...]) -> np.ndarray:
    shifted = powered(weight.T.astype(np.int32), q.weight_exp)
    return np.ascontiguousarray(shifted)[:, None, None]


def _add_dense(
    q: Dense, kernel: np.ndarray, x: np.ndarray, src_shape: tuple[int, ...], a: np.ndarray
) -> None:
    image, sums = x.reshape(len(x), 1, 1, -1), a.reshape(len(x), 1, 1, -1)
    _scatter(image, kernel, (1, 1), (0, 0), (1, 1), kernel.shape[3], sums)


def _convolution_weights(q: Conv2d, weight: np.ndarray, src_shape: tuple[int, ...]) -> np.ndarray:
    channels, (out, kh, kw, group_in) = src_shape[2], weight.shape
    per_group = out // q.groups
    kernel = powered(weight.astype(np.int32), q.weight_exp).reshape(
        q.groups, per_group, kh, kw, group_in
    )
    return np.ascontiguousarray(
        kernel.transpose(0, 4, 2, 3, 1).reshape(channels, kh, kw, per_group)
    )


def _add_convolution(
    q: Conv2d, kernel: np.ndarray, x: np.ndarray, src_shape: tuple[int, ...], a: np.ndarray
) -> None:
    (height, width, channels), (_, kh, _, per_group) = src_shape, kernel.shape
    rows_out = (height + 2 * q.padding[0] - q.dilation[0] * (kh - 1) - 1) // q.stride[0] + 1
    image = x.reshape(len(x), height, width, channels)
    sums = a.reshape(len(x), rows_out, -1, per_group * q.groups)
    _scatter(image, kernel, q.stride, q.padding, q.dilation, per_group, sums)


@cached_njit(nogil=True, no_cfunc_wrapper=True)
def _scatter(x, weight, stride, padding, dilation, per_group, a):  # type: ignore[no-untyped-def]
    """Event-driven convolution: every non-zero input adds its weight rows to the outputs it
    reaches.

    Args:
        x: int32 (rows, H, W, C).
        weight: int32 (C, kH, kW, outputs of the channel's group).
        a: int32 (rows, H', W', C_out), added to.
    """
    _, kh, kw, _ = weight.shape
    group_in = x.shape[3] // (a.shape[3] // per_group)
    for row in range(x.shape[0]):
        for y in range(x.shape[1]):
            for z in range(x.shape[2]):
                for c in range(x.shape[3]):
                    value = x[row, y, z, c]
                    if value == 0:
                        continue
                    first = (c // group_in) * per_group
                    for i in range(kh):
                        top = y + padding[0] - i * dilation[0]
                        if top < 0 or top % stride[0] or top // stride[0] >= a.shape[1]:
                            continue
                        for j in range(kw):
                            left = z + padding[1] - j * dilation[1]
                            if left < 0 or left % stride[1] or left // stride[1] >= a.shape[2]:
                                continue
                            out = a[row, top // stride[0], left // stride[1]]
                            for k in range(per_group):
                                out[first + k] += value * weight[c, i, j, k]


def _add_strided(
    p: Strided, kernel: None, x: np.ndarray, src_shape: tuple[int, ...], a: np.ndarray
) -> None:
    if prod(p.sizes) == 0:
        return
    src = as_strided(
        x[:, p.src_offset :],
        (len(x), *p.sizes),
        (x.strides[0], *(s * x.itemsize for s in p.src_strides)),
    )
    reduced = tuple(k + 1 for k, s in enumerate(p.dst_strides) if s == 0 and p.sizes[k] > 1)
    kept = [k for k in range(len(p.sizes)) if k + 1 not in reduced]
    values = src.sum(axis=reduced, dtype=np.int32) if reduced else src
    dst = as_strided(
        a[:, p.dst_offset :],
        (len(a), *(p.sizes[k] for k in kept)),
        (a.strides[0], *(p.dst_strides[k] * a.itemsize for k in kept)),
    )
    if p.weight_exp < 0:
        dst += np.multiply(values, np.int32(p.weight), dtype=np.int32) >> -p.weight_exp
        return
    weight = np.int32(p.weight << p.weight_exp)
    dst += values if weight == 1 else np.multiply(values, weight, dtype=np.int32)


KERNELS.add(Kernel(_dense_weights, _add_dense), Dense)
KERNELS.add(Kernel(_convolution_weights, _add_convolution), Conv2d)
KERNELS.add(Kernel(lambda q, weight, src_shape: None, _add_strided), Strided)
