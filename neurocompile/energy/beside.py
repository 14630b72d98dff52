"""What a folded program costs beside the same model unrolled, under every profile of constants.

Both sides are modelled alike, from the rates of the layers, so that they can be compared: all
neurons of a population send alike. The unrolled model is not mapped (it need not fit any machine),
so packets and hops stand on neither side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from neurocompile.build_steps import build_circuit
from neurocompile.energy.arrivals import synapse_kind
from neurocompile.energy.counts import COLUMNS
from neurocompile.energy.price import price, priced
from neurocompile.energy.profile import Profile, list_profiles, load_profile, profile_of
from neurocompile.folding.search import choice_of
from neurocompile.ir.circuit import LIF, CircuitGraph, HostInput, synapse_count
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.rates import modelled_rates

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["Beside", "CostOf", "beside_unrolled", "idle_updates", "modelled_totals"]


class CostOf(msgspec.Struct, frozen=True, kw_only=True):
    """One sample under one profile; packets, hops and static power are left out on both sides."""

    profile: str
    hardware: str
    folded_pj: float | None
    """Null where the profile prices none of it."""
    unrolled_pj: float | None
    folded_us: float | None
    """At least: every step lasts as long as the mean core works, and a barrier of one tile; null
    where the profile has no such times."""
    unrolled_us: float | None
    folded_idle_pj: float | None
    """Of ``folded_pj``, the least that neurons take in steps in which they may not emit: outside of
    their windows, and between T and the period."""
    unrolled_idle_pj: float | None
    folded_idle_us: float | None
    """Of ``folded_us``, the same updates, and the barriers of steps that all neurons idle."""
    unrolled_idle_us: float | None


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A folded program and the same model unrolled; all counts are modelled, of one sample."""

    folded: FoldChoice
    unrolled: FoldChoice
    costs: list[CostOf]

    def note(self) -> str:
        """One sentence."""
        return self.folded.beside(self.unrolled)


def modelled_totals(circuit: CircuitGraph, rates: Mapping[str, float]) -> np.ndarray:
    """Counts of one sample, float64 (columns,): those of
    :data:`neurocompile.energy.counts.COLUMNS` that need no mapping, nothing larger than the number
    of populations is made.
    """
    total = dict.fromkeys(COLUMNS, 0.0)
    steps = circuit.sample_steps
    for p in circuit.populations:
        total["neurons"] += p.size
        if isinstance(p, HostInput):
            continue
        arriving = 0.0
        for q in circuit.incoming[p.name]:
            operations = rates.get(q.src, 1.0) * synapse_count(circuit, q)
            arriving += operations
            total[f"synops_{synapse_kind(q)}"] += operations * steps
            spikes = circuit.population[q.src].spiking
            total["acs" if spikes else "macs"] += operations * steps
        sent = rates.get(p.name, 1.0) * p.size * steps
        total["spikes" if p.spiking else "graded_messages"] += sent
        total["updates"] += p.size * circuit.sample_period
        biased = isinstance(p, LIF) and p.bias is not None
        share = 1.0 if biased else 1.0 - np.exp(-arriving / p.size)
        total["active"] += share * p.size * steps
    return np.array([total[name] for name in COLUMNS])


def beside_unrolled(program: Program, profiles: Sequence[Profile] | None = None) -> Beside | None:
    """A folded ``program`` beside the unrolled model; None for a program that is not folded.

    Args:
        profiles: by default every profile that is here, and the target's own.
    """
    if program.circuit.windows == 1:
        return None
    options, target, statistics = program.manifest.options, program.target, program.calibration
    unrolled = build_circuit(program.quantized, options.steps, options.bits, target)
    if profiles is None:
        profiles = [*map(load_profile, list_profiles()), profile_of(target)]
        profiles = [p for p in profiles if priced(p)]
    choices, totals, idle = [], [], []
    for circuit, fold in ((program.circuit, options.fold), (unrolled, "none")):
        rates = modelled_rates(circuit, statistics)
        choices.append(choice_of(circuit, target, fold, rates))
        totals.append(modelled_totals(circuit, rates))
        idle.append((idle_updates(circuit), circuit.sample_period - circuit.sample_steps))
    return Beside(
        folded=choices[0],
        unrolled=choices[1],
        costs=[_cost(profile, choices, totals, idle) for profile in profiles],
    )


def idle_updates(circuit: CircuitGraph) -> int:
    """Updates of a sample in which a neuron may not emit: outside of its windows, or of the T steps
    of one."""
    found = 0
    for p in circuit.populations:
        if not isinstance(p, HostInput):
            windows = prod(n for n, _ in p.slots) if p.slots else circuit.windows
            found += p.size * (circuit.sample_period - windows * circuit.steps)
    return found


def _cost(
    profile: Profile,
    choices: list[FoldChoice],
    totals: list[np.ndarray],
    idle: list[tuple[int, int]],
) -> CostOf:
    energies = [float(price(profile, t).sum()) if priced(profile) else None for t in totals]
    times = [_least_us(profile, *both) for both in zip(choices, totals, strict=True)]
    resting, update, barrier = (
        profile.energy.neuron_update_inactive,
        profile.time.neuron_update_inactive,
        profile.time.barrier_1_tile,
    )
    idle_pj, idle_us = [], []
    for choice, us, (updates, steps) in zip(choices, times, idle, strict=True):
        idle_pj.append(resting.value * updates if resting else None)
        waits = barrier.value * steps if barrier else 0.0
        work = update.value * updates / max(choice.cores_at_least, 1) if update else 0.0
        idle_us.append(None if us is None else (work + waits) * 1e-3)
    return CostOf(
        profile=profile.name,
        hardware=profile.hardware,
        folded_pj=energies[0],
        unrolled_pj=energies[1],
        folded_us=times[0],
        unrolled_us=times[1],
        folded_idle_pj=idle_pj[0],
        unrolled_idle_pj=idle_pj[1],
        folded_idle_us=idle_us[0],
        unrolled_idle_us=idle_us[1],
    )


def _least_us(profile: Profile, choice: FoldChoice, total: np.ndarray) -> float | None:
    """From one sample to the next, if all cores worked alike."""
    t, column = profile.time, dict(zip(COLUMNS, total, strict=True))
    if not (t.synaptic_operation and t.neuron_update_active and t.neuron_update_inactive):
        return None
    operations = sum(column[f"synops_{kind}"] for kind in ("dense", "sparse", "convolution"))
    work = operations * t.synaptic_operation.value
    work += column["active"] * t.neuron_update_active.value
    work += (column["updates"] - column["active"]) * t.neuron_update_inactive.value
    barrier = t.barrier_1_tile.value * choice.steps if t.barrier_1_tile else 0.0
    return float(work / max(choice.cores_at_least, 1) + barrier) * 1e-3
