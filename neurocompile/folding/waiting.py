"""Lines of relays: how a message arrives later than a synapse can bring it.

Spikes wait in synapses and need a relay for each longest delay. Graded messages wait a step at a
time (or what the target carries); those that wait long become binary digits, which wait as spikes:
the sign, then the bits from the highest on, each a comparator that sees what is left of the value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from neurocompile.circuits.builder import strided
from neurocompile.errors import NeurocompileError
from neurocompile.folding.slots import Unfoldable
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL

if TYPE_CHECKING:
    from neurocompile.folding.net import Net

__all__ = ["Lines"]

_SPIKES = {"vth": 0, "dv": ALL}
_COMPARED = 16
"""Binary digits of a value, without its sign, that a neuron's input surely holds."""


class Lines:
    """One line a source, which all its readers share.

    Args:
        net: all populations are there.
        reads: (source, steps from its emission to the arrival).
    """

    def __init__(self, net: Net, reads: Iterable[tuple[str, int]]) -> None:
        self.net = net
        self._layer = {p.name: p.layer for p in net.builder.populations}
        kept = {p.name for p in net.builder.populations}
        self._line = {
            src: [n for n in line if n in kept] for src, line in net.relays.items() if src in kept
        }
        self._bits: dict[str, list[tuple[str, int]]] = {}
        self._sums: dict[tuple[str, int], str] = {}
        steps: dict[str, set[int]] = {}
        for src, n in reads:
            steps.setdefault(src, set()).add(n)
        self._late = {
            src: late for src, found in steps.items() if (late := self._worth(src, found))
        }

    def _worth(self, src: str, steps: set[int]) -> int:
        """From how many steps on ``src`` waits in digits; 0: never."""
        net = self.net
        bounds = net.bounds.get(src)
        if bounds is None or net.reach.graded > 1 or issubclass(net.kind[src], c.LIF):
            return 0
        bits = _width(bounds)
        first = bits + 3 + (bounds[0] < 0)
        late = [n for n in steps if n >= first]
        if not late:
            return 0
        lines = bits * (max(late) // net.reach.spike)
        made = (
            2 * bits + 1 + lines + len(late) + max((n for n in steps if n < first), default=1) - 1
        )
        return first if made < max(late) - 1 else 0

    def after(self, src: str, steps: int) -> tuple[str, int]:
        """(population, delay) from which ``src`` arrives ``steps`` steps later."""
        net = self.net
        if steps < 1:
            raise NeurocompileError("NC9001", f"population '{src}' is read {steps} steps later")
        late = self._late.get(src)
        if late and steps >= late:
            return self._sum(src, steps), 1
        spiking = issubclass(net.kind[src], c.LIF)
        reach = net.reach.spike if spiking else net.reach.graded
        if steps > reach and issubclass(net.kind[src], c.HostInput):
            raise Unfoldable(f"the host's input '{src}' would have to wait {steps} steps")
        line = self._line.setdefault(src, [src])
        while len(line) * reach < steps:
            k = len(line)
            kind = c.LIF if spiking else c.GradedRelay
            fields = _SPIKES if spiking else {}
            name = self._beside(src, f"{src}.wait{k}", kind, k * reach, **fields)
            self._join(line[-1], name, 1, reach)
            line.append(name)
        waits = (steps - 1) // reach
        return line[waits], steps - waits * reach

    def _beside(
        self, src: str, name: str, kind: type[c.Population], steps: int, **fields: int
    ) -> str:
        """A population like ``src`` that emits ``steps`` steps later."""
        net, layer = self.net, self._layer[src]
        made = net.population(
            kind, name, net.shape[src], layer, net.depth[src] + steps, net.slots[src], **fields
        )
        self._layer[made] = layer
        return made

    def _join(self, src: str, dst: str, weight: int = 1, delay: int = 1) -> None:
        size = prod(self.net.shape[src])
        sign = 1 if weight > 0 else -1
        for term in self.net.builder.terms(abs(weight)):
            q = strided(src, (size,), (1,), (1,), weight=sign * term)
            self.net.joined(q, dst, delay)

    def _sum(self, src: str, steps: int) -> str:
        """The value again, put together one step before it is read."""
        key = src, steps
        if key not in self._sums:
            if src not in self._bits:
                self._bits[src] = self._digits(src)
            low, high = self.net.bounds[src]
            largest = max(high, -low)
            name = self._beside(
                src, f"{src}.after{steps}", c.GradedRelay, steps - 1, largest=largest
            )
            for bit, weight in self._bits[src]:
                wait = self.net.depth[name] - self.net.depth[bit]
                self._join_after(bit, wait, name, weight)
            self._sums[key] = name
        return self._sums[key]

    def _join_after(self, src: str, steps: int, dst: str, weight: int) -> None:
        at, delay = self.after(src, steps)
        self._join(at, dst, weight, delay)

    def _digits(self, src: str) -> list[tuple[str, int]]:
        """(population, weight) of the digits of ``src``; what no neuron could compare in one piece
        is cut into a high and a low part first.
        """
        low, high = self.net.bounds[src]
        bits = _width((low, high))
        if bits <= _COMPARED:
            return self._digits_of(src, src, 0, (low, high), 0)
        cut = bits - _COMPARED
        largest = max(high, -low)
        upper = self._beside(src, f"{src}.upper", c.GradedRelay, 1, largest=-(-largest >> cut))
        size = prod(self.net.shape[src])
        q = replace(strided(src, (size,), (1,), (1,)), weight_exp=-cut)
        self.net.joined(q, upper, 1)
        copy = self._beside(src, f"{src}.whole", c.GradedRelay, 1, largest=largest)
        self._join(src, copy)
        lower = self._beside(src, f"{src}.lower", c.GradedRelay, 2, largest=(1 << cut) - 1)
        self._join(copy, lower)
        self._join(upper, lower, -(1 << cut))
        return [
            *self._digits_of(src, upper, 1, (low >> cut, high >> cut), cut),
            *self._digits_of(src, lower, 2, (0, (1 << cut) - 1), 0),
        ]

    def _digits_of(
        self, src: str, value: str, at: int, bounds: tuple[int, int], scale: int
    ) -> list[tuple[str, int]]:
        """Of ``value``, which emits ``at`` steps after ``src``, times 2^``scale``."""
        low, high = bounds
        bits = _width(bounds)
        rest: list[tuple[str, int]] = [(value, 1)]
        found: list[tuple[str, int]] = []
        if low < 0:
            sign = self._beside(src, f"{src}.sign", c.LIF, at + 1, **_SPIKES)
            self._join(value, sign, -1)
            largest = max(high, -low)
            copy = self._beside(src, f"{src}.copy", c.GradedRelay, at + 1, largest=largest)
            self._join(value, copy)
            # in a relay of its own, whose bound is known: both together would not fit a LIF
            largest = (1 << bits) - 1
            lifted = self._beside(src, f"{src}.lifted", c.GradedRelay, at + 2, largest=largest)
            self._join(copy, lifted)
            self._join(sign, lifted, 1 << bits)
            rest, found, at = [(lifted, 1)], [(sign, -(1 << bits + scale))], at + 2
        for j in range(bits - 1, -1, -1):
            at += 1
            name = f"{src}.bit{j + scale}"
            made = [self._beside(src, name, c.LIF, at, vth=(1 << j) - 1, dv=ALL)]
            if j:
                name = f"{src}.rest{j + scale}"
                made.append(self._beside(src, name, c.GradedRelay, at, largest=(2 << j) - 1))
            for population in made:
                for term, weight in rest:
                    self._join(term, population, weight)
            found.append((made[0], 1 << j + scale))
            rest = [(made[-1], 1), (made[0], -(1 << j))]
        return found


def _width(bounds: tuple[int, int]) -> int:
    """Binary digits of a value without its sign: -2^n..2^n - 1."""
    low, high = bounds
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1)
