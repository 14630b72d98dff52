"""A folded circuit's samples and traces, window by window: what the host sends, and what belongs
to which sample.

Backends stream windows as they stream samples: ``samples * windows`` rounds of ``period`` steps.
"""

from __future__ import annotations

import numpy as np

from neurocompile.ir.circuit import CircuitGraph, HostInput

__all__ = ["by_sample", "host_rounds", "overlap", "pieces", "rounds", "valid_windows"]


def rounds(circuit: CircuitGraph, samples: int) -> int:
    """Rounds of ``period`` steps that so many samples take."""
    return samples * circuit.windows


def host_rounds(circuit: CircuitGraph, host: HostInput, x: np.ndarray) -> np.ndarray:
    """What ``host`` sends in each round, int32 (samples * windows, [steps,] *shape).

    Args:
        x: int32 (samples, *input shape) or, of a stepwise input, (samples, steps, *input shape).
    """
    if host.pattern is not None:
        table = circuit.tensors[host.pattern].astype(np.int32)
        return np.ascontiguousarray(
            np.broadcast_to(table, (len(x), *table.shape)).reshape(-1, *host.shape)
        )
    if host.places is None:
        return np.ascontiguousarray(x, np.int32)
    return pieces(x, circuit.tensors[host.places], host.shape, host.stepwise)


def pieces(x: np.ndarray, places: np.ndarray, shape: tuple[int, ...], stepwise: bool) -> np.ndarray:
    """What windows bring of samples, int32 (samples * windows, [steps,] *shape).

    Args:
        x: int32 (samples, *input shape), or (samples, steps, *input shape) if ``stepwise``.
        places: int32 (windows, *shape without channels), :class:`neurocompile.ir.circuit.HostInput`.
    """
    steps = x.shape[1:2] if stepwise else ()
    flat = x.reshape(len(x), *steps, -1, shape[-1])
    found = np.take(flat, np.maximum(places, 0), axis=len(steps) + 1)
    found[(slice(None),) * (len(steps) + 1) + (places < 0,)] = 0
    if steps:  # (samples, steps, windows, ...)
        found = np.moveaxis(found, 1, 2)
    return np.ascontiguousarray(found.reshape(-1, *steps, *shape), np.int32)


def by_sample(circuit: CircuitGraph, values: np.ndarray) -> np.ndarray:
    """(samples * windows, steps, ...) as (samples, windows * steps, ...)."""
    return values.reshape(-1, circuit.sample_steps, *values.shape[2:])


def valid_windows(windows: int, slots: tuple[tuple[int, int], ...]) -> np.ndarray:
    """bool (windows,): where a population with ``slots`` may emit."""
    if not slots:
        return np.ones(windows, bool)
    found = np.zeros(1, np.int64)
    for size, apart in slots:
        found = (found[:, None] + np.arange(size) * apart).reshape(-1)
    valid = np.zeros(windows, bool)
    valid[found] = True
    return valid


def overlap(windows: int, lag: int) -> tuple[slice, slice]:
    """Windows of the reader, and of what it reads, that meet at a lag."""
    if lag >= 0:
        return slice(lag, windows), slice(0, windows - lag)
    return slice(0, windows + lag), slice(-lag, windows)
