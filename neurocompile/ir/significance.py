"""How many bits a projection's weights need, and what a synapse of fewer bits can hold of them."""

from __future__ import annotations

import numpy as np

from neurocompile.ir import circuit as c

__all__ = ["bits_needed", "values_of"]


def values_of(graph: c.CircuitGraph, projection: c.Projection) -> np.ndarray:
    """The weights, integers: one of a Strided projection."""
    weight = graph.weight(projection)
    return np.asarray([projection.weight]) if weight is None else weight  # type: ignore[attr-defined]


def bits_needed(values: np.ndarray, sign: str) -> int:
    """Least bits of a synapse that holds each of ``values``, up to a power of two common to all;
    sign included if mixed.

    Backends store weights aligned to the top of their field and lower the exponent by as much, so
    240 of one sign needs 4 bits: 15 and an exponent.
    """
    union = (
        int(np.bitwise_or.reduce(np.abs(values.astype(np.int64)), axis=None)) if values.size else 0
    )
    if not union:
        return 2 if sign == "mixed" else 1
    unit = union & -union
    low, high = int(values.min(initial=0)) // unit, int(values.max(initial=0)) // unit
    if sign == "mixed":
        return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1
    return max(-low, high).bit_length()
