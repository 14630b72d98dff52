"""The rows of one port: which neurons of its tile each axon reaches, with what weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from neurocompile.images.image import DENSE, KERNEL, SPARSE
from neurocompile.images.layout import Layout, Port, flat_indices
from neurocompile.ir.circuit import Conv2d, Dense, Strided
from neurocompile.ir.tables import KindTable
from neurocompile.mapping.pattern import Pattern
from neurocompile.mapping.tile import Tile

__all__ = ["Rows", "rows_of"]

_EMPTY32 = np.zeros(0, np.int32)
_EMPTY64 = np.zeros(0, np.int64)
_NOWHERE = np.zeros((0, 2), np.int32)


@dataclass(frozen=True)
class Rows:
    """Tables of a port, as :class:`neurocompile.images.image.CoreImage` has them."""

    kind: int
    weights: np.ndarray
    ends: np.ndarray = field(default_factory=lambda: _EMPTY64)
    targets: np.ndarray = field(default_factory=lambda: _EMPTY32)
    positions: np.ndarray = field(default_factory=lambda: _NOWHERE)
    kernel: tuple[int, ...] = (0,) * 12
    """Of a KERNEL: the last columns of PORT_FIELDS."""

    @property
    def shared(self) -> bool:
        """Whether one weight serves all synapses."""
        return self.kind == SPARSE and len(self.weights) == 1 != len(self.targets)


ROWS: KindTable[Callable[[Layout, Port, Any, np.ndarray], Rows]] = KindTable(
    "images of cores", ("projection",), "which rows of synapses it has"
)
"""(layout, port, its projection, sources of its axons) -> the rows."""


def rows_of(layout: Layout, port: Port, sources: np.ndarray) -> Rows:
    """The rows of ``port``, whose axons have ``sources`` (:meth:`Layout.sources`)."""
    return ROWS.of(port.projection)(layout, port, port.projection, sources)


@ROWS.rule(Dense)
def _matrix(layout: Layout, port: Port, q: Dense, sources: np.ndarray) -> Rows:
    circuit = layout.counter.circuit
    weight = circuit.tensors[q.weight][flat_indices(port.tile, circuit.population[q.dst].shape)]
    return Rows(DENSE, np.ascontiguousarray(weight.T, np.int16).reshape(-1))


@ROWS.rule(Strided)
def _pattern(layout: Layout, port: Port, q: Strided, sources: np.ndarray) -> Rows:
    ends, targets = _listed(layout.counter.pattern(q), port.tile, sources)
    return Rows(SPARSE, np.array([q.weight], np.int16), ends, targets)


@ROWS.rule(Conv2d)
def _convolution(layout: Layout, port: Port, q: Conv2d, sources: np.ndarray) -> Rows:
    return (_kernel if port.positional else _unrolled)(layout, port, q, sources)


def _listed(pattern: Pattern, tile: Tile, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of rows, and the neurons of the tile that they reach, in the order of ``sources``."""
    if not len(sources):
        return np.zeros(0, np.int64), _EMPTY32
    strides = [prod(tile.shape[a + 1 :]) for a in range(len(tile.shape))]
    assert pattern.fixed is not None
    src = np.array([pattern.src_offset], np.int64)
    dst = np.array(
        [sum((int(pattern.fixed[a]) - tile.start[a]) * strides[a] for a in pattern.still)], np.int64
    )
    for component in pattern.components:
        inside = np.ones(component.sources.size, bool)
        local = np.zeros(component.sources.size, np.int64)
        for a, along in zip(component.axes, component.coordinates, strict=True):
            inside &= (along >= tile.start[a]) & (along < tile.stop[a])
            local += (along - tile.start[a]) * strides[a]
        src = (src[:, None] + component.sources[inside]).reshape(-1)
        dst = (dst[:, None] + local[inside]).reshape(-1)
    order = np.lexsort((dst, src))
    ends = np.searchsorted(src[order], sources, side="right")
    return ends.astype(np.int64), dst[order].astype(np.int32)


def _kernel(layout: Layout, port: Port, q: Conv2d, sources: np.ndarray) -> Rows:
    """Kernels once, positions as axons."""
    circuit, tile = layout.counter.circuit, port.tile
    weight, shape = circuit.tensors[q.weight], circuit.population[q.src].shape
    out, height, width, inputs = weight.shape
    size, (first, last) = out // q.groups, (tile.start[2], tile.stop[2])
    touched = range(first // size, (last - 1) // size + 1)
    parts = [
        weight[max(first, g * size) : min(last, (g + 1) * size)].transpose(3, 1, 2, 0).reshape(-1)
        for g in touched
    ]
    own = (inputs, touched.start, len(touched), size, height, width)
    kernel = (*own, *q.stride, *q.padding, *q.dilation)
    positions = np.stack(np.divmod(sources, shape[1]), axis=1).astype(np.int32)
    return Rows(KERNEL, np.concatenate(parts).astype(np.int16), positions=positions, kernel=kernel)


def _unrolled(layout: Layout, port: Port, q: Conv2d, sources: np.ndarray) -> Rows:
    """A convolution without shared kernels: each source neuron lists its synapses."""
    circuit, tile = layout.counter.circuit, port.tile
    weight, shape = circuit.tensors[q.weight], circuit.population[q.src].shape
    out, height, width, inputs = weight.shape
    size = out // q.groups
    y, x, c = (i.reshape(-1) for i in np.indices(tile.shape))
    channel = c + tile.start[2]
    found = []
    for i in range(height):
        row = (y + tile.start[0]) * q.stride[0] - q.padding[0] + i * q.dilation[0]
        for j in range(width):
            column = (x + tile.start[1]) * q.stride[1] - q.padding[1] + j * q.dilation[1]
            inside = np.flatnonzero(
                (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
            )
            base = (row[inside] * shape[1] + column[inside]) * shape[2]
            base = base + channel[inside] // size * inputs
            src = (base[:, None] + np.arange(inputs)).reshape(-1)
            dst = np.repeat(inside, inputs)
            found.append((src, dst, weight[channel[inside], i, j].reshape(-1)))
    src, dst, values = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((dst, src))
    ends = np.searchsorted(src[order], sources, side="right").astype(np.int64)
    return Rows(SPARSE, values[order].astype(np.int16), ends, dst[order].astype(np.int32))
