"""A residual of many layers' spikes as the binary digits of their sum.

Each layer that adds to a residual is a line of its own, which waits wherever the residual waits. The
sum of n spikes has ceil(log2(n + 1)) digits: fewer lines, for one comparator and one relay a digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurocompile.circuits.builder import strided
from neurocompile.folding.slots import Slots, Unfoldable
from neurocompile.folding.values import Part, Spikes
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL

if TYPE_CHECKING:
    from neurocompile.folding.gathering import Reading
    from neurocompile.folding.lower import Lowering

__all__ = ["residual_digits"]


def residual_digits(
    low: Lowering,
    node: s.Add,
    shape: tuple[int, int, int],
    scale: tuple[int, int],
    parts: tuple[Part, ...],
) -> tuple[Part, ...] | None:
    """The digits of the sum of ``parts``, the highest first; None where too few lines are saved, or
    no schedule reads all parts."""
    digits = sum(part.weight for part in parts).bit_length()
    if not low.saved or len(parts) - digits < low.saved:
        return None
    base = Spikes(node.name, shape, scale, parts)
    suspect = low.suspect
    for reader in low.schedules.candidates(shape[:2], scale, low.schedules.is_wide(node)):
        try:
            reading = low.reading(base, reader)
        except Unfoldable:
            continue
        if any(found.stray for _, found in reading.plans):
            continue
        low.suspect = suspect
        return _digits(low, node, reading, reader, shape[2], digits)
    low.suspect = suspect
    return None


def _digits(
    low: Lowering, node: s.Add, reading: Reading, reader: Slots, channels: int, digits: int
) -> tuple[Part, ...]:
    net, layer = low.net, low.layer(node)
    lanes = (*reader.lanes, channels)
    size = lanes[0] * lanes[1] * channels
    depth = net.need(reading.sources())
    found: list[Part] = []
    rest: list[tuple[str, int]] = []
    for j in range(digits - 1, -1, -1):
        bit = net.population(
            c.LIF,
            f"{node.name}.digit{j}",
            lanes,
            layer,
            depth,
            reader.digits,
            vth=(1 << j) - 1,
            dv=ALL,
        )
        made = [bit]
        if j:
            made.append(
                net.population(
                    c.GradedRelay, f"{node.name}.left{j}", lanes, layer, depth, reader.digits
                )
            )
        for population in made:
            if not rest:
                for part, found_plan in reading.plans:
                    low.carry(part, found_plan, population, lanes[1], channels)
            for name, weight in rest:
                sign = 1 if weight > 0 else -1
                for term in net.builder.terms(abs(weight)):
                    q = strided(name, (size,), (1,), (1,), weight=sign * term)
                    net.drive(population, [q])
        low.schedules.own(bit, node.name)
        found.append(Part(bit, reader, 1 << j))
        rest = [(made[-1], 1), (bit, -(1 << j))]
        depth += 1
    return tuple(found)
