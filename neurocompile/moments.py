"""How the inputs of a layer vary together: covariances over calibration samples, which decide how
rounding one weight is made up for by others.

Inputs that are integers (spikes, counts of them) are summed exactly, so that the result does not
depend on threads, their number or the machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.ir.quick import for_samples

__all__ = ["input_covariances"]

_SAMPLES = 128
"""Evenly spaced ones that are looked at."""
_ROWS = 1 << 14
"""Of inputs (a sample, step and place each) of a layer, about; all if there are fewer."""
_EXACT = 1 << 24
"""Whole numbers below are exact in float32."""
_MOST_INPUTS = 1 << 12
"""Of an output; a layer with more keeps the nearest rounding."""


def input_covariances(
    graph: s.SpikingGraph,
    x: np.ndarray,
    T: int,
    done: Callable[[int, int], object] = lambda now, of: None,
) -> dict[str, np.ndarray]:
    """Layer -> float64 (groups, n, n), covariances of the n inputs that an output sums, over
    samples, steps and places.

    Convolutions and linear layers whose input the float ``graph`` holds in integers, with at most
    4,096 inputs an output; the others are missing.

    Args:
        graph: stage canonical.
        x: float32 (samples, *input shape); 128 of them, evenly spaced, are evaluated.
        T: steps.
        done: called with how many samples are measured, and of how many.
    """
    whole, size = ranges(graph), shapes(graph)
    layers = [
        n
        for n in graph.nodes
        if isinstance(n, (s.Conv2d, s.Linear))
        and (bound := whole[n.x]) is not None
        and bound.magnitude**2 * 2 * _ROWS < _EXACT
        and graph.tensors[n.weight][0].size <= _MOST_INPUTS
    ]
    chosen = x[np.unique(np.linspace(0, len(x) - 1, min(_SAMPLES, len(x))).round().astype(int))]
    each = max(_ROWS // (len(chosen) * T), 1)
    places = {n.name: _places(n, graph, size, each) for n in layers}
    sums: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}

    def count(trace: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
        return {n.name: _summed(n, graph, trace[n.x], places[n.name]) for n in layers}

    record = sorted({str(n.x) for n in layers})
    for part, found in for_samples(graph, chosen, T, record, count):
        for name, (square, total, rows) in found.items():
            before = sums.get(name)
            if before is not None:
                square, total, rows = square + before[0], total + before[1], rows + before[2]
            sums[name] = square, total, rows
        done(part.stop, len(chosen))
    return {
        name: square / rows - (total / rows)[:, :, None] * (total / rows)[:, None, :]
        for name, (square, total, rows) in sums.items()
    }


def _places(
    node: s.Conv2d | s.Linear, graph: s.SpikingGraph, size: dict[str, tuple[int, ...]], most: int
) -> np.ndarray:
    """Flat places of the output, ``most`` of them, drawn once for each layer by its shape."""
    shape = size[node.name]
    places = int(np.prod(shape[1:] if isinstance(node, s.Conv2d) else shape[:-1], dtype=int))
    if places <= most:
        return np.arange(places)
    return np.sort(np.random.default_rng(places).permutation(places)[:most])


def _summed(
    node: s.Conv2d | s.Linear, graph: s.SpikingGraph, x: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """(groups, n, n) of products and (groups, n) of inputs, sums over all rows, and how many."""
    if isinstance(node, s.Linear):
        rows = x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])[:, places]
        rows = rows.reshape(1, -1, x.shape[-1])
    else:
        rows = _patches(node, graph.tensors[node.weight].shape, x, places)
    rows = rows.astype(np.float32)
    square = np.matmul(rows.transpose(0, 2, 1), rows)
    return square.astype(np.float64), rows.sum(axis=1, dtype=np.float64), rows.shape[1]


def _patches(
    node: s.Conv2d, weight: tuple[int, ...], x: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """(groups, rows, n): what the outputs at ``places`` read of x (samples, T, C, H, W)."""
    _, channels, kh, kw = weight
    (top, left), (sy, sx), (dy, dx) = node.padding, node.stride, node.dilation
    width = (x.shape[4] + 2 * left - dx * (kw - 1) - 1) // sx + 1
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (top, top), (left, left)))
    at_y = (places // width * sy)[:, None] + np.arange(kh) * dy  # (places, kh)
    at_x = (places % width * sx)[:, None] + np.arange(kw) * dx
    found = padded[:, :, :, at_y[:, :, None], at_x[:, None, :]]  # samples, T, C, places, kh, kw
    samples, T, all_channels, count = found.shape[:4]
    groups = all_channels // channels
    found = found.reshape(samples * T, groups, channels, count, kh * kw)
    return found.transpose(1, 0, 3, 2, 4).reshape(groups, samples * T * count, -1)
