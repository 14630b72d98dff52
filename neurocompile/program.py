"""A compiled program: what ``compile`` returns and an artifact holds, with everything one can do
with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.advice import warn
from neurocompile.backends import get_backend
from neurocompile.backends.base import Trace
from neurocompile.backends.encoding import decode, decode_steps, encode, share_outside
from neurocompile.calibration import Calibration
from neurocompile.data import check_inputs
from neurocompile.errors import NeurocompileError
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.ir.circuit import LIF, CircuitGraph, synapse_count
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.manifest import Manifest, Proof
from neurocompile.mapping import Mapping
from neurocompile.progress import chunks
from neurocompile.targets.schema import Target

if TYPE_CHECKING:
    from neurocompile.energy.report import EnergyReport
    from neurocompile.folding.search import FoldChoice
    from neurocompile.parity.report import ParityReport
    from neurocompile.precision import LayerReport
    from neurocompile.summary import Summary

__all__ = ["Program", "RunResult", "classes_of", "is_classifier", "make_proof", "no_classes"]

_CHUNK = 60
"""Samples of one call of a backend: bounds the memory of traces."""
_CHUNK_ON_DEVICE = 4096
"""Samples between two lines of progress; what fits a GPU at once is the evaluator's matter."""


@dataclass(frozen=True)
class RunResult:
    """``logits`` float64 (samples, ...), of the shape that the model returns, samples first;
    ``spikes``: layer -> spikes of all samples and steps.
    """

    backend: str
    banner: str
    logits: np.ndarray
    spikes: dict[str, int]
    neuron_steps: dict[str, int]
    step_logits: np.ndarray | None = None
    """Of a model with one set of logits a step: float64 (samples, T, ...), whose mean over T is
    ``logits``.
    """
    outside: float = 0.0
    """Share of the input's values outside of the calibrated range, which were clipped to it."""

    def __repr__(self) -> str:
        return (
            f"<RunResult of {self.backend}: outputs {list(self.logits.shape)}, "
            f"{sum(self.spikes.values()):,} spikes; {self.banner}>"
        )

    @property
    def predictions(self) -> np.ndarray:
        """Class of the largest logit, int64 (samples,); empty, (0,), of a model that is no
        classifier: its outputs are not (samples, two classes or more).
        """
        return classes_of(self.logits)

    def accuracy(self, y: np.ndarray) -> float:
        """Share of samples whose prediction is ``y``; NC1006 without predictions."""
        if not len(self.predictions):
            raise no_classes(self.logits)
        return float((self.predictions == y).mean())


def is_classifier(logits: np.ndarray) -> bool:
    """Whether ``logits`` are (samples, two classes or more)."""
    return logits.ndim == 2 and logits.shape[1] > 1


def classes_of(logits: np.ndarray) -> np.ndarray:
    """Class of the largest logit, int64 (samples,); empty where ``logits`` are no classes'."""
    return logits.argmax(axis=1) if is_classifier(logits) else np.zeros(0, np.int64)


def no_classes(logits: np.ndarray) -> NeurocompileError:
    """NC1006: an accuracy of outputs that are no classes'."""
    return NeurocompileError(
        "NC1006",
        f"outputs are {list(logits.shape)}, samples first: an accuracy needs (samples, two classes or more); "
        "compare RunResult.logits yourself",
    )


