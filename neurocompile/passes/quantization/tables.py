"""Tables of segments for functions of one value: where they bend, and integers that fit 24 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log2

import numpy as np

from neurocompile.targets.fields import ChipFields

__all__ = ["Descent", "Segments", "descent", "segments"]

_FINE = 12
"""Bits of a falling function's argument that its segments look at."""
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Segments:
    """Integers of an ``IntegerFunction``; ``unit`` is the float value of its 1."""

    knots: np.ndarray
    weights: np.ndarray
    constant: int
    shift: int
    unit: float


def segments(
    f: Function,
    low: int,
    high: int,
    count: int,
    levels: int,
    fields: ChipFields,
    positive: bool = False,
) -> Segments:
    """``f`` on the integers ``low``..``high`` by at most ``count`` segments, its largest value at
    most ``levels``.

    Knots lie denser where f bends; chords are moved by half of their error, which halves it. Each
    slope aims at the next knot from where rounding left the last one.

    Args:
        positive: no value may round below 0.
    """
    grid = np.linspace(low, high, 4097)
    values = f(grid)
    bend = np.sqrt(np.abs(np.gradient(np.gradient(values, grid), grid)))
    along = np.cumsum(bend + 1e-3 * bend.max() + 1e-300)
    along = (along - along[0]) / max(along[-1] - along[0], 1e-300)
    knots = np.unique(np.rint(np.interp(np.linspace(0, 1, count + 1), along, grid)))
    knots = np.unique(np.concatenate([[low], knots, [max(high, low + 1)]])).astype(np.int64)
    target = _centred(f, knots)
    unit = max(float(np.abs(target).max()), float(np.abs(values).max()), 1e-30) / levels
    for shift in range(20, -1, -1):
        found = _slopes(knots, target / unit * 2.0**shift)
        constant = round(float(target[0]) / unit * 2**shift) + (1 << shift >> 1)
        reach = found * (knots[-1] - knots[:-1])
        up, down = reach[reach > 0].sum() + max(constant, 0), reach[reach < 0].sum()
        if max(up, -(down + min(constant, 0))) <= fields.payload + 1 >> 1 or not shift:
            break
    if positive:  # a falling sum of rounded slopes ends a little too low
        corners = constant + np.concatenate([[0], np.cumsum(np.cumsum(found) * np.diff(knots))])
        constant += max(-int(corners.min()), 0)
    return Segments(knots[:-1], found, constant, shift, unit)


def _centred(f: Function, knots: np.ndarray) -> np.ndarray:
    """Values at the knots whose chords leave an error of both signs."""
    target = f(knots.astype(np.float64))
    middle = (knots[1:] + knots[:-1]) / 2
    error = ((target[1:] + target[:-1]) / 2 - f(middle)) / 2
    error[np.diff(knots) <= 1] = 0.0  # no integer lies between
    moved = target.copy()
    moved[1:-1] -= (error[1:] + error[:-1]) / 2
    moved[0] -= error[0]
    moved[-1] -= error[-1]
    return moved


def _slopes(knots: np.ndarray, target: np.ndarray) -> np.ndarray:
    weights, slope, here = [], 0, float(target[0])
    for k in range(len(knots) - 1):
        width = int(knots[k + 1] - knots[k])
        aim = round((float(target[k + 1]) - here) / width)
        here += aim * width
        weights.append(aim - slope)
        slope = aim
    return np.array(weights, np.int64)


@dataclass(frozen=True, eq=False)
class Descent:
    """Integers of a ``Falling``; ``unit`` is the float value of its 1."""

    ends: np.ndarray
    lengths: np.ndarray
    weights: np.ndarray
    exponents: np.ndarray
    drops: np.ndarray
    constant: int
    unit: float


def descent(
    f: Function, low: int, high: int, per_octave: int, top: int, fields: ChipFields
) -> Descent:
    """``f``, which falls, on the integers ``low``..``high`` (1 or more) by ``per_octave`` segments
    an octave; its value at ``low`` becomes at most ``top``, and stays that below.
    """
    low, high = max(low, 1), max(high, low + 1, 2)
    octaves = log2(high / low)
    raw = low * 2.0 ** np.linspace(0, octaves, max(ceil(octaves * per_octave), 1) + 1)
    # a few units for all octaves, each of which looks at 12 bits or more
    drop_of = [max(int(v).bit_length() - 1 - _FINE, 0) // 4 * 4 for v in raw]
    knots: list[int] = []
    drops: list[int] = []
    for value, drop in zip(raw, drop_of, strict=True):
        # a knot is a multiple of the units of both segments that meet there
        knot = max(round(value / 2**drop), 1) << drop
        if not knots or knot > knots[-1]:
            knots.append(knot)
            drops.append(drop)
    if len(knots) == 1:
        knots.append(knots[0] + (1 << drops[0]))
        drops.append(drops[0])
    target = _centred(f, np.array(knots))
    steepest = max(
        (target[k] - target[k + 1]) / ((knots[k + 1] - knots[k]) >> drops[k])
        for k in range(len(knots) - 1)
    )
    unit = max(float(target[0]) / top, float(steepest) / fields.synapse, 1e-300)
    constant = max(round(float(target[-1]) / unit), 0)
    rows, here = [], float(constant)
    for k in range(len(knots) - 2, -1, -1):
        drop, width = drops[k], (knots[k + 1] - knots[k]) >> drops[k]
        slope = max((float(target[k]) / unit - here) / width, 0.0)
        e = max(floor(log2(fields.weight / slope)), -fields.weight_exponent) if slope else 0
        e = min(e, 30)
        weight = min(round(slope * 2.0**e), fields.weight)
        here += weight * width / 2.0**e
        rows.append((knots[k + 1] >> drop, width, weight, e, drop))
    ends, lengths, weights, exponents, dropped = np.array(rows[::-1], np.int64).T
    return Descent(ends, lengths, weights, exponents, dropped, constant, unit)
