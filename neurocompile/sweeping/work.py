"""What a worker of a sweep computes: plain functions of values, integers and seeds alone, so that it
does not matter where they run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.backends.emulator import Emulator, EmulatorExecutor
from neurocompile.backends.encoding import decode, decode_steps, encode
from neurocompile.energy.profile import load_profile, profile_of
from neurocompile.energy.report import count_program, energy_report
from neurocompile.errors import NeurocompileError
from neurocompile.host.part import HostPart
from neurocompile.ir.circuit import HostInput
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.lower import lower
from neurocompile.stages import Quantized
from neurocompile.sweeping.records import Placement, Problem

__all__ = ["Part", "Work", "digest", "evaluated", "evaluated_on", "placed", "problem_of"]

_CHUNK = 64
_CHUNK_ON_DEVICE = 1024


@dataclass(frozen=True)
class Work:
    """Integers to be evaluated."""

    graph: SpikingGraph
    T: int
    bits: int
    host: HostPart | None
    sha256: str


@dataclass(frozen=True)
class Part:
    """What :func:`evaluated` finds on some samples."""

    logits: np.ndarray
    """float64 (samples, ...)."""
    spikes: dict[str, int]
    neuron_steps: dict[str, int]


_prepared: dict[str, tuple[Any, EmulatorExecutor]] = {}
"""The circuit that this process ran last, by the hash of its integers."""


def evaluated(work: Work, x: np.ndarray, threads: int | None) -> Part:
    """Logits and spikes of float32 ``x`` (samples, *input shape), on the emulator."""
    if work.sha256 not in _prepared:
        _prepared.clear()
        circuit = lower(work.graph, work.T, work.bits)
        _prepared[work.sha256] = circuit, Emulator(threads).open(circuit)
    circuit, executor = _prepared[work.sha256]
    readout = circuit.readouts[0].src
    layers = {v.src: v.layer for v in circuit.views}
    spikes, sizes = (dict.fromkeys(layers.values(), 0) for _ in range(2))
    stepwise = work.host is not None and work.host.stepwise
    logits = []
    for start in range(0, len(x), _CHUNK):
        trace = executor.run(encode(circuit, x[start : start + _CHUNK]), [readout, *layers])
        logits.append((decode_steps if stepwise else decode)(circuit, trace))
        for population, layer in layers.items():
            spikes[layer] += int(np.count_nonzero(trace[population]))
            sizes[layer] += trace[population].size
    return Part(_outputs(work.host, np.concatenate(logits)), spikes, sizes)


def evaluated_on(work: Work, x: np.ndarray, device: str) -> Part:
    """The same on a torch device, exactly."""
    from neurocompile.gpu import Evaluator

    evaluator = Evaluator(work.graph, work.T, device)
    stepwise = work.host is not None and work.host.stepwise
    circuit = lower(work.graph, work.T, work.bits) if stepwise else None
    logits: list[np.ndarray] = []
    spikes: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for start in range(0, len(x), _CHUNK_ON_DEVICE):
        part = encode_input(work.graph.input, x[start : start + _CHUNK_ON_DEVICE])
        found = evaluator.run(part)
        if circuit is None:
            logits.append(found.logits)
        else:
            assert found.step_values is not None
            readout, steps = circuit.readouts[0], found.step_values
            bias = None if readout.bias is None else circuit.tensors[readout.bias]
            logits.append(readout.values(steps.reshape(*steps.shape[:2], -1), bias))
        for layer in found.spikes:
            spikes[layer] = spikes.get(layer, 0) + found.spikes[layer]
            sizes[layer] = sizes.get(layer, 0) + found.neuron_steps[layer]
    return Part(_outputs(work.host, np.concatenate(logits)), spikes, sizes)


def _outputs(host: HostPart | None, cut: np.ndarray) -> np.ndarray:
    """What the model returns, of what the chip gives."""
    return np.asarray(cut if host is None else host.run(cut)[0][host.main], np.float64)


def placed(
    quantized: Quantized, fold: str, x: np.ndarray, profiles: tuple[str, ...], sha256: str
) -> Placement:
    """Map ``quantized`` with ``fold``, count float32 ``x`` (none: from the rates), and price it.

    What stands in the way is the record's problem; nothing is raised.
    """
    try:
        program = quantized.lower(fold=fold).map()
        prices = [
            profile_of(program.target) if n == "target" else load_profile(n) for n in profiles
        ]
        found = energy_report(program, count_program(program, x if len(x) else None), prices)
    except NeurocompileError as error:
        return Placement(integers_sha256=sha256, problem=problem_of(error))
    circuit, counts = program.circuit, found.counts
    return Placement(
        fold=program.manifest.options.fold,
        cores=program.mapping.cores_used,
        chips=found.chips,
        steps=circuit.sample_period,
        depth=circuit.depth,
        neurons=sum(p.size for p in circuit.populations if not isinstance(p, HostInput)),
        basis=found.basis,
        packets=counts["packets"],
        hops=counts["hops_east_west"] + counts["hops_north_south"],
        operations=counts["synops_dense"] + counts["synops_sparse"] + counts["synops_convolution"],
        spikes=counts["spikes"],
        energy_pj={n: e.dynamic_pj for n, e in zip(profiles, found.energies)},
        bound_pj={n: e.bound_pj for n, e in zip(profiles, found.energies)},
        integers_sha256=sha256,
        program_sha256=program.fingerprint,
    )


def problem_of(error: NeurocompileError) -> Problem:
    """``error`` as a record keeps it."""
    return Problem(error.code, error.message)


def digest(graph: SpikingGraph, host: HostPart | None) -> str:
    """SHA-256 of what is evaluated."""
    found = hashlib.sha256(graph.text().encode())
    for name, tensor in sorted(graph.tensors.items()):
        found.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        found.update(np.ascontiguousarray(tensor).data)
    if host is not None:
        found.update(host.content)
    return found.hexdigest()
