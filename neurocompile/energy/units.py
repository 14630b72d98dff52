"""Energies as text."""

from __future__ import annotations

__all__ = ["joule"]


def joule(pj: float | None) -> str:
    """An energy in readable units."""
    if pj is None:
        return "unknown"
    for unit, size in (("mJ", 1e9), ("uJ", 1e6), ("nJ", 1e3)):
        if pj >= size:
            return f"{pj / size:,.3f} {unit}"
    return f"{pj:,.1f} pJ"
