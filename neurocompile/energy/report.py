"""Everything that ``neurocompile energy`` tells, as one structure; each figure says measured,
modelled or bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.energy.activity import measured_activity, modelled_activity
from neurocompile.energy.ann import MAC_PJ, ann_macs
from neurocompile.energy.beside import Beside, beside_unrolled
from neurocompile.energy.corollary import ALL_LIFS, computed_again, corollary_spikes
from neurocompile.energy.counts import COLUMNS, Counts, count
from neurocompile.energy.latency import Latency, estimate_latency, times
from neurocompile.energy.max_affine import MaxAffine
from neurocompile.energy.mesh import MeshReport
from neurocompile.energy.power import MeasuredPower
from neurocompile.energy.price import ITEMS, price, priced, unpriced
from neurocompile.energy.profile import Profile
from neurocompile.errors import NeurocompileError
from neurocompile.frames import bars, data_frame

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["EnergyOf", "EnergyReport", "count_program", "energy_report"]


_BANNERS = {
    "measured": "neurocompile emulator (bit-exact integer model on the CPU), NOT hardware",
    "counted": "core images, message by message on the CPU (bit-exact), NOT hardware",
    "modelled": "nothing was run: modelled from stored rates, NOT hardware",
}


class EnergyOf(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one inference in pJ under one profile. ``modelled`` always: constants times counts."""

    profile: str
    description: str
    hardware: str
    foreign: bool
    """The constants are not those of the target: what its work would cost on ``hardware``."""
    items: dict[str, float | None]
    """Null where the profile prices nothing of the kind."""
    dynamic_pj: float | None
    """Null where the profile prices nothing at all."""
    layers: dict[str, float | None]
    barriers_pj: float | None
    static_pj: float | None
    """Static power of the chips in use times the time of an inference; null without one of them."""
    static_time: str
    """Where the time of ``static_pj`` comes from, or what is missing."""
    bound_pj: float | None
    """Corollary 9: E_s N, E_s the profile's cheapest synaptic operation, N the spikes of all LIFs; a
    lower bound, and a weak one.
    """
    bounds_pj: dict[str, float]
    """The same for every N, by its name (:mod:`neurocompile.energy.corollary`)."""
    bound_energy_per_spike_pj: float | None
    ratio_to_bound: float | None
    not_priced: dict[str, float]
    """What was counted and has no constant, so that no energy here has it: name -> count of an
    inference.
    """
    sources: list[str]
    """Of the constants, each with how well it is known."""
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
    corollary_spikes: dict[str, float]
    """Corollary 9's N, an inference, by whose spikes it counts."""
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
    mesh: MeshReport | None = None
    """Time on the mesh, simulated; of counts on core images under a profile that has times."""
    beside: Beside | None = None
    """Of a folded program: the same model unrolled, under every profile."""

    def to_pandas(self) -> pandas.DataFrame:
        """A row a layer: its counts an inference, ``rate``, and its dynamic energy in pJ under each
        profile; NC4001 without pandas.
        """
        rows = [
            {**row, **{f"pJ {e.profile}": e.layers.get(row["layer"]) for e in self.energies}}
            for row in self.layers
        ]
        return data_frame(rows, "layer")

    def plot(self) -> Figure:
        """Dynamic energy of the layers under each profile that prices them all, or their spikes
        where none does; NC4001 without matplotlib.
        """
        names, title = [row["layer"] for row in self.layers], f"{self.model}: {self.basis}"
        found = {}
        for energy in self.energies:
            pj = [energy.layers.get(name) for name in names]
            if None not in pj:
                found[energy.profile] = [float(p) for p in pj if p is not None]
        if found:
            return bars(title, names, found, "dynamic energy, pJ an inference")
        spikes = {"spikes": [float(row.get("spikes", 0.0)) for row in self.layers]}
        return bars(title, names, spikes, "spikes per inference")

    def __repr__(self) -> str:
        return f"<EnergyReport of {self.model!r} on {self.target}: {self.basis}, {self.samples:,} samples>"

    def _repr_html_(self) -> str:
        from neurocompile.notebook import html_table

        counts = html_table(
            f"{self.model} on {self.target}, one inference: {self.basis}",
            ("count", ""),
            self.counts.items(),
        )
        prices = html_table(
            "modelled energy, pJ",
            ("profile", "dynamic", "Corollary 9 (bound)"),
            [(e.profile, e.dynamic_pj, e.bound_pj) for e in self.energies],
        )
        return counts + prices


