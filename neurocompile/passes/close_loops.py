"""Keep samples apart in recurrent loops: nothing of one sample may reach the next.

Samples follow each other without a pause (period = T), so a loop would carry the last step of a
sample into the first of the next one. Neurons that can be reset (LIF) forget their state, but what
is on its way arrives after the reset. So every population that feeds a loop gets a copy with the
same inputs that only the loop reads, and the copy is silent in the last step of a sample. The
original, which the rest of the circuit reads, is not touched.

Silence is inhibition: a copy receives ``-M`` from an always-on neuron and ``+M`` from the neuron
*open*, M being the largest sum of its inputs. A spike or a rectified value below zero is silent; a
signed graded value therefore travels as two rectified ones, its positive and its negative part.
``open`` fires in steps 0 .. T-2::

    on     LIF, bias 1, threshold 0, reset      fires in every step
    clock  LIF, bias 2^6, threshold T-1, reset  fires in step T-1
    open   LIF, du = 0, reset; on - K clock     its current grows by 1 a step until the clock makes it negative for good

All three are one neuron each, whatever the size of the circuit. ``open`` has depth 1 and its spikes
wait in synapses as any others do, so before the first sample arrives at a population no ``+M`` has
arrived either: the loop starts closed, too. In the very first step not even ``-M`` has arrived; a
copy whose bias alone makes it fire gets that part of its bias from ``open`` instead.

The alternative, an idle step between samples in which the originals themselves are silenced, saves
the copies but costs a step of T, and a factor of 2 in throughput where periods are powers of two;
copies cost the neurons of loops only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurocompile.circuits.builder import strided, terms
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.circuit_ranges import Reach, reaches
from neurocompile.ir.circuit_rules import IS_UNSCHEDULED, PRIVATE_LOOPS
from neurocompile.ir.fields import ALL, BIAS_EXPONENT, INSTANT, MIXED
from neurocompile.ir.text import Ref, TensorRef, unique_name
from neurocompile.passes.base import CircuitPass
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["CloseLoops", "close_loops"]

_SPARE = 8
"""Steps by which the clock outweighs what ``open`` counted."""


def close_loops(
    circuit: c.CircuitGraph, period: int, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """The circuit with its recurrent projections read from copies that are silent in the last step
    of a sample.

    Raises NC2010 where a loop's range leaves no room for the inhibition.
    """
    return CloseLoops(period, fields)(circuit)


@dataclass(frozen=True)
class CloseLoops(CircuitPass):
    """Requires a circuit without depths. Ensures that nothing but loops reads what loops read; it is
    the circuit itself where there are none."""

    name: ClassVar[str] = "close-loops"
    requires = (IS_UNSCHEDULED,)
    ensures = (PRIVATE_LOOPS,)

    period: int
    """Steps between two samples."""
    fields: ChipFields = LOIHI2
    """Of the chip that the loops run on."""

    def apply(self, circuit: c.CircuitGraph) -> c.CircuitGraph:
        if not any(q.recurrent for q in circuit.projections):
            return circuit
        most = min(self.fields.threshold, self.fields.current - _SPARE)
        if self.period > most:
            raise NeurocompileError(
                "NC2010", f"a loop's clock counts to {most:,} steps, the period is {self.period:,}"
            )
        return _Closing(circuit, self.period, self.fields).run()


class _Closing:
    def __init__(self, circuit: c.CircuitGraph, period: int, fields: ChipFields) -> None:
        self.circuit, self.period, self.fields = circuit, period, fields
        self.taken = {p.name for p in circuit.populations} | {q.name for q in circuit.projections}
        self.tensors = dict(circuit.tensors)
        self.populations: list[c.Population] = []
        self.projections: list[c.Projection] = []
        self.reach = reaches(circuit)
        self.layer = next(
            circuit.population[q.src].layer for q in circuit.projections if q.recurrent
        )

    def name(self, wanted: str) -> str:
        name = unique_name(wanted, self.taken.__contains__)
        self.taken.add(name)
        return name

    def run(self) -> c.CircuitGraph:
        circuit = self.circuit
        sources = [
            p
            for p in circuit.populations
            if any(q.recurrent and q.src == p.name for q in circuit.projections)
        ]
        read = {r.src for r in circuit.readouts} | {v.src for v in circuit.views}
        read |= {q.src for q in circuit.projections if not q.recurrent}
        self.always, self.open = self.neuron("always", vth=0, bias=1), self.gate()
        copies = {p.name: self.copies(p) for p in sources}
        dropped = {
            p.name for p in sources if p.name not in read
        }  # only loops read them: the copies take their place
        for p in circuit.populations:
            if p.name not in dropped:
                self.populations.append(p)
                for q in circuit.incoming[p.name]:
                    self.projections += self.rewired(q, p.name, 1, copies)
        for p in sources:
            for copy, sign, inhibition, moved in copies[p.name]:
                for q in circuit.incoming[p.name]:
                    self.projections += self.rewired(q, copy.name, sign, copies)
                for src, total, factor in (
                    (self.always, inhibition, -1),
                    (self.open, inhibition + moved, 1),
                ):
                    for weight in terms(total, self.fields):
                        self.connect(src, copy, factor * weight)
                self.populations.append(copy)
        return circuit.replace(
            populations=tuple(self.populations),
            projections=tuple(self.projections),
            tensors=self.tensors,
        )

    def rewired(
        self,
        q: c.Projection,
        dst: str,
        sign: int,
        copies: dict[str, list[tuple[c.Population, int, int, int]]],
    ) -> Iterator[c.Projection]:
        """``q`` to ``dst``, times ``sign``; a recurrent one from each copy of its source."""
        ends = [(copy.name, s) for copy, s, _, _ in copies[q.src]] if q.recurrent else [(q.src, 1)]
        for src, part in ends:
            moved = q if part * sign == 1 else self.negated(q)
            name = q.name if (src, dst) == (q.src, q.dst) else self.name(f"{src}>{dst}")
            yield replace(moved, name=name, src=Ref(src), dst=Ref(dst))

    def copies(self, p: c.Population) -> list[tuple[c.Population, int, int, int]]:
        """(copy, sign, inhibition that silences it, part of its bias that comes with ``open``)."""
        reach = self.reach[p.name]
        if isinstance(p, c.LIF):
            bias = 0 if p.bias is None else int(self.tensors[p.bias].max()) << p.bias_exp
            excess = max(-(-reach.membrane >> 6), reach.forward - (-bias >> 6)) - p.vth
            copy, moved = self.quiet(replace(p, name=self.name(f"{p.name}.loop")), bias)
            inhibition = self.lasting(p, reach, bias - (moved << 6), max(excess, 1))
            self.check_current(p, reach, inhibition)
            return [(copy, 1, inhibition, moved)]
        found = [
            (replace(p, name=self.name(f"{p.name}.loop")), 1, max(reach.high, reach.forward, 1), 0)
        ]
        if isinstance(p, c.GradedRelay):
            fields: dict[str, Any] = {"shape": p.shape, "layer": p.layer, "largest": p.largest}
            plus, minus = (
                c.GradedRelu(name=self.name(f"{p.name}.loop.{part}"), **fields)
                for part in ("plus", "minus")
            )
            found = [(plus, 1, found[0][2], 0), (minus, -1, max(-reach.low, 1), 0)]
        for _, _, inhibition, _ in found:
            if inhibition > self.fields.held:
                raise NeurocompileError(
                    "NC2010",
                    f"'{p.name}' feeds a loop with values up to {inhibition:,}; inhibition reaches {self.fields.held:,}",
                    layer=p.layer,
                )
        return found

    def lasting(self, p: c.LIF, reach: Reach, bias: int, least: int) -> int:
        """``least``, which keeps ``p`` silent in the last step of a sample, or what also does where
        idle steps follow: a bias, and what arrives late, go on adding up until the reset.
        """
        idle = self.period - self.circuit.steps
        if not idle:
            return least
        low, high = least, least
        steps = self.circuit.steps
        while not _stays_silent(p, reach, bias, high, steps, idle):
            low, high = high, 2 * high
        while low < high:
            middle = (low + high) // 2
            if _stays_silent(p, reach, bias, middle, steps, idle):
                high = middle
            else:
                low = middle + 1
        return high

    def quiet(self, p: c.LIF, bias: int) -> tuple[c.LIF, int]:
        """``p`` with so much less bias that it does not fire on its own, and what is missing, in
        input units.
        """
        missing = max(-((p.vth << 6) - bias >> 6), 0)
        missing += missing % 2 if p.bias_exp == BIAS_EXPONENT else 0
        if not missing or p.bias is None:
            return p, 0
        if p.du != INSTANT:
            if p.largest:  # intervals cover what it does in the first step, a bound by hand may not
                raise NeurocompileError(
                    "NC2010",
                    f"'{p.name}' feeds a loop, keeps its current and fires by its bias alone",
                    layer=p.layer,
                )
            return p, 0
        mantissa, exponent = self.tensors[p.bias].astype(np.int64), p.bias_exp
        mantissa -= (missing << 6) >> exponent
        while (  # the same bias in a coarser unit, where it is whole numbers of it
            mantissa.min() < -self.fields.mantissa - 1
            and exponent < self.fields.bias_exponent
            and not (mantissa % 2).any()
        ):
            mantissa, exponent = mantissa >> 1, exponent + 1
        if mantissa.min() < -self.fields.mantissa - 1:
            raise NeurocompileError(
                "NC2010",
                f"'{p.name}' feeds a loop with biases from {mantissa.min():,} to {bias:,}",
                layer=p.layer,
            )
        name = TensorRef(f"{p.name}.bias")
        self.tensors[name] = mantissa.astype(np.int16)
        return replace(p, bias=name, bias_exp=exponent), missing

    def check_current(self, p: c.LIF, reach: Reach, inhibition: int) -> None:
        """The closed copy's current may not wrap, even if it stays closed for a period."""
        kept = (INSTANT - p.du) / ALL
        steps = (1 - kept**self.period) / (1 - kept)
        most = self.fields.current
        if (inhibition - min(reach.low, 0)) * steps > most or reach.high * steps > most:
            raise NeurocompileError(
                "NC2010",
                f"'{p.name}' feeds a loop with a current of up to {max(reach.high, inhibition - reach.low):,} a step; "
                f"{int(most / steps):,} is the limit",
                layer=p.layer,
            )

    def negated(self, q: c.Projection) -> c.Projection:
        sign = {"excitatory": "inhibitory", "inhibitory": "excitatory", "mixed": "mixed"}[q.sign]
        if isinstance(q, c.Strided):
            return replace(q, weight=-q.weight, sign=sign)
        weight = self.circuit.weight(q)
        assert weight is not None
        if q.sign == "mixed" and weight.min(initial=0) < -MIXED[1]:
            raise NeurocompileError(
                "NC2010",
                f"projection '{q.name}' has weight {MIXED[0]}, and its negative does not fit; use {-MIXED[1]}",
            )
        name = TensorRef(f"{q.weight}.negated")  # type: ignore[attr-defined]
        self.tensors[name] = -weight
        return replace(q, weight=name, sign=sign)  # type: ignore[call-arg]

    def neuron(self, wanted: str, bias: int = 0, **fields: int | bool) -> c.LIF:
        """One LIF neuron of the closing circuit."""
        name = self.name(f"loop.{wanted}")
        tensor = None
        if bias:
            tensor = TensorRef(unique_name(f"{name}.bias", self.tensors.__contains__))
            self.tensors[tensor] = np.full(1, bias, np.int16)
        lif = c.LIF(name=name, shape=(1,), layer=self.layer, bias=tensor, **fields)  # type: ignore[arg-type]
        self.populations.append(lif)
        return lif

    def gate(self) -> c.LIF:
        """The neuron that fires in all but the last step of a sample."""
        on = self.neuron("on", vth=0, bias=1, reset=True)
        clock = self.neuron("clock", vth=self.circuit.steps - 1, bias=1 << 6, reset=True)
        gate = self.neuron("open", vth=0, du=0, reset=True)
        self.connect(on, gate, 1)
        for weight in terms(self.period + _SPARE, self.fields):
            self.connect(clock, gate, -weight)
        return gate

    def connect(self, src: c.Population, dst: c.Population, weight: int) -> None:
        """From one neuron to all of ``dst``."""
        q = strided(src.name, (dst.size,), (0,), (1,), weight=weight)
        self.projections.append(
            replace(q, name=self.name(f"{src.name}>{dst.name}"), dst=Ref(dst.name))
        )


def _stays_silent(
    p: c.LIF, reach: Reach, bias: int, inhibition: int, steps: int, idle: int
) -> bool:
    """Whether ``p``, closed by so much, stays at or below its threshold in the idle steps after a
    sample, and in a period before the first one, whose first step is not closed yet.
    """
    top, kept, opened = p.vth << 6, INSTANT - p.du, 0
    for _ in range(steps):  # the largest current of a sample that began at a reset
        last, opened = opened, (opened * kept >> 12) + (reach.high << 6)
        if opened == last:
            break
    closed = reach.high - inhibition << 6
    begins = (
        (idle, opened - (inhibition << 6), min(reach.membrane - (inhibition << 6), top)),
        (steps + idle - 1, 0, min(bias, top)),
    )
    for count, u, v in begins:
        for _ in range(count):
            before = u, v
            u = (max(u, 0) * kept >> 12) + closed
            v = (max(v, 0) * (ALL - p.dv) >> 12) + u + bias
            if v > top:
                return False
            if u <= before[0] and v <= before[1]:
                break  # it only falls from here on
    return True
