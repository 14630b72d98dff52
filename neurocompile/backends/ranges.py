"""What values of a circuit can reach: interval arithmetic over the integers that the emulator holds.

Unlike :mod:`neurocompile.ir.circuit_ranges`, it bounds what is stored from the weights alone, for
populations outside of loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    GradedRelay,
    GradedRelu,
    HostInput,
    Population,
    Strided,
)
from neurocompile.ir.tables import KindTable

__all__ = ["ANY", "NARROW", "Range", "ranges", "tied"]

NARROW = 1 << 24
"""Inputs up to here leave a current in int32."""
Range = tuple[int, int]
ANY: Range = (-(1 << 31), (1 << 31) - 1)
"""What is not bounded, or could wrap around."""


def ranges(
    circuit: CircuitGraph, gains: Mapping[str, Range]
) -> tuple[dict[str, Range], dict[str, Range]]:
    """Interval arithmetic over populations outside of loops; it trusts no one's claims."""
    reach: dict[str, Range] = {}
    inputs: dict[str, Range] = {}
    for group in circuit.groups:
        looped = tied(circuit, group)
        for p in group:
            if looped:
                reach[p.name] = (0, 1) if isinstance(p, LIF) else ANY
        for p in group:
            low = high = 0
            for q in circuit.incoming[p.name]:
                least, most = reach[q.src]
                if isinstance(q, Strided):
                    times = prod(n for n, s in zip(q.sizes, q.dst_strides) if s == 0)
                    gain = times * q.weight << max(q.weight_exp, 0)
                    negative, positive = min(gain, 0), max(gain, 0)
                else:
                    negative, positive = gains[q.name]
                least, most = min(least, 0), max(most, 0)  # borders, and nothing
                low += positive * least + negative * most
                high += positive * most + negative * least
            inputs[p.name] = (low, high) if ANY[0] <= low and high <= ANY[1] else ANY
            if not looped:
                reach[p.name] = SENT.of(p)(circuit, p, inputs[p.name])
    return reach, inputs


SENT: KindTable[Callable[[CircuitGraph, Any, Range], Range]] = KindTable(
    "emulated values", ("population",), "what it sends for sums within a range"
)
SENT.add(lambda circuit, p, total: (0, 1), LIF)
SENT.add(lambda circuit, p, total: total, GradedRelay)
SENT.add(lambda circuit, p, total: (0, max(total[1], 0)), GradedRelu)


@SENT.rule(HostInput)
def _host(circuit: CircuitGraph, p: HostInput, total: Range) -> Range:
    if p.pattern is not None:
        table = circuit.tensors[p.pattern]
        return min(int(table.min(initial=0)), 0), max(int(table.max(initial=0)), 0)
    return min(p.low, 0), max(p.high, 0)


def tied(circuit: CircuitGraph, group: tuple[Population, ...]) -> bool:
    """Whether a loop or a memory ties the populations of a group together."""
    return len(group) > 1 or any(
        q.recurrent or q.src == group[0].name for q in circuit.incoming[group[0].name]
    )
