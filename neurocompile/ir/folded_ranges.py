"""Interval arithmetic on a circuit folded in time.

A population that is closed outside of its slots (``-M`` from a constant, ``M`` from a clock) has
the two cancel in its own windows and hears ``-M`` alone in all others, where whatever else reaches
it is silent. So the gate is no term of the sum: the least input is the smaller of both. Memories
carry their bounds (:attr:`Population.largest`): what goes round in them is a sum over windows.
"""

from __future__ import annotations

from neurocompile.ir import circuit as c

__all__ = ["clocks", "gates"]


def clocks(circuit: c.CircuitGraph) -> set[str]:
    """Populations that carry the host's patterns: sent by it, relays of these, or made of its tick
    on the chip."""
    found = {p.name for p in circuit.inputs if p.pattern is not None}
    for p in circuit.populations:  # by depth: sources first
        sources = {q.src for q in circuit.incoming[p.name] if q.src != p.name}
        if sources and found.issuperset(sources) and isinstance(p, c.LIF) and not p.reset:
            found.add(p.name)
    return found


def gates(circuit: c.CircuitGraph) -> dict[str, int]:
    """M of every population that a constant closes and a clock opens."""
    if circuit.windows == 1:
        return {}
    clock = clocks(circuit)
    found: dict[str, int] = {}
    for p in circuit.populations:
        opened = closed = 0
        for q in circuit.incoming[p.name]:
            if not isinstance(q, c.Strided) or q.weight_exp < 0:
                continue  # a coarser unit is no gate
            weight = q.weight << q.weight_exp
            if q.src in clock and weight > 0:
                opened += weight
            elif weight < 0 and c.is_constant(circuit, circuit.population[q.src]):
                closed -= weight
        if opened and closed >= opened and p.name not in clock:
            found[p.name] = opened
    return found
