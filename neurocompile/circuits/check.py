"""Parameters of ready-made circuits, checked before anything is built."""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

from neurocompile.errors import NeurocompileError

__all__ = ["MOST", "real", "whole"]

MOST = 1 << 20
"""Of a size, and of steps: far beyond what a chip holds, far below what memory does."""


def whole(
    name: str, value: SupportsIndex, least: int = 1, most: int = MOST, code: str = "NC2011"
) -> int:
    """``value`` if it is a whole number in ``least``..``most``; one line with ``code`` otherwise."""
    try:
        found = operator.index(value)
    except TypeError:
        found = least - 1
    if not least <= found <= most:
        raise NeurocompileError(
            code, f"{name} is {_short(value)}; a whole number from {least:,} to {most:,} is needed"
        )
    return found


def real(name: str, value: float, code: str = "NC2011") -> float:
    """``value`` if it is a finite number above 0; one line with ``code`` otherwise."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise NeurocompileError(
            code, f"{name} is {_short(value)}; a finite number above 0 is needed"
        )
    return found


def _short(value: object) -> str:
    return " ".join(str(value).split())[:40]
