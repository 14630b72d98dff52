"""Weights of circuits in the bits of a narrower synapse, exactly: the same sums, over more synapses
where one is too small.

What the quantizer makes has the bits that it was asked for. The circuits around it (gates,
constants, closed loops) use weights of up to 8 bits: those that are few bits times a power of two
only say so, and of a strided pattern the others become several patterns whose weights add up. What
cannot be split stays as it is, and is refused (NC3113).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from neurocompile.ir import circuit as c
from neurocompile.ir.circuit_rules import IS_SCHEDULED
from neurocompile.ir.significance import bits_needed, values_of
from neurocompile.passes.base import CircuitPass

__all__ = ["NarrowWeights", "narrow_weights"]


def narrow_weights(circuit: c.CircuitGraph, bits: int) -> c.CircuitGraph:
    """The circuit with synapses of at most ``bits`` (>= 1) bits, wherever that is exact; itself if
    all are.
    """
    return NarrowWeights(bits)(circuit)


@dataclass(frozen=True)
class NarrowWeights(CircuitPass):
    """Requires a scheduled circuit, for its relays have weights too. Ensures the bits wherever that
    is exact."""

    name: ClassVar[str] = "narrow-weights"
    requires = (IS_SCHEDULED,)

    bits: int

    def apply(self, circuit: c.CircuitGraph) -> c.CircuitGraph:
        if all(q.weight_bits <= self.bits for q in circuit.projections):
            return circuit
        taken = {p.name for p in circuit.populations} | {q.name for q in circuit.projections}
        found = tuple(
            part for q in circuit.projections for part in _narrowed(circuit, q, self.bits, taken)
        )
        return circuit.replace(projections=found)


def _narrowed(
    circuit: c.CircuitGraph, q: c.Projection, bits: int, taken: set[str]
) -> Iterator[c.Projection]:
    if q.weight_bits <= bits:
        yield q
    elif bits_needed(values_of(circuit, q), q.sign) <= bits:
        yield replace(q, weight_bits=bits)
    elif isinstance(q, c.Strided) and q.sign != "mixed" and q.weight_exp >= 0:
        for i, weight in enumerate(_parts(q.weight, bits)):
            name = (
                q.name
                if not i
                else next(
                    n
                    for n in (f"{q.name}.part{k}" for k in range(i, len(taken) + 9))
                    if n not in taken
                )
            )
            taken.add(name)
            yield replace(q, name=name, weight=weight, weight_bits=bits)
    else:
        yield q


def _parts(weight: int, bits: int) -> Iterator[int]:
    """Numbers of ``bits`` bits times a power of two that add up to ``weight``, the largest first."""
    rest, sign = abs(weight), 1 if weight > 0 else -1
    while rest:
        drop = max(rest.bit_length() - bits, 0)
        yield sign * (rest >> drop << drop)
        rest &= (1 << drop) - 1
