"""Samples in parts through a circuit on a backend, or through the quantized model on a device, and
what they gave together.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from neurocompile.backends import get_backend
from neurocompile.backends.base import Executor
from neurocompile.backends.encoding import decode, decode_steps, encode
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.progress import chunks

__all__ = ["Ran", "check_where", "run_on_backend", "run_on_device"]

_CHUNK = 60
"""Samples of one call of a backend: bounds the memory of traces."""
_CHUNK_ON_DEVICE = 4096
"""Samples between two lines of progress; what fits a GPU at once is the evaluator's matter."""


def check_where(backend: str, device: str, rasters: bool) -> None:
    """NC4001 or NC1015 for a backend and device that there are not, or not together."""
    get_backend(backend)
    if rasters and (device != "cpu" or backend == "loihi"):
        where = backend if device == "cpu" else f"device {device}"
        raise NeurocompileError(
            "NC1015", f"rasters are not read back from {where}; take backend 'emulator'"
        )
    if device != "cpu" and backend != "emulator":
        raise NeurocompileError(
            "NC1015", f"device {device} takes the emulator's place, not that of '{backend}'"
        )


@dataclass
class Ran:
    """What all parts gave together."""

    name: str
    """Of what ran, and what it is in a sentence."""
    banner: str
    cuts: list[np.ndarray] = field(default_factory=list)
    """Float64 (samples, ...) of the chip's last values, or (samples, T, ...) if read each step."""
    spikes: dict[str, int] = field(default_factory=dict)
    """By layer; and its neurons times steps."""
    neuron_steps: dict[str, int] = field(default_factory=dict)
    kept: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Rasters by layer, if asked for."""

    def count(self, layer: str, spikes: int, neuron_steps: int) -> None:
        """Add a part's."""
        self.spikes[layer] = self.spikes.get(layer, 0) + spikes
        self.neuron_steps[layer] = self.neuron_steps.get(layer, 0) + neuron_steps

    @property
    def rasters(self) -> dict[str, np.ndarray]:
        return {layer: np.concatenate(parts) for layer, parts in self.kept.items()}


def run_on_backend(
    circuit: CircuitGraph,
    opened: AbstractContextManager[Executor],
    x: np.ndarray,
    backend: str,
    *,
    rasters: bool,
    progress: bool,
) -> Ran:
    """What ``backend`` gives of float32 ``x`` (samples, *input shape*), which were checked, by the
    executor that it ``opened``.
    """
    engine = get_backend(backend)
    ran = Ran(engine.name, engine.banner)
    views = [] if backend == "loihi" else circuit.views
    readout = circuit.readouts[0]
    read = decode_steps if readout.per_step else decode
    with opened as executor:
        for part in chunks(len(x), _CHUNK, engine.name, progress):
            trace = executor.run(
                encode(circuit, x[part]), [readout.src, *(view.src for view in views)]
            )
            ran.cuts.append(read(circuit, trace))
            for view in circuit.views:
                if view.src not in trace:
                    continue
                sent = trace[view.src]
                if circuit.windows > 1 or rasters:  # what folds compute twice counts once
                    sent = view.read(sent, circuit.windows)
                ran.count(view.layer, int(np.count_nonzero(sent)), sent.size)
                if rasters:
                    ran.kept.setdefault(view.layer, []).append(_narrow(sent))
    return ran


def run_on_device(
    quantized: SpikingGraph, circuit: CircuitGraph, x: np.ndarray, device: str, progress: bool
) -> Ran:
    """What the quantized model's integers give of float32 ``x`` (samples, *input shape*) on a
    ``device`` of torch: the same spikes and values as the emulator's.
    """
    from neurocompile.gpu import Evaluator

    evaluator, readout = Evaluator(quantized, circuit.steps, device), circuit.readouts[0]
    banner = f"the quantized model's integers by {evaluator.name} (bit-exact), NOT hardware"
    ran = Ran("definition", banner)
    for part in chunks(len(x), _CHUNK_ON_DEVICE, device, progress):
        found = evaluator.run(encode_input(quantized.input, x[part]))
        if readout.per_step:
            assert found.step_values is not None
            flat = found.step_values.reshape(*found.step_values.shape[:2], -1)
            bias = None if readout.bias is None else circuit.tensors[readout.bias]
            ran.cuts.append(readout.values(flat, bias))
        else:
            ran.cuts.append(found.logits.reshape(len(found.logits), *(readout.shape or (-1,))))
        for view in circuit.views:
            ran.count(view.layer, found.spikes[view.layer], found.neuron_steps[view.layer])
    return ran


def _narrow(sent: np.ndarray) -> np.ndarray:
    """uint8 where that holds what was sent."""
    return sent.astype(np.uint8) if sent.size == 0 or 0 <= sent.min() <= sent.max() < 256 else sent
