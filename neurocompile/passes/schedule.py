"""Give every population a depth and every projection the delay that balances its paths.

Depth is the longest path from the input, one step a projection. A projection that skips steps
waits: by its synaptic delay, up to the target's limit (of graded messages one step, unless the target
says that they may be delayed), and a longer one in a line of relays that all its consumers share:
neurons that repeat a spike after the longest delay, graded relays that repeat a value. Populations that recurrent
projections tie together share one depth, the largest of theirs; a recurrent projection takes one
step from any depth to itself. A projection with an advance adds that to the depth of its
destination. Populations that the host does not reach (clocks) are as deep as those that read them
allow, so that their spikes do not wait for long; graded relays that only spikes reach, as deep as
readers and the longest delay of a spike allow, for what they add up to waits in neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.circuit_rules import IS_SCHEDULED, IS_UNSCHEDULED, PRIVATE_LOOPS
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref
from neurocompile.passes.base import CircuitPass
from neurocompile.passes.close_loops import CloseLoops
from neurocompile.passes.pack_relays import packed
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["Schedule", "period_for", "schedule"]


def period_for(steps: int, power_of_two: bool) -> int:
    """Steps between two samples: T, rounded up to a power of two where the target's periodic reset
    needs one.
    """
    return 1 << (steps - 1).bit_length() if power_of_two else steps


def schedule(
    circuit: c.CircuitGraph,
    *,
    max_spike_delay: int,
    power_of_two_period: bool,
    graded_delay: int = 1,
) -> c.CircuitGraph:
    """The circuit with depths, delays, relays and its period: :class:`Schedule` by its options."""
    return Schedule(max_spike_delay, power_of_two_period, graded_delay)(circuit)


@dataclass(frozen=True)
class Schedule(CircuitPass):
    """Requires a circuit without depths. Ensures depths, delays, relays, a period, and closed
    loops."""

    name: ClassVar[str] = "schedule"
    requires = (IS_UNSCHEDULED,)
    ensures = (IS_SCHEDULED, PRIVATE_LOOPS)

    max_spike_delay: int
    """Longest delay of a spiking connection, in steps from emission to arrival (>= 1).
    """
    power_of_two_period: bool
    """The target resets neurons only every 2^k steps."""
    graded_delay: int = 1
    """Longest delay of a graded connection."""
    fields: ChipFields = LOIHI2
    """For what closes loops."""

    def apply(self, circuit: c.CircuitGraph) -> c.CircuitGraph:
        if self.max_spike_delay < 1:
            raise NeurocompileError(
                "NC3103",
                f"the target's longest delay is {self.max_spike_delay} steps; at least 1 is needed",
            )
        period = period_for(circuit.steps, self.power_of_two_period)
        own = {p.name for p in circuit.populations}
        circuit = CloseLoops(period, self.fields)(circuit)
        depth = _depths(circuit, own, self.max_spike_delay)
        lines = _Lines(circuit, depth, self.max_spike_delay, self.graded_delay)
        projections = []
        for q in circuit.projections:
            if q.recurrent:
                projections.append(replace(q, delay=1))
                continue
            src = circuit.population[q.src]
            steps = depth[q.dst] - depth[q.src] - q.advance
            if c.is_constant(circuit, src):
                steps = 1  # a constant is the same in every step
            name, delay = lines.after(src, steps)
            projections.append(replace(q, src=Ref(name), delay=delay))
        relays, joined = packed(lines.relays, [*projections, *lines.projections], lines.taken)
        populations = tuple(
            sorted(
                (*(replace(p, depth=depth[p.name]) for p in circuit.populations), *relays),
                key=lambda p: p.depth,
            )
        )
        return circuit.replace(
            populations=populations,
            projections=tuple(joined),
            period=period,
            graded_delay=self.graded_delay,
        )


def _depths(circuit: c.CircuitGraph, own: set[str], delay: int) -> dict[str, int]:
    """Depth of every population. Those of ``own`` that the host does not reach lie as deep as their
    readers allow; what ``close_loops`` added does not, because it closes loops before the first
    sample arrives. A spike waits for ``delay`` steps at no cost."""
    depth: dict[str, int] = {}
    clocks: list[tuple[c.Population, ...]] = []
    reached: set[str] = set()
    outgoing: dict[str, list[c.Projection]] = {p.name: [] for p in circuit.populations}
    for group in circuit.groups:
        inputs = [q for p in group for q in circuit.incoming[p.name] if not q.recurrent]
        names = [p.name for p in group]
        depth.update(
            dict.fromkeys(names, max((depth[q.src] + 1 + q.advance for q in inputs), default=0))
        )
        for q in inputs:
            outgoing[q.src].append(q)
        if any(isinstance(p, c.HostInput) for p in group) or any(q.src in reached for q in inputs):
            reached.update(names)
        elif own.intersection(names) and not all(c.is_constant(circuit, p) for p in group):
            clocks.append(group)
    for group in reversed(clocks):
        latest = min(
            (depth[q.dst] - 1 - q.advance for p in group for q in outgoing[p.name]), default=0
        )
        depth.update(dict.fromkeys((p.name for p in group), latest))
    _postpone(circuit, depth, outgoing, delay)
    return depth


def _postpone(
    circuit: c.CircuitGraph,
    depth: dict[str, int],
    outgoing: dict[str, list[c.Projection]],
    delay: int,
) -> None:
    """Relays that only spikes reach lie as deep as their readers and the ``delay`` of a spike allow:
    spikes wait in a delay, what they add up to in neurons.
    """
    read = {r.src for r in circuit.readouts}
    for group in reversed(circuit.groups):
        p, readers = group[0], outgoing[group[0].name]
        inputs = circuit.incoming[p.name]
        if (
            len(group) == 1
            and isinstance(p, c.GradedRelay)
            and p.name not in read
            and inputs
            and readers
            and all(circuit.population[q.src].spiking and not q.recurrent for q in inputs)
        ):
            latest = min(depth[q.dst] - 1 - q.advance for q in readers)
            waiting = [
                depth[q.src] + q.advance
                for q in inputs
                if not c.is_constant(circuit, circuit.population[q.src])
            ]
            depth[p.name] = max(depth[p.name], min(latest, min(waiting, default=latest) + delay))


class _Lines:
    """Lines of relays, one a source, as long as its slowest consumer needs."""

    def __init__(
        self,
        circuit: c.CircuitGraph,
        depth: dict[str, int],
        max_spike_delay: int,
        graded_delay: int,
    ) -> None:
        self.depth, self.max_spike_delay, self.graded_delay = depth, max_spike_delay, graded_delay
        self.taken = {p.name for p in circuit.populations}
        self.relays: list[c.Population] = []
        self.projections: list[c.Projection] = []
        self._line: dict[str, list[str]] = {}

    def after(self, src: c.Population, steps: int) -> tuple[str, int]:
        """Where to read ``src`` such that it arrives ``steps`` steps later: a population and the
        delay from it.
        """
        reach = self.max_spike_delay if src.spiking else self.graded_delay
        line = self._line.setdefault(src.name, [src.name])
        while len(line) * reach < steps:
            name = f"{src.name}.wait{len(line)}"
            if name in self.taken:
                raise NeurocompileError("NC9001", f"population name '{name}' is taken")
            fields: dict[str, Any] = {
                "name": name,
                "shape": src.shape,
                "layer": src.layer,
                "depth": self.depth[src.name] + len(line) * reach,
            }
            # a spike that arrives makes a spike, and nothing is kept
            self.relays.append(
                c.LIF(**fields, vth=0, dv=ALL) if src.spiking else c.GradedRelay(**fields)
            )
            self.projections.append(
                c.Strided(
                    name=f"{line[-1]}>{name}",
                    src=Ref(line[-1]),
                    dst=Ref(name),
                    sizes=(src.size,),
                    src_strides=(1,),
                    dst_strides=(1,),
                    sign="excitatory",
                    delay=reach,
                )
            )
            line.append(name)
        waits = (steps - 1) // reach
        return line[waits], steps - waits * reach
