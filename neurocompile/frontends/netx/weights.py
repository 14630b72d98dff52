"""Integers as netx hands them to Lava, and as Lava's fixed-point synapses take them.

lava-dl 0.6.0 and lava-nc 0.10.0, read in their sources: ``netx/utils.py``, ``netx/hdf5.py``,
``lava/utils/weightutils.py``, ``lava/proc/dense/models.py``.
"""

from __future__ import annotations

import numpy as np

from neurocompile.errors import NeurocompileError

__all__ = ["LARGEST", "dense_weights", "whole"]

LARGEST = 256
"""Magnitude of a weight that a synapse of the chip holds."""


def whole(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """``values`` as netx takes them, int64, cut towards zero; and whether that changed any."""
    found = np.trunc(values).astype(np.int64)
    return found, bool((found != values).any())


def dense_weights(weight: np.ndarray, called: str) -> np.ndarray:
    """What one spike through each synapse of a dense block adds to its neuron, int64 of ``weight``'s
    shape: netx clips and shifts the weights, and Lava clips, truncates and shifts back.

    NC1003 where the way back rounds, which makes the sum another than its parts, and where a weight
    is beyond every synapse.
    """
    if not weight.any():
        return weight
    w = weight
    if w.max() > 254 and w.min() < 0:
        w = np.clip(w, -256, 254)
    if w.min() < -256 and w.max() > 0:
        w = np.clip(w, -256, 254)
    low, high = int(w.min()), int(w.max())
    if low < -LARGEST or high > LARGEST - 1:
        raise NeurocompileError(
            "NC1003", f"{called} has weights of {low:,} to {high:,}; a synapse holds -256 to 255"
        )
    mixed = not (high < 0 or low >= 0)
    shift = min(_octaves(127, high), _octaves(128, -low)) + 1 if mixed else 0
    if not mixed:
        shift = _octaves(256, -low) if high < 0 else _octaves(255, high)
    common = max(n for n in range(9) if not (w % (1 << n)).any())
    bits = 8 - shift - (common - mixed)
    stored = _truncated(w << shift, bits)
    if (stored % (1 << shift)).any():
        raise NeurocompileError(
            "NC1003",
            f"{called}: netx stores its weights of {low} to 0 as numbers that Lava cuts and then rounds in sums; "
            "scale them so that one is above 0, or all are",
        )
    return stored >> shift


def _octaves(room: int, value: int) -> int:
    """The largest n with ``value * 2^n <= room``, for ``value`` > 0; a large number otherwise."""
    if value <= 0:
        return 1 << 20
    n = 0
    while value << (n + 1) <= room:
        n += 1
    while n <= 0 and value > room << -n:
        n -= 1
    return n


def _truncated(w: np.ndarray, bits: int) -> np.ndarray:
    """Lava's ``clip_weights`` and ``truncate_weights``: the sign mode is that of the weights alone."""
    if w.min() >= 0:
        sign, mixed = 1, 0
    elif w.max() <= 0:
        sign, mixed = -1, 0
    else:
        sign, mixed = 1, 1
    w = np.clip(sign * w, -256 * mixed, 255)
    dropped = max(8 - bits + mixed, 0)
    return sign * (w >> dropped << dropped)
