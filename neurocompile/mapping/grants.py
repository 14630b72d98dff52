"""How many messages a core may send in a step: one number for all cores, or one for each layer.

By layer, a number is what a core may send that holds nothing else; of several layers each takes its
part of the core: the sum of messages / grant over its tiles is at most 1. A layer without a number
sends freely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Mapping as Table
from typing import TypeAlias

import numpy as np

from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping.tile import Tile

__all__ = ["Grants", "granted", "parts_used", "times"]

Grants: TypeAlias = float | Table[str, float]


def granted(grants: Grants | None, layer: str) -> float:
    """Messages that a core of nothing but ``layer`` may send in a step; inf without a limit."""
    if grants is None:
        return math.inf
    return grants.get(layer, math.inf) if isinstance(grants, Table) else grants


def times(grants: Grants, factor: float) -> Grants:
    """``factor`` times as many messages."""
    if isinstance(grants, Table):
        return {layer: most * factor for layer, most in grants.items()}
    return grants * factor


def parts_used(
    circuit: CircuitGraph, cores: Iterable[Iterable[Tile]], rates: Table[str, float], grants: Grants
) -> np.ndarray:
    """Of what each core may send, the part that its tiles are expected to: float64 (cores)."""
    each = {
        p.name: rates.get(p.name, 1.0) / max(granted(grants, p.layer), 1e-300)
        for p in circuit.populations
    }
    return np.array([sum(each[t.population] * t.size for t in tiles) for tiles in cores], float)