def count_program(
    program: Program, x: np.ndarray | None = None, *, on_cores: bool = False, progress: bool = False
) -> Counts:
    """Counts of ``program``: measured on float32 ``x`` (samples, *input shape), or modelled from
    the stored rates; ``on_cores``: counted on core images.
    """
    if on_cores:
        if x is None:
            text = "on_cores counts the messages of samples: give x"
            raise NeurocompileError("NC1015", text)
        from neurocompile.energy.core_counts import count_on_cores

        return count_on_cores(program, x, progress=progress)
    if x is None:
        activity = modelled_activity(
            program.circuit, program.manifest.rates, f"rates {program.manifest.rates_source}"
        )
    else:
        activity = measured_activity(program.circuit, program.checked(x), progress=progress)
    return count(program.circuit, program.mapping, program.target, activity)


def energy_report(
    program: Program,
    counts: Counts,
    profiles: Sequence[Profile],
    *,
    measured: MeasuredPower | None = None,
    fitted: MaxAffine | None = None,
    mesh: MeshReport | None = None,
    notes: Sequence[str] = (),
) -> EnergyReport:
    """Price ``counts`` under each of the profiles, never mixing them."""
    circuit, mapping = program.circuit, program.mapping
    totals = {
        name: float(v) for name, v in zip(COLUMNS, counts.populations.sum(axis=0), strict=True)
    }
    spiking = sum(p.size for p in circuit.populations if p.spiking) * circuit.sample_steps
    told = {
        **totals,
        "inactive": totals["updates"] - totals["active"],
        "barriers": float(counts.barriers),
    }
    energies = [_price(program, counts, profile, told, fitted) for profile in profiles]
    sent = totals["spikes"] + totals["graded_messages"]
    bits = sum(
        w.size * q.weight_bits for q in circuit.projections if (w := circuit.weight(q)) is not None
    )
    neurobench = {
        "Footprint": -(-bits // 8),
        "ConnectionSparsity": counts.weights_zero / counts.weights if counts.weights else 0.0,
        "ActivationSparsity": 1.0 - sent / counts.messages_possible
        if counts.messages_possible
        else 0.0,
        "SynapticOperations": {
            "Effective_MACs": totals["effective_macs"],
            "Effective_ACs": totals["effective_acs"],
            "Dense": counts.dense_operations,
        },
    }
    macs, beside = ann_macs(program.quantized), beside_unrolled(program)
    fitted_times = (
        times(_fitted_step(fitted, energies[0].latency), circuit)
        if fitted is not None and energies
        else None
    )
    return EnergyReport(
        model=program.manifest.model,
        target=program.target.name,
        T=circuit.steps,
        banner=_BANNERS[counts.basis],
        basis=counts.basis,
        source=counts.source,
        samples=counts.samples,
        chips=len({c.chip for c in mapping.cores}),
        counts=told,
        firing_rate=totals["spikes"] / spiking if spiking else 0.0,
        corollary_spikes=_corollary(program, counts),
        layers=_layers(program, counts),
        cores=_cores(program, counts),
        neurobench=neurobench,
        energies=energies,
        ann_macs=macs,
        ann_pj=macs * MAC_PJ,
        measured=measured,
        fitted=fitted,
        fitted_times=fitted_times,
        notes=[*notes, *_notes(program, beside)],
        mesh=mesh,
        beside=beside,
    )


def _price(
    program: Program,
    counts: Counts,
    profile: Profile,
    told: dict[str, float],
    fitted: MaxAffine | None,
) -> EnergyOf:
    e, kinds = profile.energy, priced(profile)
    items = price(profile, counts.populations).sum(axis=0)
    late = estimate_latency(counts, program.circuit, program.mapping, program.target, profile)
    barriers = None if e.barrier is None else e.barrier.value * counts.barriers
    dynamic = float(items.sum()) + (barriers or 0.0) if kinds or barriers is not None else None
    operations = ("", "_dense", "_sparse", "_convolution")
    prices = [c.value for k in operations if (c := getattr(e, f"synaptic_operation{k}"))] + (
        [e.ac.value] if e.ac else []
    )
    bounds = {n: min(prices) * N for n, N in _corollary(program, counts).items()} if prices else {}
    bound = bounds.get(ALL_LIFS)
    static, static_time = _static(program, profile, late, fitted)
    return EnergyOf(
        profile=profile.name,
        description=profile.description,
        hardware=profile.hardware,
        foreign=program.target.name not in profile.targets,
        items={n: v if n in kinds else None for n, v in zip(ITEMS, items.tolist(), strict=True)},
        dynamic_pj=dynamic,
        layers={
            layer: float(price(profile, row).sum()) if kinds else None
            for layer, row in counts.layers.items()
        },
        barriers_pj=barriers,
        static_pj=static,
        static_time=static_time,
        bound_pj=bound,
        bounds_pj=bounds,
        bound_energy_per_spike_pj=min(prices) if prices else None,
        ratio_to_bound=dynamic / bound if bound and dynamic is not None else None,
        not_priced=unpriced(profile, told),
        sources=profile.sources,
        latency=late,
    )


def _corollary(program: Program, counts: Counts) -> dict[str, float]:
    spikes = counts.populations[:, COLUMNS.index("spikes")]
    names = [p.name for p in program.circuit.populations]
    return corollary_spikes(program.circuit, dict(zip(names, spikes.tolist(), strict=True)))


def _fitted_step(fitted: MaxAffine, late: Latency) -> float:
    return fitted.step_ns(late.core_operations, late.core_updates, late.link_packets)


def _static(
    program: Program, profile: Profile, late: Latency, fitted: MaxAffine | None
) -> tuple[float | None, str]:
    """Static energy in pJ, and whose time it is of: a time fitted to measurements comes before one
    from constants.
    """
    step, whose = late.step_ns, f"the time constants of {profile.name}"
    if fitted is not None:
        step, whose = _fitted_step(fitted, late), f"fitted to {fitted.measurements} measurements"
    if profile.static_power is None:
        return None, f"{profile.name} has no static power"
    if step is None:
        return None, f"no time a step: {late.model}"
    chips = len({core.chip for core in program.mapping.cores})
    return (
        profile.static_power.value * chips * step * program.circuit.sample_period,
        whose,
    )  # mW ns = pJ


def _row(values: np.ndarray) -> dict[str, float]:
    found = {n: float(v) for n, v in zip(COLUMNS, values, strict=True) if not np.isnan(v)}
    found["synops"] = found["synops_dense"] + found["synops_sparse"] + found["synops_convolution"]
    found["inactive"] = found["updates"] - found["active"]
    return found


def _layers(program: Program, counts: Counts) -> list[dict[str, Any]]:
    """Each layer with its counts; ``rate`` is that of the user's layer itself, without what helps
    to compute it; None where a fold computes it several times.
    """
    circuit, found = program.circuit, []
    views = {view.layer: str(view.src) for view in circuit.views}
    places = {view.layer: prod(view.shape) * circuit.steps for view in circuit.views}
    index = {p.name: i for i, p in enumerate(circuit.populations)}
    for layer, values in counts.layers.items():
        row: dict[str, Any] = {"layer": layer, "rate": None, **_row(values)}
        if layer in views:
            at = index[views[layer]]
            if not computed_again(circuit, circuit.populations[at], places[layer]):
                spikes = counts.populations[at, COLUMNS.index("spikes")]
                row["rate"] = float(spikes / places[layer])
        found.append(row)
    return found


def _cores(program: Program, counts: Counts) -> list[dict[str, Any]]:
    return [
        {"core": i, "chip": c.chip, "x": c.x, "y": c.y, "slot": c.core, **_row(row)}
        for i, (c, row) in enumerate(zip(program.mapping.cores, counts.cores, strict=True))
    ]


def _notes(program: Program, beside: Beside | None) -> list[str]:
    circuit = program.circuit
    found = [
        "packets from the host are counted, their hops are not: the host's place on the mesh is unknown"
    ]
    idle = circuit.sample_period - circuit.sample_steps
    if idle:
        found.append(
            f"{idle} idle steps a sample (period {circuit.sample_period}, T {circuit.steps}) "
            "count as inactive updates and barriers; what neurons still send in them is not counted"
        )
    if beside is not None:
        found.append(beside.note())
    return found
