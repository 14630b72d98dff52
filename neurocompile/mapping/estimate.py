"""What a circuit needs of a target at least, and everything that rules it out, before anything is
cut.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from neurocompile.errors import ViolationList
from neurocompile.ir.circuit import CircuitGraph, HostInput, Population
from neurocompile.mapping.advice import (
    does_not_fit_core,
    exceeds_target,
    lacks_graded,
    sends_too_much,
)
from neurocompile.mapping.fields import exceeded_fields
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.grants import Grants, granted
from neurocompile.mapping.resources import LABELS, CostCounter
from neurocompile.mapping.tile import Tile
from neurocompile.targets.schema import Target

__all__ = ["Estimate", "Need", "estimate", "refuse", "violations"]


class Need(Struct, frozen=True, kw_only=True):
    """One resource of all layers together."""

    resource: str
    label: str
    needed: int
    per_core: int
    cores: int
    """Cores needed for it at least."""
    largest: str
    """The layer that needs most of it."""
    largest_needed: int


class Estimate(Struct, frozen=True, kw_only=True):
    """Lower bounds: cutting a layer only adds to what it needs."""

    circuit: str
    target: str
    neurons: int
    cores_at_least: int
    cores_available: int
    needs: tuple[Need, ...]
    violations: tuple[tuple[str, str], ...]
    """(code, text)."""
    folds: tuple[FoldChoice, ...] = ()
    """The Pareto front of cores and steps a sample, where folds were looked for; the unrolled model
    among them.
    """

    @property
    def fits(self) -> bool:
        """Whether nothing rules the circuit out, or a fold of it may fit. Packing may still take more
        cores than the bound.
        """
        folded = any(
            c.fold != "none" and c.cores_at_least <= self.cores_available for c in self.folds
        )
        return folded or not self.violations


def violations(
    counter: CostCounter, rates: Mapping[str, float], limit: int, spikes: Grants | None
) -> list[tuple[str, str]]:
    """(code, text) of everything that rules a circuit out whatever the cut; a line for each layer
    and resource.
    """
    found = [("NC3110", text) for text in lacks_graded(counter)]
    found += [("NC3113", text) for text in exceeded_fields(counter.circuit, counter.target)]
    loudest: dict[str, tuple[float, Population]] = {}
    for population in counter.on_chip:
        rate, layer = rates.get(population.name, 1.0), population.layer
        if rate > granted(spikes, layer) and rate > loudest.get(layer, (0.0, None))[0]:
            loudest[layer] = rate, population
    for layer, (rate, population) in loudest.items():
        text = sends_too_much(counter, population, rate, granted(spikes, layer))
        found.append(("NC3111", text))
    for population in counter.on_chip:
        middle = tuple(n // 2 for n in population.shape)
        tile = Tile(population.name, middle, tuple(i + 1 for i in middle))
        if counter.usage(tile).excess(counter.target):
            found.append(("NC3102", does_not_fit_core(counter, tile, counter.usage)))
    return found + [("NC3101", text) for text in exceeds_target(counter, limit)]


def refuse(
    counter: CostCounter, rates: Mapping[str, float], limit: int, spikes: Grants | None
) -> None:
    """Raise :class:`ViolationList` with all :func:`violations`, if there are any; its code is that
    of the first.
    """
    found = violations(counter, rates, limit, spikes)
    if found:
        raise ViolationList(
            found[0][0], [text for _, text in found], codes=[code for code, _ in found]
        )


def estimate(
    circuit: CircuitGraph,
    target: Target,
    rates: Mapping[str, float] | None = None,
    *,
    max_cores: int | None = None,
    spikes_per_core_step: Grants | None = None,
) -> Estimate:
    """Lower bounds and violations of a circuit on a target; nothing is cut, packed or placed.

    Args:
        circuit: lowered.
        target: the chip or board.
        rates: population -> mean probability that a neuron sends in a step, for the budget of
            spikes alone.
        max_cores: use at most so many cores.
        spikes_per_core_step: expected messages that a core may send in a step.
    """
    counter = CostCounter(circuit, target)
    limit = target.cores if max_cores is None else min(max_cores, target.cores)
    needs = []
    for resource, (needed, cores) in counter.shortages().items():
        largest, most = counter.largest_layer(resource)
        needs.append(
            Need(
                resource=resource,
                label=LABELS[resource],
                needed=needed,
                per_core=target.capacity[resource],
                cores=cores,
                largest=largest,
                largest_needed=most,
            )
        )
    return Estimate(
        circuit=circuit.name,
        target=target.name,
        neurons=sum(p.size for p in circuit.populations if not isinstance(p, HostInput)),
        cores_at_least=max((need.cores for need in needs), default=0),
        cores_available=limit,
        needs=tuple(needs),
        violations=tuple(violations(counter, rates or {}, limit, spikes_per_core_step)),
    )
