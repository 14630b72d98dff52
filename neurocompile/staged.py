"""The stages of a build as values: each has its graph, a text form, what it costs, and runs.

    imported = neurocompile.open("model.onnx", target="loihi2")
    canonical = imported.canonical()
    quantized = canonical.quantize(weight_bits=6)
    lowered = quantized.lower()
    program = lowered.map()

``compile`` is all of them. Every stage but the last computes logits and spikes of its own, from the
definition of its graph or, for a circuit, on the emulator: where two of them part, a wrong result
begins (docs/bisect.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, decode_steps, encode
from neurocompile.calibration import Calibration
from neurocompile.data import check_inputs, load_samples
from neurocompile.dumps import Graph, write_graph
from neurocompile.energy.ann import ann_macs
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path
from neurocompile.frontends.agreement import check_import
from neurocompile.frontends.door import calibration_of, open_model
from neurocompile.frontends.model import FloatModel
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.circuit import CircuitGraph, HostInput, synapse_count
from neurocompile.ir.evaluate import encode_input, evaluate, step_outputs, step_source
from neurocompile.manifest import SCHEMA_VERSION, Manifest
from neurocompile.mapping.budget import apply_budget, parse_budget
from neurocompile.mapping.resources import CostCounter
from neurocompile.options import BuildOptions, takes_options
from neurocompile.passes.quantize import Quantize
from neurocompile.placing import circuit_of, place_model
from neurocompile.precision import LayerReport, examine_precision
from neurocompile.program import Program, make_proof
from neurocompile.progress import Stages
from neurocompile.stages import canonical_graph, located, statistics_of
from neurocompile.targets import load_target
from neurocompile.targets.fields import ChipFields
from neurocompile.targets.schema import Target
from neurocompile.theory.measure.budget import plan_budget

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "STAGES",
    "Canonical",
    "Costs",
    "Imported",
    "Lowered",
    "Quantized",
    "Stage",
    "import_stage",
    "open_staged",
    "run_stages",
    "stages_from",
    "unfolded_budget",
]

STAGES = ("import", "canonicalize", "quantize", "lower")
"""Those before the mapping, in order, as ``build --stop-after`` and ``build --dump`` name them."""
_PROOF_SAMPLES = 2


class Costs(msgspec.Struct, frozen=True):
    """What a stage's graph takes: counts by name."""

    model: str
    stage: str
    figures: dict[str, int | float | str]

    def __repr__(self) -> str:
        lines = [f"{self.model}, {self.stage}"]
        for name, value in self.figures.items():
            shown = f"{value:,}" if isinstance(value, (int, float)) else value
            lines.append(f"  {name:<24} {shown}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from neurocompile.notebook import html_table

        return html_table(f"{self.model}, {self.stage}", ("", ""), self.figures.items())


@dataclass(frozen=True)
class Stage:
    """What all stages share."""

    name: ClassVar[str]
    number: ClassVar[int]

    model: FloatModel
    """What was opened, with its options."""
    target: Target
    timer: Stages = field(repr=False)

    @property
    def graph(self) -> Graph:
        """The stage's graph; its ``tensors`` hold the numbers."""
        raise NotImplementedError

    def text(self) -> str:
        """The graph's text form (tensors by dtype and shape only)."""
        return self.graph.text()

    @guarded
    def costs(self) -> Costs:
        """What the graph takes, counted."""
        figures = dict(_figures(self.graph, self.target))
        return Costs(self.graph.name, self.name, figures)

    @guarded
    def dump(self, folder: str | Path) -> Path:
        """Write text and tensors to ``folder`` as ``N-STAGE.txt`` and ``.safetensors``, which
        ``neurocompile opt`` reads; the path of the text. NC5005 for what cannot be written.
        """
        path = as_path(folder, "NC5005")
        return write_graph(self.graph, path, f"{self.number}-{self.name}")

    @guarded
    def logits(self, x: np.ndarray) -> np.ndarray:
        """What the model returns for float32 ``x`` (samples, *input shape), its first output where
        there are several: float64 (samples, ...).
        """
        graph, host = self._spiking(), self.model.host
        stepwise = host is not None and host.stepwise
        name = step_source(graph) if stepwise else graph.output.name
        cut = evaluate(graph, self._input(x), self.steps, [name])[name]
        return self._returned(step_outputs(graph, cut) if stepwise else cut)

    @guarded
    def spikes(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Spikes of every layer, (samples, steps, *shape), by its name."""
        graph = self._spiking()
        names = [n.name for n in graph.spiking_layers]
        return evaluate(graph, self._input(x), self.steps, names)

    @property
    def steps(self) -> int:
        """Of a sample, T."""
        return self.model.options.steps

    def _returned(self, cut: np.ndarray) -> np.ndarray:
        """What the host makes of the chip's values, if it has a part."""
        host = self.model.host
        return np.asarray(cut if host is None else host.run(cut)[0][host.main], np.float64)

    def _spiking(self) -> s.SpikingGraph:
        assert isinstance(self.graph, s.SpikingGraph)
        return self.graph

    def _checked(self, x: Any) -> np.ndarray:
        node = self.model.graph.input
        return check_inputs(x, node.sample_shape, steps=node.steps)

    def _input(self, x: Any) -> np.ndarray:
        x = self._checked(x)
        node = self._spiking().input
        return encode_input(node, x) if self._spiking().stage == "quantized" else x

    def __repr__(self) -> str:
        costs = self.costs().figures
        told = ", ".join(f"{k} {v:,}" for k, v in list(costs.items())[:3] if isinstance(v, int))
        return f"<{type(self).__name__} '{self.graph.name}' for {self.target.name}: {told}>"

    def _repr_html_(self) -> str:
        return self.costs()._repr_html_()


@dataclass(frozen=True, repr=False)
class Imported(Stage):
    """A float model as it was read."""

    name = "import"
    number = 1

    agreement: float = 1.0
    """Share of its spikes that are equal to the model's own, on a few samples."""

    @property
    def graph(self) -> s.SpikingGraph:
        return self.model.graph

    @guarded
    def canonical(self) -> Canonical:
        """In canonical form: normalizations, factors and biases where the chip has them. What
        changes is float rounding alone.
        """
        with located(self.model), self.timer("canonicalize"):
            graph = canonical_graph(self.model, self.target)
        return Canonical(self.model, self.target, self.timer, self, graph)


@dataclass(frozen=True, repr=False)
class Canonical(Stage):
    """A float model in canonical form."""

    name = "canonicalize"
    number = 2

    imported: Imported = field(repr=False)
    made: s.SpikingGraph = field(repr=False)

    @property
    def graph(self) -> s.SpikingGraph:
        return self.made

    @guarded
    def quantize(
        self,
        *,
        T: int | None = None,
        weight_bits: int | None = None,
        calibration: np.ndarray | str | Path | None = None,
        device: str = "cpu",
    ) -> Quantized:
        """Integers, exact from here on.

        Args:
            T: steps of a sample; that of the options by default.
            weight_bits: 2 to 8; that of the options, or of the target, by default.
            calibration: float32 (samples, *input shape), or an .npz file with such an ``x``; that
                of ``open`` by default.
            device: where spike rates are measured on it: cpu, or one of torch's (docs/gpu.md).

        Raises:
            NeurocompileError: NC2001 and NC2002 for what has no integer form.
        """
        options = self.model.options
        given = {"T": T, "weight_bits": weight_bits}
        options = BuildOptions.of(options, {k: v for k, v in given.items() if v is not None})
        self.graph.input.check_steps(options.steps)
        if self.model.host is not None:
            self.model.host.check_steps(options.steps)
        model = replace(self.model, options=options)
        if calibration is not None:
            model = replace(model, samples=_samples(calibration, self.graph.input.sample_shape))
        check_device(device)
        with located(model):
            return self._quantized(model, device)

    def _quantized(self, model: FloatModel, device: str) -> Quantized:
        settled = model.options.settled(model.options.steps, self.target)
        with self.timer("calibrate"):
            statistics = statistics_of(model, self.graph, device)
        with self.timer("quantize"):
            fields = ChipFields.of(self.target)
            quantize = Quantize(
                settled.steps, statistics, settled.bits, digits=settled.digits, fields=fields
            )
            graph = quantize(self.graph)
        with self.timer("compare"):
            lost = examine_precision(
                self.graph, graph, quantize.precision, statistics, model.samples, settled.steps
            )
        return Quantized(
            model, self.target, self.timer, self.imported, graph, settled, statistics, lost
        )


@dataclass(frozen=True, repr=False)
class Quantized(Stage):
    """An integer model."""

    name = "quantize"
    number = 3

    imported: Imported = field(repr=False)
    made: s.SpikingGraph = field(repr=False)
    options: BuildOptions = field(repr=False)
    """Settled."""
    statistics: Calibration = field(repr=False)
    precision: tuple[LayerReport, ...] = field(repr=False)
    """What was lost, layer by layer, the least agreement first."""

    @property
    def graph(self) -> s.SpikingGraph:
        return self.made

    @guarded
    def lower(self, target: str | Path | None = None, *, fold: str | None = None) -> Lowered:
        """The scheduled circuit.

        Args:
            target: a shipped one's name, or the path of a YAML file; that of ``open`` by default.
            fold: rows x columns of the input in a window; that of the options by default.

        Raises:
            NeurocompileError: NC3104 for a fold that the model cannot have.
        """
        chip = self.target if target is None else load_target(target)
        given = {} if fold is None else {"fold": fold}
        options = msgspec.structs.replace(BuildOptions.of(self.options, given), target=chip.name)
        with located(self.model):
            circuit = circuit_of(self.graph, options, chip, self.timer)
        return Lowered(self.model, chip, self.timer, self, circuit, options)


@dataclass(frozen=True, repr=False)
class Lowered(Stage):
    """A circuit: populations and projections, with depths and delays."""

    name = "lower"
    number = 4

    quantized: Quantized = field(repr=False)
    circuit: CircuitGraph = field(repr=False)
    options: BuildOptions = field(repr=False)

    @property
    def graph(self) -> CircuitGraph:
        return self.circuit

    @guarded
    def logits(self, x: np.ndarray) -> np.ndarray:
        """The same, on the emulator."""
        circuit, host = self.circuit, self.model.host
        with Emulator().open(circuit) as executor:
            trace = executor.run(encode(circuit, self._checked(x)), [circuit.readouts[0].src])
        stepwise = host is not None and host.stepwise
        return self._returned((decode_steps if stepwise else decode)(circuit, trace))

    @guarded
    def spikes(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Spikes of every layer, (samples, steps, *shape), by its name."""
        views = self.circuit.views
        with Emulator().open(self.circuit) as executor:
            sources = list(dict.fromkeys(view.src for view in views))
            trace = executor.run(encode(self.circuit, self._checked(x)), sources)
        return {view.layer: view.read(trace[view.src], self.circuit.windows) for view in views}

    @guarded
    def map(
        self, *, seed: int | None = None, max_cores: int | None = None, budget: str | None = None
    ) -> Program:
        """Placed on cores: the program that ``compile`` returns.

        Args:
            seed, max_cores, budget: those of the options by default.

        Raises:
            NeurocompileError: ViolationList for what does not fit.
        """
        given = {"seed": seed, "max_cores": max_cores, "budget": budget}
        options = BuildOptions.of(self.options, {k: v for k, v in given.items() if v is not None})
        options, timer = unfolded_budget(options), self.timer
        done = self.quantized
        with located(self.model):
            built = place_model(
                done.graph,
                self.circuit,
                options,
                self.target,
                done.statistics,
                self.model.samples,
                timer,
            )
        options = msgspec.structs.replace(options, fold=built.fold)
        planned, mapping = None, built.mapping
        if options.budget is not None:
            with timer("budget"):
                planned = plan_budget(
                    parse_budget(options.budget),
                    done.graph,
                    built.circuit,
                    built.rates,
                    self.model.samples,
                    mapping.cores_used,
                )
                planned, mapping = apply_budget(
                    planned, built.circuit, built.rates, mapping, built.place
                )
        with timer("prove"):
            proof = make_proof(built.circuit, _PROOF_SAMPLES, options.seed)
        imported = done.imported
        manifest = Manifest(
            schema=SCHEMA_VERSION,
            tool=version("neurocompile"),
            model=imported.graph.name,
            source_sha256=self.model.sha256,
            exported_T=imported.graph.exported_T,
            options=options,
            import_agreement=imported.agreement,
            rates=built.rates,
            rates_source=built.rates_source,
            proof=proof,
            budget=planned,
        )
        return Program(
            done.graph,
            built.circuit,
            mapping,
            self.target,
            done.statistics,
            manifest,
            dict(timer.seconds),
            tuple(built.front),
            precision=done.precision,
            host=self.model.host,
        )


@guarded
@takes_options
def open_staged(
    model: str | Path | nn.Module,
    example_input: Any = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = False,
    **given: Any,
) -> Imported:
    """Read a model, and check the import on a few samples: the first stage of a build.

    Args and errors are those of :func:`neurocompile.pipeline.compile_model`.
    """
    asked = unfolded_budget(BuildOptions.of(options, given))
    chip = load_target(asked.target)
    return import_stage(model, example_input, asked, chip, calibration, Stages(progress))


def stages_from(imported: Imported, device: str = "cpu") -> Iterator[Stage]:
    """``imported`` and the stages behind it up to the circuit, each made when it is asked for."""
    yield imported
    canonical = imported.canonical()
    yield canonical
    quantized = canonical.quantize(device=device)
    yield quantized
    yield quantized.lower()


def run_stages(
    model: Any,
    example_input: Any,
    calibration: Any,
    options: BuildOptions,
    *,
    device: str = "cpu",
    progress: bool = False,
) -> Iterator[Stage]:
    """The stages of a build of ``model``, each made when it is asked for."""
    asked = unfolded_budget(options)
    chip, timer = load_target(asked.target), Stages(progress)
    imported = import_stage(model, example_input, asked, chip, calibration, timer)
    return stages_from(imported, device)


def import_stage(
    model: Any,
    example_input: Any,
    asked: BuildOptions,
    chip: Target,
    calibration: Any,
    timer: Stages,
) -> Imported:
    """:func:`open_staged` with options and target that are there already."""
    opened = open_model(model, example_input, asked, calibration=calibration, stages=timer)
    with timer("check import"):
        agreement = check_import(opened)
    return Imported(opened, chip, timer, agreement)


def unfolded_budget(options: BuildOptions) -> BuildOptions:
    """A budget's theory counts the steps of an unrolled model; NC8008 with a fold."""
    if options.budget is None or options.fold == "none":
        return options
    if options.fold != "auto":
        raise NeurocompileError(
            "NC8008",
            f"a budget of spikes is for a model that is not folded, and fold is {options.fold}: "
            "leave one of them out",
        )
    return msgspec.structs.replace(options, fold="none")


def _samples(calibration: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = calibration_of(calibration)
    if isinstance(found, Path):
        return load_samples(found, shape).x
    return check_inputs(found, shape, "calibration 'x'")


def _figures(graph: Graph, target: Target) -> Iterator[tuple[str, int | float | str]]:
    if isinstance(graph, CircuitGraph):
        shortages = CostCounter(graph, target).shortages()
        cores = max((n for _, n in shortages.values()), default=0)
        yield "neurons", sum(p.size for p in graph.populations if not isinstance(p, HostInput))
        yield "synapses", sum(synapse_count(graph, q) for q in graph.projections)
        yield "cores at least", cores
        yield "populations", len(graph.populations)
        yield "projections", len(graph.projections)
        yield "depth, steps", graph.depth
        yield "steps a sample", graph.sample_period
        return
    size = shapes(graph)
    weights = {n.weight for n in graph.nodes if isinstance(n, (s.Conv2d, s.Linear))}
    yield "layers", len(graph.spiking_layers)
    yield "neurons", sum(prod(size[n.name]) for n in graph.spiking_layers)
    yield "weights", sum(graph.tensors[name].size for name in weights)
    yield "nodes", len(graph.nodes)
    yield "multiplications a step", ann_macs(graph)
