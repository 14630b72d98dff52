"""Parameters and results of formulas, checked: one NC8003 line says which, what it is, and what it
may be.
"""

from __future__ import annotations

import math

from neurocompile.errors import NeurocompileError

__all__ = ["LARGEST", "between", "count", "fraction", "number", "positive", "result", "whole_steps"]

LARGEST = 1e100
"""Results lie within 1 / LARGEST and LARGEST: beyond, squares and ratios of them leave double
precision.
"""


def number(name: str, value: float) -> float:
    """``value`` if it is a finite number; NC8003 otherwise."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise NeurocompileError("NC8003", f"{name} is {_short(value)}; a finite number is needed")
    return found


def positive(name: str, value: float) -> float:
    """``value`` if it is finite and above 0; NC8003 otherwise."""
    if not (_finite(value) and value > 0):
        raise NeurocompileError(
            "NC8003", f"{name} is {_short(value)}; a finite number above 0 is needed"
        )
    return float(value)


def fraction(name: str, value: float) -> float:
    """``value`` if it lies in 0..1, ends excluded; NC8003 otherwise."""
    if not (_finite(value) and 0 < value < 1):
        raise NeurocompileError(
            "NC8003", f"{name} is {_short(value)}; a number between 0 and 1 is needed"
        )
    return float(value)


def between(name: str, value: float, low: float, high: float) -> float:
    """``value`` if it lies in ``low``..``high``, ends included; NC8003 otherwise."""
    if not (_finite(value) and low <= value <= high):
        raise NeurocompileError(
            "NC8003", f"{name} is {_short(value)}; a number from {low:g} to {high:g} is needed"
        )
    return float(value)


def count(name: str, value: float, least: int = 1) -> int:
    """``value`` as a whole number >= ``least``; NC8003 otherwise."""
    if not (_finite(value) and least <= value <= LARGEST and value == int(value)):
        raise NeurocompileError(
            "NC8003", f"{name} is {_short(value)}; a whole number from {least} is needed"
        )
    return int(value)


def result(name: str, value: float) -> float:
    """A formula's ``value`` if later formulas can compute with it; NC8003 where it left 1 / LARGEST
    .. LARGEST.
    """
    if not 1 / LARGEST <= value <= LARGEST:
        raise NeurocompileError(
            "NC8003",
            f"{name} comes to {value:.3g}, beyond {1 / LARGEST:g} to {LARGEST:g}; give parameters nearer to 1",
        )
    return float(value)


def whole_steps(value: float) -> int:
    """``value`` rounded up to whole steps, at least 1; NC8003 where it exceeds LARGEST."""
    if not value <= LARGEST:
        raise NeurocompileError(
            "NC8003", f"the number of steps comes to {value:.3g}, beyond {LARGEST:g}; raise epsilon"
        )
    return max(1, math.ceil(value))


def _finite(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def _short(value: object) -> str:
    """``value`` in one short line."""
    return " ".join((f"{value:.9g}" if isinstance(value, float) else str(value)).split())[:40]
