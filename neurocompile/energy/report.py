"""Everything that ``neurocompile energy`` tells, as one structure; each figure says measured, modelled or bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.energy.activity import measured_activity, modelled_activity
from neurocompile.energy.ann import MAC_PJ, ann_macs
from neurocompile.energy.counts import COLUMNS, Counts, count
from neurocompile.energy.latency import Latency, estimate_latency, times
from neurocompile.energy.max_affine import MaxAffine
from neurocompile.energy.power import MeasuredPower
from neurocompile.energy.price import ITEMS, missing, price, priced
from neurocompile.energy.profile import Profile

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["EnergyOf", "EnergyReport", "count_program", "energy_report"]


class EnergyOf(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one inference in pJ under one profile. ``modelled`` always: constants times counts."""

    profile: str
    description: str
    hardware: str
    foreign: bool
    """The constants are not those of the target: what its work would cost on ``hardware``."""
    items: dict[str, float | None]
    """Null where the profile prices nothing of the kind."""
    dynamic_pj: float
    layers: dict[str, float]
    barriers_pj: float | None
    static_pj: float | None
    """Static power times the modelled time of the chips in use; null without both constants."""
    bound_pj: float | None
    """Corollary 9: E_s N_spikes, E_s the profile's cheapest synaptic operation; a lower bound, and a weak one."""
    bound_energy_per_spike_pj: float | None
    ratio_to_bound: float | None
    not_priced: list[str]
    latency: Latency


class EnergyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are means of one inference."""

    model: str
    target: str
    T: int
    banner: str
    basis: str
    source: str
    samples: int
    chips: int
    counts: dict[str, float]
    firing_rate: float
    """Spikes a spiking neuron a step."""
    layers: list[dict[str, Any]]
    cores: list[dict[str, Any]]
    neurobench: dict[str, Any]
    energies: list[EnergyOf]
    ann_macs: int
    ann_pj: float
    """MACs of the same network as an ANN times 4.6 pJ (horowitz45)."""
    measured: MeasuredPower | None
    fitted: MaxAffine | None
    fitted_times: dict[str, float] | None
    notes: list[str]


def count_program(program: Program, x: np.ndarray | None = None, *, progress: bool = False) -> Counts:
    """Counts of ``program``: measured on float32 ``x`` (samples, *input shape), or modelled from the stored rates."""
    if x is None:
        activity = modelled_activity(program.circuit, program.manifest.rates, f"rates {program.manifest.rates_source}")
    else:
        activity = measured_activity(program.circuit, x, progress=progress)
    return count(program.circuit, program.mapping, program.target, activity)


def energy_report(
    program: Program, counts: Counts, profiles: Sequence[Profile], *, measured: MeasuredPower | None = None,
    fitted: MaxAffine | None = None,
) -> EnergyReport:  # fmt: skip
    """Price ``counts`` under each of the profiles, never mixing them."""
    circuit, mapping = program.circuit, program.mapping
    totals = {name: float(v) for name, v in zip(COLUMNS, counts.populations.sum(axis=0), strict=True)}
    spiking = sum(p.size for p in circuit.populations if p.spiking) * circuit.steps
    energies = [_price(program, counts, profile) for profile in profiles]
    sent = totals["spikes"] + totals["graded_messages"]
    bits = sum(w.size * q.weight_bits for q in circuit.projections if (w := circuit.weight(q)) is not None)
    neurobench = {
        "Footprint": -(-bits // 8),
        "ConnectionSparsity": counts.weights_zero / counts.weights if counts.weights else 0.0,
        "ActivationSparsity": 1.0 - sent / counts.messages_possible if counts.messages_possible else 0.0,
        "SynapticOperations": {
            "Effective_MACs": totals["effective_macs"], "Effective_ACs": totals["effective_acs"],
            "Dense": counts.dense_operations,
        },
    }  # fmt: skip
    macs = ann_macs(program.quantized)
    fitted_times = None
    if fitted is not None and energies:
        late = energies[0].latency
        fitted_times = times(fitted.step_ns(late.core_operations, late.core_updates, late.link_packets), circuit)
    return EnergyReport(
        model=program.manifest.model, target=program.target.name, T=circuit.steps,
        banner="neurocompile emulator (bit-exact integer model on the CPU), NOT hardware"
        if counts.basis == "measured" else "nothing was run: modelled from stored rates, NOT hardware",
        basis=counts.basis, source=counts.source, samples=counts.samples, chips=len({c.chip for c in mapping.cores}),
        counts={**totals, "inactive": totals["updates"] - totals["active"], "barriers": counts.barriers},
        firing_rate=totals["spikes"] / spiking if spiking else 0.0, layers=_layers(program, counts),
        cores=_cores(program, counts), neurobench=neurobench, energies=energies, ann_macs=macs, ann_pj=macs * MAC_PJ,
        measured=measured, fitted=fitted, fitted_times=fitted_times, notes=_notes(program),
    )  # fmt: skip


def _price(program: Program, counts: Counts, profile: Profile) -> EnergyOf:
    e = profile.energy
    items = price(profile, counts.populations).sum(axis=0)
    late = estimate_latency(counts, program.circuit, program.mapping, program.target, profile)
    barriers = None if e.barrier is None else e.barrier.value * counts.barriers
    dynamic = float(items.sum()) + (barriers or 0.0)
    kinds = ("", "_dense", "_sparse", "_convolution")
    prices = [c.value for k in kinds if (c := getattr(e, f"synaptic_operation{k}"))] + ([e.ac.value] if e.ac else [])
    bound = min(prices) * counts.total("spikes") if prices else None
    static = None
    if profile.static_power and late.step_ns:
        chips = len({core.chip for core in program.mapping.cores})
        static = profile.static_power.value * chips * late.step_ns * program.circuit.period  # mW ns = pJ
    return EnergyOf(
        profile=profile.name, description=profile.description, hardware=profile.hardware,
        foreign=program.target.name not in profile.targets,
        items={n: v if n in priced(profile) else None for n, v in zip(ITEMS, items.tolist(), strict=True)}, dynamic_pj=dynamic,
        layers={layer: float(price(profile, row).sum()) for layer, row in counts.layers.items()}, barriers_pj=barriers,
        static_pj=static, bound_pj=bound, bound_energy_per_spike_pj=min(prices) if prices else None,
        ratio_to_bound=dynamic / bound if bound else None, not_priced=missing(profile), latency=late,
    )  # fmt: skip


def _row(values: np.ndarray) -> dict[str, float]:
    found = {n: float(v) for n, v in zip(COLUMNS, values, strict=True) if not np.isnan(v)}
    found["synops"] = found["synops_dense"] + found["synops_sparse"] + found["synops_convolution"]
    found["inactive"] = found["updates"] - found["active"]
    return found


def _layers(program: Program, counts: Counts) -> list[dict[str, Any]]:
    """Each layer with its counts; ``rate`` is that of the user's layer itself, without what helps to compute it."""
    circuit, found = program.circuit, []
    views = {view.layer: str(view.src) for view in circuit.views}
    index = {p.name: i for i, p in enumerate(circuit.populations)}
    for layer, values in counts.layers.items():
        row: dict[str, Any] = {"layer": layer, "rate": None, **_row(values)}
        if layer in views:
            spikes = counts.populations[index[views[layer]], COLUMNS.index("spikes")]
            row["rate"] = float(spikes / (circuit.population[views[layer]].size * circuit.steps))
        found.append(row)
    return found


def _cores(program: Program, counts: Counts) -> list[dict[str, Any]]:
    return [
        {"core": i, "chip": c.chip, "x": c.x, "y": c.y, "slot": c.core, **_row(row)}
        for i, (c, row) in enumerate(zip(program.mapping.cores, counts.cores, strict=True))
    ]


def _notes(program: Program) -> list[str]:
    circuit = program.circuit
    found = ["packets from the host are counted, their hops are not: the host's place on the mesh is unknown"]
    if circuit.period > circuit.steps:
        found.append(f"{circuit.period - circuit.steps} idle steps a sample (period {circuit.period}, T {circuit.steps}) "
                     "count as inactive updates and barriers; what neurons still send in them is not counted")  # fmt: skip
    return found
