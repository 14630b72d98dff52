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
from collections.abc import Sequence
from contextlib import ExitStack
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
from neurocompile.parity.counter import Counter
from neurocompile.parity.float_half import CHUNK, float_half
from neurocompile.parity.report import BackendParity, ParityReport
from neurocompile.progress import chunks

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["compare_backend", "compare_executor", "parity"]

_CHUNK_VALUES = 1 << 28
"""Values of full traces that are held at once."""
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
        else float_half(program, x, y, reference, definition, device, example_input)
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
    counter, source = Counter(), step_source(program.quantized)
    stepwise = program.host is not None and program.host.stepwise
    recorded = [*layers, program.quantized.output.name, *([source] if stepwise else [])]
    with Emulator().open(circuit) as executor:
        for chunk in chunks(len(x), CHUNK, "emulator", progress):
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
    start, name, counter = time.perf_counter(), engine.name, Counter()
    populations = 0
    values = circuit.sample_steps * sum(p.size for p in circuit.populations)
    at_once = max(1, min(CHUNK, _CHUNK_VALUES // max(values, 1)))
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
