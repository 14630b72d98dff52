"""Parameters of formulas, checked: one NC8003 line says which, what it is, and what it may be."""

from __future__ import annotations

import math

from neurocompile.errors import NeurocompileError

__all__ = ["count", "fraction", "positive"]


def positive(name: str, value: float) -> float:
    """``value`` if it is finite and above 0; NC8003 otherwise."""
    if not (math.isfinite(value) and value > 0):
        raise NeurocompileError("NC8003", f"{name} is {value}; a finite number above 0 is needed")
    return float(value)


def fraction(name: str, value: float) -> float:
    """``value`` if it lies in 0..1, ends excluded; NC8003 otherwise."""
    if not 0 < value < 1:
        raise NeurocompileError("NC8003", f"{name} is {value}; a number between 0 and 1 is needed")
    return float(value)


def count(name: str, value: float) -> int:
    """``value`` as a whole number >= 1; NC8003 otherwise."""
    if not (math.isfinite(value) and value >= 1 and value == int(value)):
        raise NeurocompileError("NC8003", f"{name} is {value}; a whole number from 1 is needed")
    return int(value)
