"""The sweep of T on the emulator: accuracy, spikes and error of a model at each number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.evaluate import encode_input
from neurocompile.parameters import count
from neurocompile.progress import chunks
from neurocompile.theory.measure.subject import Subject

__all__ = [
    "STEPS",
    "Point",
    "Run",
    "reference_steps",
    "run_at",
    "smallest",
    "sweep",
    "synaptic_operations",
]

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_CHUNK, _CHUNK_ON_DEVICE = 8, 1024
"""Samples between two looks at how far a run is."""


@dataclass(frozen=True)
class Run:
    """A model on samples for T steps. ``spikes`` are of the model's layers, an inference;
    ``messages`` of every population, graded ones included, by population's name; empty where a device
    computed the layers alone."""

    T: int
    logits: np.ndarray
    spikes: dict[str, float]
    messages: dict[str, float]

    @property
    def total(self) -> float:
        """Spikes of the model's layers, an inference."""
        return sum(self.spikes.values())


@dataclass(frozen=True)
class Point:
    """What a sweep found at T. ``eps``: root mean square over samples of the Euclidean distance of
    the logits from those at the reference T."""

    T: int
    eps: float
    spikes: float
    accuracy: float | None


def run_at(
    subject: Subject, x: np.ndarray, T: int, progress: bool = False, *, helpers: bool = True
) -> Run:
    """Run float32 ``x`` (samples, *input shape) at ``T`` steps on the emulator, or, without messages,
    on the subject's device.

    Nothing is kept but counts and logits. Without the ``helpers`` of the layers their messages are
    not counted, which takes half of the time.
    """
    count("samples", len(x))
    if subject.device != "cpu":
        return _run_on_device(subject, x, T, progress)
    circuit = subject.at(T)[1]
    readout, layers = circuit.readouts[0].src, {v.src for v in circuit.views}
    names = [p.name for p in circuit.populations if helpers or p.name in layers]
    logits, messages = [], dict.fromkeys(names, 0)
    with Emulator().open(circuit) as executor:
        for part in chunks(len(x), _CHUNK, f"emulator, T = {T}", progress):
            encoded = encode(circuit, x[part])
            logits.append(decode(circuit, executor.run(encoded, [readout])))
            for name, number in executor.messages(encoded, names).items():
                messages[name] += number
    per = {name: number / len(x) for name, number in messages.items()}
    spikes = {v.layer: per[v.src] for v in circuit.views}
    return Run(T, np.concatenate(logits), spikes, per if helpers else {})


def _run_on_device(subject: Subject, x: np.ndarray, T: int, progress: bool) -> Run:
    from neurocompile.gpu import Evaluator

    quantized, circuit = subject.at(T)
    evaluator = Evaluator(quantized, T, subject.device)
    logits, spikes = [], dict.fromkeys((v.layer for v in circuit.views), 0)
    for part in chunks(len(x), _CHUNK_ON_DEVICE, f"{subject.device}, T = {T}", progress):
        found = evaluator.run(encode_input(quantized.input, x[part]))
        logits.append(found.logits.reshape(len(found.logits), -1))
        spikes = {layer: n + found.spikes[layer] for layer, n in spikes.items()}
    return Run(T, np.concatenate(logits), {k: n / len(x) for k, n in spikes.items()}, {})


def reference_steps(steps: Sequence[int]) -> int:
    """The T that stands for infinity in a sweep over ``steps``: four times the largest, at least
    64.
    """
    count("the number of steps to compare", len(steps))
    return max(64, 4 * max(steps))


def sweep(
    subject: Subject,
    x: np.ndarray,
    y: np.ndarray | None,
    steps: Sequence[int] = STEPS,
    progress: bool = False,
) -> tuple[Point, ...]:
    """Every T of ``steps`` on the same samples, and the error against :func:`reference_steps`."""
    far = run_at(subject, x, reference_steps(steps), progress, helpers=False).logits
    points = []
    for T in steps:
        try:
            run = run_at(subject, x, T, progress, helpers=False)
        except NeurocompileError as error:
            if error.code != "NC2012":  # a softmax has phases: fewer steps than these do not exist
                raise
            continue
        eps = float(np.sqrt(((run.logits - far) ** 2).sum(axis=1).mean()))
        accuracy = None if y is None else float((run.logits.argmax(axis=1) == y).mean())
        points.append(Point(T, eps, run.total, accuracy))
    return tuple(points)


def smallest(
    points: Sequence[Point], eps: float | None = None, accuracy: float | None = None
) -> Point | None:
    """The first point (by T) whose error is at most ``eps`` and whose accuracy is at least
    ``accuracy``; None if none is.
    """
    for point in sorted(points, key=lambda p: p.T):
        if eps is not None and point.eps > eps:
            continue
        if accuracy is not None and (point.accuracy is None or point.accuracy < accuracy):
            continue
        return point
    return None


def synaptic_operations(circuit: c.CircuitGraph, messages: dict[str, float]) -> float:
    """Messages times the mean fan-out of their population: synaptic operations an inference
    (modelled: borders averaged).
    """
    total = 0.0
    for projection in circuit.projections:
        source = circuit.population[projection.src]
        total += messages.get(source.name, 0.0) * c.synapse_count(circuit, projection) / source.size
    return total
