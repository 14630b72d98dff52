"""What a build tells: sizes, cores, the fullest resource, expected spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from neurocompile.frames import bars, data_frame
from neurocompile.ir.circuit import LIF, HostInput
from neurocompile.manifest import Optimized
from neurocompile.mapping.budget import SpikeBudget
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.resources import CostCounter
from neurocompile.precision import LayerReport

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["Summary", "summarize"]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a program; ``spikes_per_inference`` and ``packets_per_step`` are expected, from
    ``rates_source``.
    """

    model: str
    target: str
    T: int
    period: int
    weight_bits: int
    layers: int
    populations: int
    neurons: int
    synapses: int
    depth: int
    cores: int
    cores_available: int
    cores_at_least: int
    """That no mapping can do without."""
    cores_at_least_for: str
    """The resource of which all layers together need so many."""
    fullest_resource: str
    fullest_used: int
    fullest_limit: int
    spikes_per_inference: float
    packets_per_step: float
    rates_source: str
    import_agreement: float
    seconds: dict[str, float]
    precision: list[LayerReport] = []
    """Of every layer, the least agreement first; empty for a loaded program."""
    budget: SpikeBudget | None = None
    optimized: Optimized | None = None
    """What refining the mapping on counted traffic brought."""
    outputs: dict[str, list[int]] = {}
    """What the model returns: shape of a sample, by name."""
    host: dict[str, int] = {}
    """Operators behind the last neurons that the host computes in float32, and how often."""
    fold: FoldChoice | None = None
    """Of a program that is folded in time."""
    folds: tuple[FoldChoice, ...] = ()
    """The Pareto front that the build chose from."""

    def to_pandas(self) -> pandas.DataFrame:
        """:attr:`precision`, a row a layer; NC4001 without pandas."""
        rows = [{**msgspec.to_builtins(k), "remarks": "; ".join(k.remarks)} for k in self.precision]
        return data_frame(rows, "layer")

    def plot(self) -> Figure:
        """Agreement of the float and the integer model by layer, as the build measured it; NC4001
        without matplotlib.
        """
        found = [k for k in self.precision if k.agreement is not None]
        share = {"": [1 - k.agreement for k in found if k.agreement is not None]}
        names = [k.layer for k in found]
        return bars(
            f"{self.model}, {self.weight_bits} bits", names, share, "share of spikes that differ"
        )

    def _repr_html_(self) -> str:
        from neurocompile.notebook import html_table

        rows = [
            ("cores", f"{self.cores:,} of {self.cores_available:,}", "modelled"),
            ("cores at least", self.cores_at_least, f"bound, by {self.cores_at_least_for}"),
            ("neurons", self.neurons, "counted"),
            ("synapses", self.synapses, "counted, unrolled"),
            ("depth, steps", self.depth, "counted"),
            ("spikes per inference", self.spikes_per_inference, self.rates_source),
            ("packets per step", self.packets_per_step, self.rates_source),
            ("import agreement", self.import_agreement, "measured, against onnxruntime"),
        ]
        if self.host:
            rows.append(("on the host", ", ".join(self.host), "behind the last neurons, float32"))
        title = (
            f"{self.model} on {self.target}: {self.layers:,} layers, T = {self.T}, "
            f"{self.weight_bits}-bit weights"
        )
        return html_table(title, ("", "", "basis"), rows)


def summarize(program: Program) -> Summary:
    """Figures of ``program``."""
    circuit, mapping = program.circuit, program.mapping
    fullest = mapping.fullest(program.target)
    rates = program.manifest.rates
    shortages = CostCounter(circuit, program.target).shortages()
    binding = max(shortages, key=lambda resource: shortages[resource][1], default="")
    spikes = sum(
        rates[p.name] * p.size * circuit.sample_steps
        for p in circuit.populations
        if isinstance(p, LIF)
    )
    return Summary(
        model=program.manifest.model,
        target=program.target.name,
        T=circuit.steps,
        period=circuit.sample_period,
        weight_bits=program.manifest.options.bits,
        layers=len(circuit.views),
        populations=len(circuit.populations),
        neurons=sum(p.size for p in circuit.populations if not isinstance(p, HostInput)),
        synapses=program.synapses,
        depth=circuit.depth,
        cores=mapping.cores_used,
        cores_available=program.target.cores,
        cores_at_least=mapping.lower_bound,
        cores_at_least_for=binding,
        fullest_resource=fullest.resource if fullest else "",
        fullest_used=fullest.used if fullest else 0,
        fullest_limit=fullest.limit if fullest else 0,
        spikes_per_inference=spikes,
        packets_per_step=mapping.traffic.packets,
        rates_source=program.manifest.rates_source,
        import_agreement=program.manifest.import_agreement,
        seconds=program.seconds,
        precision=list(program.precision),
        budget=program.manifest.budget,
        optimized=program.manifest.optimized,
        outputs=program.output_shapes,
        host={} if program.host is None else program.host.operators,
        fold=program.fold if circuit.windows > 1 else None,
        folds=program.folds,
    )
