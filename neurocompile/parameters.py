"""Parameters of formulas and circuits, and results of formulas, checked: one line says which, what
it is, and what it may be. Formulas' is NC8003, circuits' what the call names.
"""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

from neurocompile.errors import NeurocompileError

__all__ = [
    "LARGEST",
    "MOST",
    "between",
    "count",
    "fraction",
    "number",
    "positive",
    "real",
    "result",
    "whole",
    "whole_steps",
]

LARGEST = 1e100
"""Results lie within 1 / LARGEST and LARGEST: beyond, squares and ratios of them leave double
precision.
"""
MOST = 1 << 20
"""Of a circuit's size, and of its steps: far beyond what a chip holds, far below what memory does."""


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


def real(name: str, value: float, code: str = "NC2011") -> float:
    """``value``, a circuit's real parameter, if it is finite and above 0; ``code`` otherwise."""
    try:
        return positive(name, float(value))
    except (TypeError, ValueError, OverflowError, NeurocompileError):
        raise NeurocompileError(
            code, f"{name} is {_short(value)}; a finite number above 0 is needed"
        ) from None


def whole(
    name: str, value: SupportsIndex, least: int = 1, most: int = MOST, code: str = "NC2011"
) -> int:
    """``value``, a circuit's size or step count, if it is an integer in ``least``..``most``;
    ``code`` otherwise.
    """
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if not least <= found <= most:
        raise NeurocompileError(
            code, f"{name} is {_short(value)}; a whole number from {least:,} to {most:,} is needed"
        )
    return found


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


def count(name: str, value: float, least: int = 1, most: float = LARGEST) -> int:
    """``value`` as a whole number within ``least`` .. ``most``; NC8003 otherwise."""
    if not (_finite(value) and least <= value <= most and value == int(value)):
        to = "" if most == LARGEST else f" to {most:,}"
        raise NeurocompileError(
            "NC8003", f"{name} is {_short(value)}; a whole number from {least}{to} is needed"
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
