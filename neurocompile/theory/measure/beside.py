"""Statements of the theory about a model, each with the number found beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurocompile.energy.corollary import corollary_spikes
from neurocompile.errors import NeurocompileError
from neurocompile.theory.bounds.lipschitz import LipschitzBound
from neurocompile.theory.bounds.pattern_bound import bits_in_range, least_spikes, least_steps
from neurocompile.theory.bounds.spike_bound import SYNAPTIC_OPERATION, energy_bound, spike_bound
from neurocompile.theory.bounds.statements import PATTERNS, Kind
from neurocompile.theory.measure.effective_dimension import EffectiveDimension
from neurocompile.theory.measure.sensitivity import LocalLipschitz
from neurocompile.theory.measure.subject import Subject
from neurocompile.theory.measure.sweep import Run, run_at, synaptic_operations

__all__ = ["Beside", "Setting", "statements"]


@dataclass(frozen=True)
class Beside:
    """A number of the theory beside the one found: counted on the emulator (measured), or priced
    (modelled).
    """

    statement: str
    what: str
    unit: str
    theory: float
    measured: float
    measured_kind: Kind
    remark: str

    @property
    def ratio(self) -> float:
        """The number found over the theory's; infinite where the theory asks for nothing."""
        return self.measured / self.theory if self.theory else float("inf")


@dataclass(frozen=True)
class Setting:
    """What statements are about."""

    subject: Subject
    x: np.ndarray
    eps: float
    local: LocalLipschitz
    size: tuple[int, int]
    """Tokens, channels."""
    dimension: EffectiveDimension | None
    constant: float
    spikes: float
    """Measured, at T."""
    T: int


def statements(
    at: Setting, bound: LipschitzBound | None, where: str, run: Run, left_out: list[str]
) -> tuple[Beside, ...]:
    """Theorems 8 and 10, any code, and Corollary 9's energy; what cannot be said goes to
    ``left_out``.
    """
    eps, local, size, dimension = at.eps, at.local, at.size, at.dimension
    constant, spikes = at.constant, at.spikes
    found = [
        Beside(
            "Theorem 8",
            f"c = {constant:g}, L local (largest), n = {size[0]}, d = {size[1]}",
            "spikes",
            spike_bound(local.largest, *size, eps, constant),
            spikes,
            Kind.measured,
            where,
        )
    ]
    if bound is not None and np.isfinite(bound.value) and bound.value > 0:
        what = "the same with L's upper bound: no lower bound on spikes any more"
        try:
            most = spike_bound(bound.value, *size, eps, constant)
            found.append(Beside("Theorem 8", what, "spikes", most, spikes, Kind.measured, where))
        except NeurocompileError as error:
            left_out.append(f"Theorem 8 with L's upper bound: {error.message}")
    if dimension is not None:
        found.append(
            Beside(
                "Theorem 10",
                f"L local (largest), n = 1, d_eff = {dimension.mean:.1f} of {dimension.width:,}",
                "spikes",
                spike_bound(local.largest, 1, dimension.mean, eps, constant),
                spikes,
                Kind.measured,
                where,
            )
        )
    best = found[-1] if dimension is not None else found[0]
    found.append(_any_code(at, where))
    emulated = replace(at.subject, device="cpu")  # messages of every population are counted there
    counted = run if run.T == at.T and run.messages else run_at(emulated, at.x, at.T)
    operations = synaptic_operations(at.subject.at(at.T)[1], counted.messages)
    remark = (
        f"{operations:,.0f} synaptic operations (spikes measured x mean fan-out) at 23.6 pJ, "
        f"T = {at.T}; Loihi 1's price"
    )
    numbers = {best.statement: best.theory}
    numbers |= corollary_spikes(emulated.at(at.T)[1], counted.messages)
    for name, N in numbers.items():
        if N > 0:  # a model that never spikes costs nothing at least
            what = f"E_s N, N = {N:,.0f} spikes of {name}, E_s = 23.6 pJ"
            joules = operations * SYNAPTIC_OPERATION
            found.append(
                Beside("Corollary 9", what, "J", energy_bound(N), joules, Kind.modelled, remark)
            )
    return tuple(found)


def _any_code(at: Setting, where: str) -> Beside:
    """What Theorem 10 assumes (numbers that must be known to eps / L), for every code of all spiking
    layers together.
    """
    x, T = at.x, at.T
    numbers = at.dimension.mean if at.dimension else at.size[0] * at.size[1]
    circuit = at.subject.at(T)[1]
    neurons = sum(circuit.population[v.src].size for v in circuit.views)
    extent = float(x.max() - x.min())
    bits = bits_in_range(numbers, at.eps / (at.local.largest * extent)) if extent > 0 else 0.0
    least = least_spikes(neurons, T, bits)
    what = f"any code: {bits:,.0f} bits by {neurons:,} neurons in {T} steps"
    if least is None:
        what += f", which need {least_steps(neurons, bits):,}"
    return Beside(
        PATTERNS,
        what,
        "spikes",
        float(neurons * T if least is None else least),
        at.spikes,
        Kind.measured,
        where,
    )