@dataclass(frozen=True)
class Program:
    """Integer model, circuit, mapping and how they came to be. Make one with
    :func:`neurocompile.compile`.
    """

    quantized: SpikingGraph
    circuit: CircuitGraph
    mapping: Mapping
    target: Target
    calibration: Calibration
    manifest: Manifest
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    """Time of each compilation stage; empty for a loaded program."""
    folds: tuple[FoldChoice, ...] = field(default=(), compare=False)
    """The Pareto front that the build chose from; empty for a loaded program, or one that was not
    to be folded.
    """

    precision: tuple[LayerReport, ...] = field(default=(), compare=False)
    """What quantization lost, layer by layer, the least agreement first; empty for a loaded
    program.
    """

    @property
    def fold(self) -> FoldChoice:
        """How the program is folded in time, and what that needs; ``fold.fold`` is ``none`` for an
        unrolled one.
        """
        from neurocompile.folding.search import choice_of

        return choice_of(self.circuit, self.target, self.manifest.options.fold)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        return self.quantized.input.sample_shape

    @property
    def frames(self) -> int:
        """Steps that each sample brings of its own (frames of events); 0 if it brings none."""
        return self.quantized.input.steps

    def checked(self, x: Any) -> np.ndarray:
        """``x`` as float32 (samples, *input shape), with a warning that says how much of it lies
        outside of the calibrated range, and is clipped to it; NC1006, NC1012 or NC1021.
        """
        x = check_inputs(x, self.input_shape, steps=self.frames)
        share, host = share_outside(self.circuit, x), self.circuit.inputs[0]
        if share:
            warn(
                f"{share:.2%} of the values of x lie outside of {host.low * host.scale:.4g}.."
                f"{host.high * host.scale:.4g}, the range of the calibration data, and are clipped to it: scale x as the "
                "calibration data were, or build with such samples (calibration, --calibration)"
            )
        return x

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what runs: the circuit with its tensors, and the target. Side files carry it
        to say whose they are.
        """
        found = hashlib.sha256(self.circuit.text().encode())
        found.update(self.target.name.encode())
        for name, tensor in sorted(self.circuit.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            found.update(np.ascontiguousarray(tensor).data)
        return found.hexdigest()

    def __repr__(self) -> str:
        return (
            f"<Program {self.manifest.model!r} on {self.target.name}: T = "
            f"{self.manifest.options.T}, {len(self.circuit.views)} layers, "
            f"{self.mapping.cores_used:,} of {self.target.cores:,} cores>"
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @guarded
    def energy(
        self,
        x: np.ndarray | None = None,
        profiles: Sequence[str | Path] = ("davies2018",),
        *,
        progress: bool = False,
    ) -> EnergyReport:
        """Spikes, operations, packets, energy and time (docs/energy.md).

        Args:
            x: float32 (samples, *input shape): counts are then measured on the emulator, otherwise
                modelled from the stored rates.
            profiles: names of shipped energy profiles, or paths; ``target`` is the target's own.
        """
        from neurocompile.energy.profile import load_profile, profile_of
        from neurocompile.energy.report import count_program, energy_report

        chosen = [
            profile_of(self.target) if name == "target" else load_profile(name) for name in profiles
        ]
        x = None if x is None else self.checked(x)
        return energy_report(self, count_program(self, x, progress=progress), chosen)

    @guarded
    def save(self, path: str | Path, *, signing_key: str | Path | None = None) -> None:
        """Write the artifact, whole or not at all; signed with the Ed25519 key of a PEM file if one
        is given.
        """
        from neurocompile.artifact.store import save_program

        save_program(self, path, signing_key)

    @guarded
    def summary(self) -> Summary:
        """Sizes, resources and expected spikes."""
        from neurocompile.summary import summarize

        return summarize(self)

    @guarded
    def run(
        self,
        x: np.ndarray,
        backend: str = "emulator",
        *,
        device: str = "cpu",
        progress: bool = False,
    ) -> RunResult:
        """Execute float32 ``x`` (samples, *input shape) on a backend: emulator, lava, lava-runtime
        or loihi.

        With a ``device`` of torch (cuda: all GPUs, cuda:N, torch-cpu) in place of the emulator, the
        quantized model's integers are evaluated there: the same spikes and logits.
        """
        x = self.checked(x)
        engine = get_backend(backend)
        if check_device(device) != "cpu":
            if backend != "emulator":
                raise NeurocompileError(
                    "NC1015", f"device {device} takes the emulator's place, not that of '{backend}'"
                )
            return self._run_on_device(x, device, progress)
        views = {v.src: v.layer for v in self.circuit.views}
        readout = self.circuit.readouts[0].src
        recorded = [readout] if backend == "loihi" else [readout, *views]
        logits, step_logits, spikes, sizes = (
            [],
            [],
            dict.fromkeys(views.values(), 0),
            dict.fromkeys(views.values(), 0),
        )
        with engine.open(self.circuit) as executor:
            for part in chunks(len(x), _CHUNK, engine.name, progress):
                trace = executor.run(encode(self.circuit, x[part]), recorded)
                logits.append(decode(self.circuit, trace))
                if self.circuit.readouts[0].per_step:
                    step_logits.append(decode_steps(self.circuit, trace))
                for population, layer in views.items():
                    if population in trace:
                        spikes[layer] += int(np.count_nonzero(trace[population]))
                        sizes[layer] += trace[population].size
        known = {layer for layer, n in sizes.items() if n}
        return RunResult(
            engine.name,
            engine.banner,
            self.outputs(np.concatenate(logits)),
            {k: v for k, v in spikes.items() if k in known},
            {k: v for k, v in sizes.items() if k in known},
            np.concatenate(step_logits) if step_logits else None,
            share_outside(self.circuit, x),
        )

    def _run_on_device(self, x: np.ndarray, device: str, progress: bool) -> RunResult:
        from neurocompile.gpu import Evaluator

        circuit, readout = self.circuit, self.circuit.readouts[0]
        evaluator = Evaluator(self.quantized, circuit.steps, device)
        layers = [v.layer for v in circuit.views]
        spikes, sizes = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)
        logits, step_logits = [], []
        for part in chunks(len(x), _CHUNK_ON_DEVICE, device, progress):
            found = evaluator.run(encode_input(self.quantized.input, x[part]))
            logits.append(found.logits)
            if readout.per_step:
                assert found.step_values is not None
                flat = found.step_values.reshape(*found.step_values.shape[:2], -1)
                bias = None if readout.bias is None else circuit.tensors[readout.bias]
                step_logits.append(readout.values(flat, bias))
            for layer in layers:
                spikes[layer] += found.spikes[layer]
                sizes[layer] += found.neuron_steps[layer]
        whole = np.concatenate(logits).reshape(len(x), *(readout.shape or (-1,)))
        return RunResult(
            "definition",
            f"the quantized model's integers by {evaluator.name} (bit-exact), NOT hardware",
            self.outputs(whole),
            spikes,
            sizes,
            np.concatenate(step_logits) if step_logits else None,
            share_outside(circuit, x),
        )

    def outputs(self, logits: np.ndarray) -> np.ndarray:
        """What the model returns, float64 (samples, ...), of the ``logits`` (samples, ...) that the
        chip's part of it gives.
        """
        return logits

    @guarded
    def trace(
        self, x: np.ndarray, record: Collection[str] | None = None, backend: str = "emulator"
    ) -> Trace:
        """Every population's output (or those of ``record``): name -> (samples, T, *shape)."""
        x = self.checked(x)
        with get_backend(backend).open(self.circuit) as executor:
            return executor.run(encode(self.circuit, x), record)

    @guarded
    def parity(
        self,
        x: np.ndarray,
        y: np.ndarray | None = None,
        *,
        against: Sequence[str] = ("emulator", "lava"),
        reference: str | Path | None = None,
        device: str = "cpu",
        progress: bool = False,
    ) -> ParityReport:
        """Compare with backends, spike for spike, and with the float model:
        :func:`neurocompile.parity.check.parity`.
        """
        from neurocompile.parity.check import parity

        return parity(
            self, x, y, against=against, reference=reference, device=device, progress=progress
        )

    @property
    def spiking_neurons(self) -> int:
        """Neurons that emit spikes (not graded values)."""
        return sum(p.size for p in self.circuit.populations if isinstance(p, LIF))

    @property
    def synapses(self) -> int:
        """Connections, unrolled."""
        return sum(synapse_count(self.circuit, p) for p in self.circuit.projections)


def make_proof(circuit: CircuitGraph, samples: int, seed: int) -> Proof:
    """Run pseudo-random inputs on the emulator and hash every population's output."""
    host = circuit.inputs[0]
    x = np.random.default_rng(seed).integers(
        host.low, host.high + 1, (samples, *circuit.input_shape), dtype=np.int32
    )
    with get_backend("emulator").open(circuit) as executor:
        trace = executor.run(x)
    digest = hashlib.sha256()
    for name in sorted(trace):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(trace[name], "<i4").tobytes())
    return Proof(samples, seed, digest.hexdigest())
