"""The points of a sweep: which T, bits, folds and targets a model is built for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import msgspec

from neurocompile.errors import NeurocompileError, shown
from neurocompile.options import BuildOptions

__all__ = ["Integers", "Point", "points_of"]

_MOST = 100_000
"""Points of one sweep."""


class Integers(msgspec.Struct, frozen=True, order=True):
    """What decides the integers of a model, and so its accuracy and spikes."""

    target: str
    T: int
    bits: int

    @property
    def name(self) -> str:
        """Of its record's file."""
        return f"{_plain(self.target)}-T{self.T}-{self.bits}bit"


class Point(msgspec.Struct, frozen=True, order=True):
    """One build: integers, and a fold in time (``none``, ``auto`` or rows x columns)."""

    integers: Integers
    fold: str

    @property
    def name(self) -> str:
        """Of its record's file."""
        return f"{self.integers.name}-{self.fold}"


def _plain(target: str) -> str:
    """A name for files; targets may be paths."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", target).strip("_.") or "target"


def points_of(
    targets: Sequence[str] | str,
    steps: Sequence[int] | int,
    bits: Sequence[int] | int,
    folds: Sequence[str] | str,
) -> list[Point]:
    """Every combination, each once, in the order given.

    Raises:
        NeurocompileError: NC1007 (T), NC2003 (bits), NC3001 (target), NC1015 (fold, or none or too
            many of them).
    """
    axes = [
        _values(name, given)
        for name, given in (
            ("target", targets),
            ("T", steps),
            ("weight_bits", bits),
            ("fold", folds),
        )
    ]
    total = len(axes[0]) * len(axes[1]) * len(axes[2]) * len(axes[3])
    if total > _MOST:
        raise NeurocompileError(
            "NC1015", f"the sweep has {total:,} points; at most {_MOST:,} are possible"
        )
    return [Point(Integers(target, T, b), fold) for target, T, b, fold in product(*axes)]


def _values(name: str, given: Any) -> list[Any]:
    """The distinct values of one axis, checked as a build's option of that ``name`` is."""
    if isinstance(given, (str, int)):
        given = [given]
    if not isinstance(given, Iterable):
        raise NeurocompileError("NC1015", f"{name} is {shown(given)}; a sequence is needed")
    found = list(dict.fromkeys(getattr(BuildOptions(**{name: one}), name) for one in given))
    if not found or None in found:
        raise NeurocompileError("NC1015", f"{name} of a sweep is {shown(given)}; values are needed")
    return found
