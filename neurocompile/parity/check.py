"""Parity in two halves.

(a) Exact: the emulator against the quantized model evaluated from its definitions, every layer;
every other backend against the emulator, every population. Every sample, every step, aligned by
depth. One difference is a defect.

(b) Float: the reference model against the quantized one, a layer at a time: how many spikes agree,
and which layer parts first. These differ by rounding weights to integers; the figures explain the
accuracy.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from os import PathLike
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.backends import get_backend
from neurocompile.backends.base import Backend, Executor
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, decode_steps, encode, share_outside
from neurocompile.data import check_labels
from neurocompile.errors import NeurocompileError
from neurocompile.gpu.definition import Definition, definition_on
from neurocompile.guard import guarded
from neurocompile.images.build import ImageBuilder
from neurocompile.images.compare import why_different
from neurocompile.images.machine import CoreMachine
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input, step_outputs, step_source
from neurocompile.parity.report import (
    BackendParity,
    Difference,
    FloatParity,
    HeadParity,
    LayerParity,
    ParityReport,
)
from neurocompile.program import classes_of, is_classifier
from neurocompile.progress import chunks
from neurocompile.reference.base import ReferenceRun

if TYPE_CHECKING:
    from neurocompile.frontends.model import FloatModel
    from neurocompile.host.part import HostPart
    from neurocompile.ir.spiking import SpikingGraph
    from neurocompile.program import Program

__all__ = ["compare_backend", "compare_executor", "parity"]

_CHUNK = 30
"""Samples whose full traces are held at once."""
_CHUNK_VALUES = 1 << 28
"""Values of these traces."""
RUNTIME_SAMPLES = 4
"""Samples for lava-runtime unless the caller gives fewer: it runs some twenty steps a second."""


@guarded
def parity(
    program: Program,
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    against: Sequence[str] = ("emulator", "lava"),
    reference: Any = None,
    example_input: Any = None,
    device: str = "cpu",
    runtime_samples: int = RUNTIME_SAMPLES,
    progress: bool = False,
) -> ParityReport:
    """Check ``program`` on float32 ``x`` (samples, *input shape).

    Args:
        y: labels, for the accuracies of the float half.
        against: backends of the exact half.
        reference: the model the program was compiled from, whatever :func:`neurocompile.compile`
            takes; None leaves the float half out.
        example_input: to trace a module with, where it does not take samples as ``x`` has them.
        device: cpu, or cuda, cuda:N or torch-cpu: where the quantized model is evaluated by its
            definition, and SpikingJelly runs.
        runtime_samples: lava-runtime sees only so many samples, the first.
        progress: count samples on stderr, if it is a terminal.
    """
    from neurocompile.program import Program

    if not isinstance(program, Program):
        raise NeurocompileError(
            "NC1015",
            f"program is a {type(program).__name__}; what compile() or load() gives is needed",
        )
    x = program.checked(x)
    y = None if y is None else check_labels(y, len(x))
    against = _names(against)
    for name in against:
        get_backend(name)  # unknown ones are refused before any of them runs
    definition = definition_on(program.quantized, program.circuit.steps, device)
    results = []
    for name in against:
        part = x[:runtime_samples] if name == "lava-runtime" else x
        results.append(
            _emulator(program, part, definition, progress)
            if name == "emulator"
            else _backend(program, name, part, progress)
        )
    halves = (
        None
        if reference is None
        else _float_half(program, x, y, reference, definition, device, example_input)
    )
    return ParityReport(
        program.manifest.model,
        program.circuit.steps,
        tuple(results),
        halves,
        program.fingerprint,
        share_outside(program.circuit, x),
        () if program.host is None else tuple(program.host.operators),
    )


def _names(against: object) -> tuple[str, ...]:
    if isinstance(against, str):
        return (against,)
    try:
        return tuple(against)  # type: ignore[arg-type]
    except Exception as error:  # no sequence, or one that cannot be gone through
        raise NeurocompileError(
            "NC4005", f"against is a {type(against).__name__}; a tuple of backends' names is needed"
        ) from error


def _emulator(
    program: Program, x: np.ndarray, definition: Definition, progress: bool
) -> BackendParity:
    start, circuit = time.perf_counter(), program.circuit
    layers = [v.layer for v in circuit.views]
    sources = {v.src for v in circuit.views} | {circuit.readouts[0].src}
    counter, source = _Counter(), step_source(program.quantized)
    stepwise = program.host is not None and program.host.stepwise
    recorded = [*layers, program.quantized.output.name, *([source] if stepwise else [])]
    with Emulator().open(circuit) as executor:
        for chunk in chunks(len(x), _CHUNK, "emulator", progress):
            first, part = chunk.start, x[chunk]
            integers = encode_input(program.quantized.input, part)
            expected = definition(integers, recorded)
            trace = executor.run(encode(circuit, part), sources)
            for view in circuit.views:
                found = view.read(trace[view.src], circuit.windows)
                counter.add(view.layer, view.src, expected[view.layer], found, first)
            # what the host reads is compared as the integers that it is multiples of
            unit = circuit.readouts[0].scale / circuit.steps
            logits = (expected[program.quantized.output.name], decode(circuit, trace))
            meant, got = (np.rint(v / unit).astype(np.int64)[:, None] for v in logits)
            counter.add("logits", circuit.readouts[0].src, meant, got, first)
            if stepwise:
                cuts = (
                    step_outputs(program.quantized, expected[source]),
                    decode_steps(circuit, trace),
                )
                meant, got = (np.rint(v / circuit.readouts[0].scale).astype(np.int64) for v in cuts)
                counter.add("logits", circuit.readouts[0].src, meant, got, first)
    return BackendParity(
        "emulator",
        Emulator.banner,
        "the quantized model, evaluated from its definitions",
        len(x),
        len(circuit.views) + 1,
        counter.values,
        counter.differences,
        counter.first,
        time.perf_counter() - start,
    )


def _backend(program: Program, name: str, x: np.ndarray, progress: bool) -> BackendParity:
    integers = encode(program.circuit, x)
    opened = program.open(name)
    found = compare_executor(program.circuit, get_backend(name), opened, integers, progress)
    if found.first is None or not isinstance(opened, CoreMachine):
        return found
    builder = ImageBuilder(program.circuit, program.mapping, program.target)
    where = why_different(opened.images, builder, found.first.population, found.first.neuron)
    return msgspec.structs.replace(found, first=msgspec.structs.replace(found.first, where=where))


def compare_backend(
    circuit: CircuitGraph, name: str, x: np.ndarray, progress: bool = False
) -> BackendParity:
    """Backend ``name`` against the emulator: :func:`compare_executor`."""
    engine = get_backend(name)
    return compare_executor(circuit, engine, engine.open(circuit), x, progress)


def compare_executor(
    circuit: CircuitGraph, engine: Backend, opened: Executor, x: np.ndarray, progress: bool = False
) -> BackendParity:
    """What ``engine`` has opened against the emulator on encoded int32 ``x``: every population,
    sample and step.
    """
    start, name, counter = time.perf_counter(), engine.name, _Counter()
    populations = 0
    values = circuit.sample_steps * sum(p.size for p in circuit.populations)
    at_once = max(1, min(_CHUNK, _CHUNK_VALUES // max(values, 1)))
    with ExitStack() as stack:
        executor, emulator = (
            stack.enter_context(opened),
            stack.enter_context(Emulator().open(circuit)),
        )
        for chunk in chunks(len(x), at_once, name, progress):
            first, part = chunk.start, x[chunk]
            found = executor.run(part)
            expected = emulator.run(part, list(found))
            populations = len(found)
            for (
                p
            ) in circuit.populations:  # in depth order, so that the first difference is the cause
                if p.name in found:
                    counter.add(p.layer, p.name, expected[p.name], found[p.name], first)
    return BackendParity(
        name,
        engine.banner,
        "the emulator",
        len(x),
        populations,
        counter.values,
        counter.differences,
        counter.first,
        time.perf_counter() - start,
    )


class _Counter:
    """Counts differences and keeps the first."""

    def __init__(self) -> None:
        self.values = self.differences = 0
        self.first: Difference | None = None

    def add(
        self,
        layer: str,
        population: str,
        expected: np.ndarray,
        found: np.ndarray,
        first_sample: int,
    ) -> None:
        """Compare (samples, steps, ...) arrays."""
        if expected.shape != found.shape:
            raise NeurocompileError(
                "NC9001", f"'{population}': shapes {expected.shape} and {found.shape} differ"
            )
        self.values += expected.size
        wrong = expected != found
        count = int(np.count_nonzero(wrong))
        self.differences += count
        if count and self.first is None:
            sample, step, *neuron = (int(i[0]) for i in np.nonzero(wrong))
            place = (sample, step, *neuron)
            self.first = Difference(
                str(layer),
                str(population),
                first_sample + sample,
                step,
                tuple(neuron),
                int(expected[place]),
                int(found[place]),
            )


def _float_half(
    program: Program,
    x: np.ndarray,
    y: np.ndarray | None,
    reference: Any,
    definition: Definition,
    device: str,
    example_input: Any,
) -> FloatParity:
    run = run_reference(program, x, reference, device, example_input)
    counter = _Counter()
    equal: dict[str, float] = {}
    rates: dict[str, Any] = {}
    parts: list[dict[str, np.ndarray]] = []
    layers = [v.layer for v in program.circuit.views]
    for chunk in chunks(len(x), _CHUNK, "float model", False):
        first, part = chunk.start, x[chunk]
        integers = encode_input(program.quantized.input, part)
        ours, outputs = _evaluated(program.quantized, program.host, definition, integers, layers)
        parts.append(dict(zip(program.output_names, outputs, strict=True)))
        for layer in layers:
            theirs = run.layers[layer][first : first + len(part)].reshape(ours[layer].shape)
            counter.add(layer, layer, theirs, ours[layer], first)
            sums = equal.get(layer, 0) + int((theirs == ours[layer]).sum())
            totals = rates.get(layer, np.zeros(3)) + (theirs.sum(), ours[layer].sum(), theirs.size)
            equal[layer], rates[layer] = sums, totals
    wanted = dict(zip(program.output_names, run.outputs, strict=True))
    found = {name: np.concatenate([p[name] for p in parts]) for name in wanted}
    heads = tuple(_head(name, wanted[name], found[name]) for name in wanted)
    main = heads[program.output_names.index(program.main)]
    quantized, float_model = classes_of(found[main.name]), classes_of(wanted[main.name])
    labelled = y is not None and is_classifier(found[main.name])
    return FloatParity(
        reference=run.what,
        samples=len(x),
        layers=tuple(
            LayerParity(
                k,
                float(equal[k] / rates[k][2]),
                float(rates[k][0] / rates[k][2]),
                float(rates[k][1] / rates[k][2]),
            )
            for k in layers
        ),
        parts=counter.first,
        same_predictions=main.same_predictions,
        accuracy_reference=float((float_model == y).mean()) if labelled else None,
        accuracy_quantized=float((quantized == y).mean()) if labelled else None,
        output_error=main.output_error,
        heads=heads,
    )


def _head(name: str, wanted: np.ndarray, found: np.ndarray) -> HeadParity:
    if found.shape != wanted.shape:
        shapes = f"{found.shape} and {wanted.shape}"
        raise NeurocompileError("NC9001", f"the shapes of output '{name}' differ: {shapes}")
    ours, theirs = classes_of(found), classes_of(wanted)
    return HeadParity(
        name,
        list(found.shape[1:]),
        _rms(found - wanted) / max(_rms(wanted), 1e-12),
        float((ours == theirs).mean()) if len(ours) else None,
    )


def _evaluated(
    graph: SpikingGraph,
    host: HostPart | None,
    definition: Definition,
    x: np.ndarray,
    layers: list[str],
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...]]:
    """Values of ``layers``, and the outputs, by the definition of ``graph``."""
    source = step_source(graph)
    stepwise = host is not None and host.stepwise
    names = [*layers, graph.output.name, *([source] if stepwise else [])]
    values = definition(x, names)
    cut = step_outputs(graph, values[source]) if stepwise else values[graph.output.name]
    return values, (cut,) if host is None else tuple(host.run(cut)[0].values())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def run_reference(
    program: Program, x: np.ndarray, source: Any, device: str, example_input: Any = None
) -> ReferenceRun:
    """The float model ``source`` on ``x``: SpikingJelly if it is installed, onnxruntime otherwise.

    onnxruntime knows only the T of the file; for another T without SpikingJelly neurocompile's own
    float evaluation runs. NC1006 if it is not the model that the program was compiled from.

    Args:
        source: whatever :func:`neurocompile.compile` takes; ``example_input`` as there, by default
            the first samples.
    """
    from neurocompile.frontends.door import open_model

    is_path = isinstance(source, (str, PathLike))
    example = None if is_path else x[:2] if example_input is None else example_input
    asked = msgspec.structs.replace(program.manifest.options, per_sample_lif=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the build said already
        try:
            model = open_model(source, example, asked)
        except NeurocompileError:
            if asked.head is None:
                raise
            # a module's file has the head that was chosen alone
            model = open_model(source, example, msgspec.structs.replace(asked, head=None))
    if model.sha256 != program.manifest.source_sha256:
        _check_same(program, model)
    steps, host = program.circuit.steps, model.host
    device = "cpu" if device == "torch-cpu" else device
    if device != "cpu" or (find_spec("torch") and find_spec("spikingjelly")):
        from neurocompile.reference.spikingjelly import run_spikingjelly

        stepwise = host is not None and host.stepwise
        found = run_spikingjelly(model.graph, x, steps, device, stepwise)
        if host is None:
            return found
        logits, *others = host.run(found.logits)[0].values()
        return replace(found, logits=logits, others=tuple(others))
    if steps == model.graph.exported_T:
        return model.reference.run(x)
    layers = [n.name for n in model.graph.spiking_layers]
    float_model = definition_on(model.graph, steps, "cpu")
    values, outputs = _evaluated(model.graph, host, float_model, x, layers)
    spikes = {name: values[name].astype(np.uint8) for name in layers}
    return ReferenceRun("neurocompile's float evaluation, float32", outputs[0], spikes, outputs[1:])


def _check_same(program: Program, model: FloatModel) -> None:
    """NC1006 unless ``model``, in another file or with statistics of other data, has the integers
    of ``program`` when quantized with its calibration.
    """
    from neurocompile.build_steps import canonical_graph
    from neurocompile.passes.quantize import Quantize
    from neurocompile.targets.fields import ChipFields

    options, mine = program.manifest.options, program.quantized
    why = f"SHA-256 {model.sha256[:12]}, expected {program.manifest.source_sha256[:12]}"
    try:
        canonical = canonical_graph(model, program.target)
        other = Quantize(
            options.steps,
            program.calibration,
            options.bits,
            digits=options.digits,
            fields=ChipFields.of(program.target),
        )(canonical)
    except NeurocompileError as error:
        why, other = f"it is refused with the program's calibration: {error.message}", None
    same = (
        other is not None
        and model.host == program.host
        and other.nodes == mine.nodes
        and other.tensors.keys() == mine.tensors.keys()
        and all(np.array_equal(other.tensors[name], t) for name, t in mine.tensors.items())
    )
    if not same:
        raise NeurocompileError(
            "NC1006",
            f"{model.origin} is not the model that the program was compiled from: quantized with the "
            f"program's calibration it has other integers ({why})",
        )
