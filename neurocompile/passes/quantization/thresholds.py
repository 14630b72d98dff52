"""Limits of what neurons read, from the fields of the chip (:mod:`neurocompile.targets.fields`), and
the integer thresholds that mean what the float ones do.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np

from neurocompile.ir.fields import ALL
from neurocompile.ir.interval import geometric
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = [
    "before",
    "exact_level",
    "exact_soft",
    "exact_threshold",
    "fed_back_limit",
    "follows",
    "input_limit",
    "integrator_limit",
    "largest_factor",
    "least_multiple",
    "soft_bias",
    "soft_threshold",
    "unweighted",
]

LEAST_LEVELS = 31
_CLOSED = 63_000
"""Of 131,071: inputs, whose silence takes an inhibition as strong, beside the bias."""
_LEAKLESS = 2.0**32
"""A tau for which float32 loses what leaks: files write a neuron without leak with a finite one."""


def soft_bias(fields: ChipFields) -> int:
    """Largest bias of a neuron with soft reset: two synapses from a constant."""
    return min(fields.synapse + (1 << fields.weight_exponent) - 1, fields.current // 4)


def largest_factor(fields: ChipFields) -> int:
    """Of a product with spikes: a gate takes twice as much from five synapses."""
    return min(fields.current // 2, fields.gated)


def unweighted(fields: ChipFields) -> int:
    """Largest weight of an unweighted connection."""
    return fields.weight - 1


def exact_threshold(
    gain: float, threshold: float, tau: float, steps: int, largest: int, fields: ChipFields = LOIHI2
) -> tuple[int, int] | None:
    """Integer weight k and threshold vth that reproduce a float LIF on integer input exactly, or
    None.

    With ``1 - 1/tau = m / 2^p``, membranes over T steps are multiples of ``g = 2^(-p (T-1))``, and
    ``h >= R`` with ``R = threshold / gain`` is ``h >= ceil(R / g) g``. In units of ``2^-6 / k``
    that is an integer comparison: k must be a power of two that makes every membrane an integer,
    and leave room for a threshold that is a multiple of 2^6.

    Args:
        largest: bound of the input's absolute value.
    """
    leak = _leak(tau)
    if gain <= 0 or threshold <= 0 or leak is None:
        return None
    bits = (1 - leak).denominator.bit_length() - 1
    grid = Fraction(1, 1 << (bits * (steps - 1)))
    level = (
        ceil(Fraction(float(np.float32(threshold))) / Fraction(float(np.float32(gain))) / grid)
        * grid
    )
    for exponent in range(8):
        k = 1 << exponent
        vth = ceil(k * level) - 1
        if k > unweighted(fields) or k * largest > fields.current or vth > fields.threshold:
            return None
        if (64 * k * grid).denominator == 1 and vth >= k * (level - grid):
            return k, vth
    return None


def _leak(tau: float) -> Fraction | None:
    """``1 / tau`` in 4096ths, as the chip has it; None if that is another number, or all."""
    if tau > _LEAKLESS:
        return Fraction(0)
    leak = Fraction(round(ALL / tau), ALL)
    near = abs(ALL / tau - ALL * leak) <= ALL / tau * np.finfo(np.float32).eps
    return leak if near and leak < 1 else None  # 4/3 is not a float32


def before(threshold: float) -> float:
    """The float32 below: the bound that a file compares with ``v > bound``, if it does."""
    return float(np.nextafter(np.float32(threshold), np.float32(0)))


def follows(threshold: float, grid: float | np.ndarray) -> np.ndarray:
    """True where ``threshold`` is the float32 next to a whole number of ``grid``: ``v > n`` of a
    file, for importers write every comparison as ``v >= threshold``. Of the shape of ``grid``.
    """
    if float(np.float32(threshold)) != threshold:
        return np.zeros(np.shape(grid), bool)
    ratio = before(threshold) / np.asarray(grid)
    return (ratio > 0.5) & (np.abs(ratio - np.rint(ratio)) <= 1e-9 * ratio)


def least_multiple(threshold: float, grid: float) -> int:
    """Of ``grid``, that reaches ``threshold``; float32 rounding of a multiple is that multiple."""
    ratio = threshold / grid
    near = round(ratio)
    if abs(ratio - near) > 2e-6 * ratio:
        return ceil(ratio)
    return near + int(follows(threshold, grid))


def exact_level(
    gain: float, threshold: float, taus: np.ndarray, steps: int, power: int
) -> int | None:
    """The integer threshold that reproduces a float LIF exactly on currents ``2^power n``, n any
    integers of float value ``gain``; None if there is none, or another one for each leak.

    As :func:`exact_threshold`; but a threshold within float32 rounding of a membrane is that
    membrane, for ``gain`` was found from weights.
    """
    found = set()
    for tau in np.unique(taus):
        leak = _leak(tau)
        if leak is None:
            return None
        bits = (1 - leak).denominator.bit_length() - 1
        if bits * (steps - 1) > 6 + power:  # membranes of so many steps leave the chip's 1/64
            return None
        grid = Fraction(1, 1 << (bits * (steps - 1)))
        level, k = least_multiple(threshold, gain * float(grid)) * grid, 1 << power
        vth = ceil(k * level) - 1
        if vth < k * (level - grid):
            return None
        found.add(vth)
    return found.pop() if len(found) == 1 else None


def exact_soft(
    gain: float,
    thresholds: tuple[float, ...],
    taken: float,
    taus: np.ndarray,
    steps: int,
    power: int,
) -> int | None:
    """The same for a neuron with soft reset: its first threshold, where all of them, and what a
    spike takes behind the leak, are integers and no step's membrane leaves the chip's 1/64. Without
    a memory thresholds may lie anywhere: the next integer is what they mean.
    """
    if (taus == 1).all():
        return max(ceil(thresholds[0] / gain * (1 << power) * (1 - 2e-9)), 1)
    for tau in np.unique(taus):
        leak = _leak(tau)
        if leak is None or ((1 - leak).denominator.bit_length() - 1) * (steps - 1) > 6:
            return None
        parts = np.array([*thresholds, taken * float(1 - leak)]) / gain * (1 << power)
        if (np.abs(parts - np.rint(parts)) > 2e-6 * np.maximum(parts, 1.0)).any():
            return None
        whole = ((1 - leak).denominator.bit_length() - 1) * (steps - 1) <= power
        if not whole and any(follows(v, gain / (1 << power)).item() for v in thresholds):
            return None  # membranes between a threshold and the next integer fire
    return least_multiple(thresholds[0], gain / (1 << power))


def soft_threshold(ideal: float, kept: float | np.ndarray) -> int:
    """The integer threshold within 1 % of ``ideal`` whose parts ``kept`` are nearest to integers,
    then nearest to ``ideal``.
    """
    low, high = max(int(np.ceil(0.99 * ideal)), 1), max(int(1.01 * ideal), round(ideal), 1)
    near = range(max(low, round(ideal) - 16), min(high, round(ideal) + 16) + 1)
    kept = np.asarray(kept)

    def cost(v: int) -> tuple[float, float]:
        return round(float(np.abs(kept * v - np.rint(kept * v)).max()) / v, 5), abs(v - ideal)

    return min(near, key=cost, default=max(round(ideal), 1))


def integrator_limit(kept: float, steps: int, fields: ChipFields = LOIHI2) -> int:
    """Largest input a step of an integrator, whose sums stay below 2^17 in any period."""
    return int(fields.current / geometric(kept, steps)) - steps


def input_limit(
    soft_reset: bool, tau: float, steps: int, current: float = 0.0, fields: ChipFields = LOIHI2
) -> int:
    """Largest input a step for which every current of a neuron, and of what closes its loop, stays
    below 2^17. A synaptic current grows to ``g`` times the input (g steps, as far as it is kept).

    Soft reset, before the 7 bits that a shift can drop: of A, which bounds an input, a threshold and
    what spikes take behind the leak, a membrane makes ``g A`` in a sample. Silence in its last step
    takes an inhibition M of ``g A`` less the threshold, at least A; idle steps behind it bring at
    most A each, which M outweighs. What a closed copy hears, ``-M - A`` and its own spikes' ``-A``,
    accumulates g times (``passes/close_loops.py``; tests/passes/test_input_limit.py holds it).
    """
    if not soft_reset:
        grown = geometric(current, steps)
        if fields.membrane is not None:  # inhibition grows the membrane until the reset
            grown *= geometric(1 - 1 / tau, 2 * steps)
        return max(int(fields.current / grown), 1)
    if round(ALL / tau) == 0:  # files write a neuron without leak with a finite tau
        return fields.current // (2 * steps + 3) << fields.shift
    if tau == 1:  # no memory, no loop
        return fields.current << fields.shift
    most = geometric(1 - 1 / tau, 2 * steps)  # a period is shorter than 2 T
    return int(fields.current / (most * (most + 2))) << fields.shift


def fed_back_limit(steps: int, current: float = 0.0, fields: ChipFields = LOIHI2) -> int:
    """:func:`input_limit` of a hard reset that hears spikes of its own: half of it, for silence
    takes an inhibition as strong as what inputs drive the neuron with; a synaptic current drives
    it g times as hard, and accumulates both g times.
    """
    most = geometric(current, 2 * steps)  # a period is shorter than 2 T
    return int(2 * min(_CLOSED, fields.current // 2) / (most * (most + 1)))
