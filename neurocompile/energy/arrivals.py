"""Synaptic operations without listing synapses: what arrives at each neuron, and the fan-out of
each source.

A message from neuron s causes one synaptic operation at each of its stored synapses. So the
operations at neuron d are the projection of the message counts with every weight replaced by 1.
Because that replacement is uniform over output channels, a convolution costs kH * kW shifted sums
over positions, a matrix one sum, a strided pattern one strided add: time and memory follow neurons,
not synapses, and a convolution's border is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from neurocompile.ir.circuit import CircuitGraph, Conv2d, Dense, Projection, Strided
from neurocompile.ir.layout import strided_index
from neurocompile.ir.tables import KindTable

__all__ = ["COUNTINGS", "Counting", "arrivals", "effective_operations", "fan_out", "synapse_kind"]


class Counting(NamedTuple):
    """How the synapses of a kind of projection are counted."""

    stored: str
    """``dense``, ``convolution`` or ``sparse``."""
    arrivals: Callable[[CircuitGraph, Any, np.ndarray], np.ndarray]
    """:func:`arrivals`."""
    fan_out: Callable[[CircuitGraph, Any], np.ndarray]
    """:func:`fan_out`."""
    effective: Callable[[CircuitGraph, Any, np.ndarray], float]
    """:func:`effective_operations`."""


COUNTINGS: KindTable[Counting] = KindTable(
    "synaptic operations", ("projection",), "how many operations a message causes"
)


def synapse_kind(projection: Projection) -> str:
    """``dense``, ``convolution`` or ``sparse``: how the chip stores the synapses."""
    return COUNTINGS.of(projection).stored


def arrivals(circuit: CircuitGraph, projection: Projection, messages: np.ndarray) -> np.ndarray:
    """Synaptic operations at each destination neuron.

    Args:
        messages: (rows, source neurons), messages of each source neuron (counts or rates; any float
            or integer type).

    Returns:
        (rows, destination neurons) of the same dtype, perhaps a read-only broadcast.
    """
    return COUNTINGS.of(projection).arrivals(circuit, projection, messages)


def fan_out(circuit: CircuitGraph, projection: Projection) -> np.ndarray:
    """Stored synapses of each source neuron, int64 of the source's shape; borders of convolutions
    are cut off.
    """
    return COUNTINGS.of(projection).fan_out(circuit, projection)


def effective_operations(
    circuit: CircuitGraph, projection: Projection, messages: np.ndarray
) -> float:
    """Operations whose weight is not 0 (NeuroBench's effective ones), for ``messages`` float64
    (source neurons,).
    """
    return COUNTINGS.of(projection).effective(circuit, projection, messages)


# ---- matrices


def _dense_arrivals(circuit: CircuitGraph, q: Dense, messages: np.ndarray) -> np.ndarray:
    total = messages.sum(axis=1, keepdims=True, dtype=messages.dtype)
    return np.broadcast_to(total, (len(messages), circuit.population[q.dst].size))


def _dense_fan_out(circuit: CircuitGraph, q: Dense) -> np.ndarray:
    return np.full(circuit.population[q.src].shape, circuit.population[q.dst].size, np.int64)


def _dense_effective(circuit: CircuitGraph, q: Dense, messages: np.ndarray) -> float:
    return float(messages @ np.count_nonzero(circuit.tensors[q.weight], axis=0))


COUNTINGS.add(Counting("dense", _dense_arrivals, _dense_fan_out, _dense_effective), Dense)


# ---- convolutions


def _taps(
    projection: Conv2d, axis: int, kernel: int, size: int, out: int
) -> list[tuple[slice, slice]]:
    """For each kernel index along ``axis``: source and destination positions that it joins (borders
    cut off).
    """
    stride, padding, dilation = (
        getattr(projection, name)[axis] for name in ("stride", "padding", "dilation")
    )
    found = []
    for i in range(kernel):
        shift = i * dilation - padding
        first = max(0, -(shift // stride))  # ceil(-shift / stride)
        last = min(out - 1, (size - 1 - shift) // stride)
        count = max(0, last - first + 1)
        start = first * stride + shift
        found.append(
            (
                slice(start, start + (count - 1) * stride + 1, stride) if count else slice(0, 0),
                slice(first, first + count),
            )
        )
    return found


def _convolution_arrivals(circuit: CircuitGraph, q: Conv2d, messages: np.ndarray) -> np.ndarray:
    rows, dst = len(messages), circuit.population[q.dst]
    height, width, channels = circuit.population[q.src].shape
    kernel = circuit.tensors[q.weight].shape[1:3]
    image = messages.reshape(rows, height, width, q.groups, channels // q.groups)
    image = image.sum(axis=-1, dtype=messages.dtype)
    out = np.zeros((rows, *dst.shape[:2], q.groups), messages.dtype)
    columns = _taps(q, 1, kernel[1], width, dst.shape[1])
    for y_src, y_dst in _taps(q, 0, kernel[0], height, dst.shape[0]):
        for x_src, x_dst in columns:
            out[:, y_dst, x_dst] += image[:, y_src, x_src]
    full = np.broadcast_to(out[..., None], (*out.shape, dst.shape[2] // q.groups))
    return full.reshape(rows, dst.size)


def _convolution_fan_out(circuit: CircuitGraph, q: Conv2d) -> np.ndarray:
    src, dst = circuit.population[q.src], circuit.population[q.dst]
    kernel, per_axis = circuit.tensors[q.weight].shape[1:3], []
    for axis in (0, 1):
        reached = np.zeros(src.shape[axis], np.int64)
        for positions, _ in _taps(q, axis, kernel[axis], src.shape[axis], dst.shape[axis]):
            reached[positions] += 1
        per_axis.append(reached)
    area = per_axis[0][:, None, None] * per_axis[1][None, :, None] * (dst.shape[2] // q.groups)
    return np.broadcast_to(area, src.shape).copy()


def _convolution_effective(circuit: CircuitGraph, q: Conv2d, messages: np.ndarray) -> float:
    src, dst, weight = (
        circuit.population[q.src],
        circuit.population[q.dst],
        circuit.tensors[q.weight],
    )
    out, kh, kw, per_group = weight.shape
    used = np.count_nonzero(
        weight.reshape(q.groups, out // q.groups, kh, kw, per_group), axis=1
    )  # groups, kh, kw, c
    image = messages.reshape(src.shape)
    columns, total = _taps(q, 1, kw, src.shape[1], dst.shape[1]), 0.0
    for i, (rows, _) in enumerate(_taps(q, 0, kh, src.shape[0], dst.shape[0])):
        for j, (cols, _) in enumerate(columns):
            total += float(image[rows, cols].sum(axis=(0, 1)) @ used[:, i, j].reshape(-1))
    return total


COUNTINGS.add(
    Counting("convolution", _convolution_arrivals, _convolution_fan_out, _convolution_effective),
    Conv2d,
)


# ---- strided patterns


def _strided_arrivals(circuit: CircuitGraph, q: Strided, messages: np.ndarray) -> np.ndarray:
    out = np.zeros((len(messages), circuit.population[q.dst].size), messages.dtype)
    if prod(q.sizes):
        _strided(q, np.ascontiguousarray(messages), out)
    return out


def _strided(p: Strided, x: np.ndarray, a: np.ndarray) -> None:
    loops = [
        loop for loop in zip(p.sizes, p.src_strides, p.dst_strides, strict=True) if loop[0] > 1
    ]
    size, item = tuple(n for n, _, _ in loops), x.itemsize
    src = as_strided(
        x[:, p.src_offset :], (len(x), *size), (x.strides[0], *(s * item for _, s, _ in loops))
    )
    reduced = tuple(k + 1 for k, loop in enumerate(loops) if loop[2] == 0)
    values = src.sum(axis=reduced, dtype=x.dtype) if reduced else src
    kept = [loop for loop in loops if loop[2]]
    shape = (len(a), *(n for n, _, _ in kept))
    # the rules of the circuit let no two steps of these loops meet in one neuron
    dst = as_strided(a[:, p.dst_offset :], shape, (a.strides[0], *(d * item for _, _, d in kept)))
    dst += values


def _strided_fan_out(circuit: CircuitGraph, q: Strided) -> np.ndarray:
    src, loops = circuit.population[q.src], list(zip(q.sizes, q.src_strides, strict=True))
    moving = [(n, s) for n, s in loops if s]
    times = prod(n for n, s in loops if not s)
    found = np.zeros(src.size, np.int64)
    index = strided_index(tuple(n for n, _ in moving), tuple(s for _, s in moving), q.src_offset)
    np.add.at(found, index, times)
    return found.reshape(src.shape)


def _strided_effective(circuit: CircuitGraph, q: Strided, messages: np.ndarray) -> float:
    return float(messages @ _strided_fan_out(circuit, q).reshape(-1)) if q.weight else 0.0


COUNTINGS.add(Counting("sparse", _strided_arrivals, _strided_fan_out, _strided_effective), Strided)
