"""Whether the integers of a neuron whose currents lie on a grid mean exactly what the float ones do.

A grid is a value of which every current is a whole number; ``2^power`` integers are one of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import before, exact_level, exact_soft, soft_bias

__all__ = ["bias_is_whole", "exact_on", "finer"]

_NEAR = 1e-5
"""Of a grid: float32 rounding of what was computed from weights."""


def finer(state: Quantization, lif: s.LIF, value: float, parts: int) -> Iterator[int]:
    """1, and the whole numbers up to ``parts`` by which the grid may be divided so that the
    neuron's biases, and what a spike takes from a membrane, are whole numbers of it.
    """
    wanted = [np.zeros(1)]
    if lif.bias is not None:
        wanted.append(np.unique(np.abs(np.asarray(state.graph.tensors[lif.bias], np.float64))))
    thresholds = [0.0]
    if lif.soft_reset and not lif.memoryless:
        wanted.append(np.array([lif.taken]))
        thresholds = [lif.v_threshold, before(lif.v_threshold)]
    unit = lif.gain * value
    whole = np.concatenate(wanted) / unit

    def lies(values: np.ndarray) -> np.ndarray:
        return np.abs(values - np.rint(values)) <= _NEAR

    yield 1
    for part in range(2, parts + 1):
        if lies(whole * part).all() and lies(np.asarray(thresholds) / unit * part).any():
            yield part


def bias_is_whole(state: Quantization, lif: s.LIF, value: float | np.ndarray, power: int) -> bool:
    """True if the neuron's biases are whole numbers of the grid, or of the grids of its channels,
    and their field holds them so.
    """
    if lif.bias is None:
        return True
    bias = np.asarray(state.graph.tensors[lif.bias], np.float64)
    units = bias / (lif.gain * np.asarray(value))
    whole = np.rint(units)
    if (np.abs(units - whole) > _NEAR).any():
        return False
    if lif.soft_reset:
        return bool(np.abs(whole).max() * 2**power <= soft_bias(state.fields))
    # in 64ths of an integer, as a mantissa times a power of two
    largest, drop = int(np.abs(whole).max()) << (6 + power), 0
    while largest >> drop > state.fields.mantissa:
        drop += 1
    return drop <= 6 + power or not (whole.astype(np.int64) % (1 << (drop - 6 - power))).any()


def exact_on(
    state: Quantization, lif: s.LIF, value: float, power: int, largest: float
) -> int | None:
    """The integer threshold with which ``lif`` means exactly what it does in float, on currents
    that are whole numbers of ``value``; None if there is none.

    Args:
        largest: bound of the currents and the bias, as ``lif.x`` has them.
    """
    if lif.current or not bias_is_whole(state, lif, value, power):
        return None
    taus, steps, unit = state.taus(lif), state.options.steps, lif.gain * value
    if not lif.soft_reset:
        level = exact_level(unit, lif.v_threshold, taus, steps, power)
        return level if level is not None and level <= state.fields.threshold else None
    needed = max(largest, *(v / lif.gain for v in (lif.v_threshold, *lif.more, lif.taken)))
    if needed * 2**power / value > state.input_limit(lif) >> state.fields.shift:
        return None  # it would drop bits of what it reads
    thresholds = (lif.v_threshold, *lif.more)
    return exact_soft(unit, thresholds, lif.taken, taus, steps, power)
