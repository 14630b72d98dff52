"""The host's two ends of a program: real inputs to integers, integer outputs to logits."""

from __future__ import annotations

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph

__all__ = ["check_integers", "decode", "decode_steps", "encode", "share_outside"]


def encode(circuit: CircuitGraph, x: np.ndarray) -> np.ndarray:
    """float32 (samples, *model input) -> int32 (samples, *population shape) for the model's input of
    ``circuit``.

    Both are (samples, steps, ...) where the host sends another value in every step.
    """
    host = circuit.inputs[0]
    lead = 2 if host.stepwise else 1
    if host.source_axes:
        x = x.transpose(*range(lead), *(axis + lead for axis in host.source_axes))
    integers = np.clip(np.rint(x.astype(np.float64) / host.scale), host.low, host.high)
    return np.ascontiguousarray(integers.reshape(len(x), *circuit.input_shape), np.int32)


def check_integers(circuit: CircuitGraph, x: np.ndarray) -> np.ndarray:
    """``x`` as C-contiguous int32 (samples, *input shape) if it is what :func:`encode` could have
    made; NC1006 otherwise.

    The range is part of it: what exceeds it leaves the fields that were proven for it, and
    backends then part.
    """
    if circuit.windows == 1 and len(circuit.inputs) != 1:
        raise NeurocompileError(
            "NC9001", f"circuit '{circuit.name}' has {len(circuit.inputs)} inputs, not one"
        )
    source = circuit.inputs[0]  # folded, others send pieces of the same sample, or clocks
    shape = circuit.input_shape
    x = np.asarray(x)
    if x.shape[1:] != shape or not np.issubdtype(x.dtype, np.integer):
        raise NeurocompileError(
            "NC1006",
            f"input '{source.name}' takes integers of shape (samples, "
            f"{', '.join(map(str, shape))}), got {x.dtype} {x.shape}",
        )
    if x.size and (x.min() < source.low or x.max() > source.high):
        raise NeurocompileError(
            "NC1006",
            f"input '{source.name}' takes integers from {source.low:,} to {source.high:,}, got "
            f"{x.min():,} to {x.max():,}; encode real samples, which clips them",
        )
    return np.ascontiguousarray(x, np.int32)


def share_outside(circuit: CircuitGraph, x: np.ndarray) -> float:
    """Share of the values of float32 ``x`` (samples, ...) that :func:`encode` clips: they lie more
    than half a unit outside of the host's range, which is that of the calibration data.
    """
    host = circuit.inputs[0]
    low, high = (host.low - 0.5) * host.scale, (host.high + 0.5) * host.scale
    clipped = sum(int(np.count_nonzero((part < low) | (part > high))) for part in x)
    return clipped / max(x.size, 1)


def decode(circuit: CircuitGraph, trace: Trace) -> np.ndarray:
    """Logits float64 (samples, *the output's shape) from the readout population's trace: ``scale *
    (mean_t a_t + bias)``.
    """
    readout, steps = circuit.readouts[0], _steps(circuit, trace)
    return readout.values(steps.mean(axis=1), _bias(circuit))


def decode_steps(circuit: CircuitGraph, trace: Trace) -> np.ndarray:
    """Logits of every step, float64 (samples, steps, *the output's shape): ``scale * (a_t + bias)``."""
    readout = circuit.readouts[0]
    return readout.values(_steps(circuit, trace), _bias(circuit))


def _bias(circuit: CircuitGraph) -> np.ndarray | None:
    """Of the readout."""
    bias = circuit.readouts[0].bias
    return None if bias is None else circuit.tensors[bias]


def _steps(circuit: CircuitGraph, trace: Trace) -> np.ndarray:
    """The readout population's values, float64 (samples, steps, elements); the windows of a folded
    sample are shares of one sum.
    """
    found = trace[circuit.readouts[0].src]
    flat = found.reshape(len(found), circuit.windows, circuit.steps, -1)
    return flat.sum(axis=1, dtype=np.int64).astype(np.float64)
