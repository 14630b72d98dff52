"""Messages and active updates of every neuron: measured on the emulator, or modelled from the
stored rates.

A neuron update is *active* if the neuron receives a message in that step, has a bias, or holds a
voltage that is not 0 (SANA-FE's meaning of an updated neuron; Davies et al. do not define the
word). All others are inactive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.bias import lif_bias
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.backends.kernels import lif, project
from neurocompile.energy.arrivals import arrivals
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    HostInput,
    Population,
    Projection,
    is_constant,
)
from neurocompile.ir.windows import overlap
from neurocompile.progress import chunks

__all__ = ["Activity", "measured_activity", "modelled_activity"]

_CHUNK_VALUES = 40_000_000
"""Values of a trace that are held at once."""


@dataclass(frozen=True)
class Activity:
    """By population: float64 (neurons,) each, summed over ``inferences``."""

    basis: str
    """``measured`` or ``modelled``."""
    source: str
    """What was run, or where the rates come from."""
    inferences: int
    """Number of samples that were run; 1 if modelled."""
    messages: dict[str, np.ndarray]
    """Spikes, or graded values that are not 0."""
    active: dict[str, np.ndarray]
    """Updates that are active; populations on cores only."""


def measured_activity(circuit: CircuitGraph, x: np.ndarray, *, progress: bool = False) -> Activity:
    """Run float32 ``x`` (samples, *input shape) on the emulator and count."""
    messages = {p.name: np.zeros(p.size) for p in circuit.populations}
    active = {p.name: np.zeros(p.size) for p in circuit.populations if not isinstance(p, HostInput)}
    bias = {p.name: lif_bias(circuit, p) for p in circuit.populations if isinstance(p, LIF)}
    held: dict[str, np.ndarray] = {}
    begin: dict[str, np.ndarray] = {}
    values = circuit.sample_steps * sum(p.size for p in circuit.populations)
    with Emulator().open(circuit) as executor:
        for part in chunks(len(x), max(1, _CHUNK_VALUES // values), "counting", progress):
            trace = executor.run(encode(circuit, x[part]))
            for p in circuit.populations:
                messages[p.name] += np.count_nonzero(trace[p.name].reshape(-1, p.size), axis=0)
                if p.name in active:
                    active[p.name] += _active(circuit, p, trace, bias, held, begin)
    for name, idle in begin.items():  # samples follow each other, the first the last
        active[name] += idle & (held[name] != 0)
    return Activity("measured", f"emulator, {len(x):,} samples", len(x), messages, active)


def _keeps(p: Population) -> bool:
    """Whether a voltage stays from one sample to the next (and leaks whole in its first step)."""
    return isinstance(p, LIF) and not p.reset


def _active(
    circuit: CircuitGraph,
    p: Population,
    trace: Trace,
    bias: Mapping[str, np.ndarray],
    held: dict[str, np.ndarray],
    begin: dict[str, np.ndarray],
) -> np.ndarray:
    """Active updates of each neuron, summed over samples and steps of ``trace``.

    Args:
        held: voltages at the end of the sample before, int32 (neurons,), of populations that keep
            them; updated.
        begin: of these, whether their very first update was not active by itself, bool (neurons,);
            filled at the first call.
    """
    samples = len(trace[p.name]) * circuit.windows  # reset in each window
    steps = trace[p.name].shape[1] // circuit.windows
    received = np.zeros((samples * steps, p.size), np.float32)
    for q in circuit.incoming[p.name]:
        received += arrivals(circuit, q, (_sent(circuit, q, trace) != 0).astype(np.float32))
    busy = (received > 0).reshape(samples, steps, p.size)
    if isinstance(p, LIF):
        a = np.zeros((samples * steps, p.size), np.int32)
        for q in circuit.incoming[p.name]:
            source = np.ascontiguousarray(_sent(circuit, q, trace), np.int32)
            project(q, circuit.weight(q), source, circuit.population[q.src].shape, a)
        a = a.reshape(samples, steps, p.size)
        u, v = np.zeros((samples, p.size), np.int32), np.zeros((samples, p.size), np.int32)
        out = np.empty((samples, 1, p.size), np.uint8)
        busy |= bias[p.name] != 0
        for t in range(steps):
            busy[:, t] |= v != 0
            lif(
                np.ascontiguousarray(a[:, t : t + 1]),
                bias[p.name],
                p.vth << 6,
                p.dv,
                p.du,
                u,
                v,
                out,
            )
            if not np.array_equal(out[:, 0], trace[p.name].reshape(samples, steps, -1)[:, t]):
                raise NeurocompileError(
                    "NC9001", f"population '{p.name}': counting does not reproduce the emulator"
                )
        if _keeps(p):
            for _ in range(circuit.period - steps):  # idle steps bring no message
                lif(np.zeros_like(a[:, :1]), bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
            begin.setdefault(p.name, ~busy[0, 0])
            before = held.get(p.name, np.zeros(p.size, np.int32))
            busy[:, 0] |= np.concatenate([before[None], v[:-1]]) != 0
            held[p.name] = v[-1].copy()
    return np.count_nonzero(busy.reshape(-1, p.size), axis=0).astype(np.float64)


def _sent(circuit: CircuitGraph, projection: Projection, trace: Trace) -> np.ndarray:
    """What arrives in each step, (samples * steps, neurons): a loop brings what was sent in the
    step before, a lag what was sent so many windows before.
    """
    values = trace[projection.src]
    samples, steps = values.shape[:2]
    values = values.reshape(samples, steps, -1)
    if projection.recurrent:
        values = np.concatenate([np.zeros_like(values[:, :1]), values[:, :-1]], axis=1)
    if projection.lag and not is_constant(circuit, circuit.population[projection.src]):
        windows = values.reshape(samples, circuit.windows, -1)
        values = np.zeros_like(windows)
        into, of = overlap(circuit.windows, projection.lag)
        values[:, into] = windows[:, of]
    return values.reshape(samples * steps, -1)


def modelled_activity(circuit: CircuitGraph, rates: Mapping[str, float], source: str) -> Activity:
    """From messages a neuron a step: every neuron of a population alike, messages independent
    (Poisson).
    """
    steps = circuit.sample_steps
    messages = {
        p.name: np.full(p.size, rates.get(p.name, 1.0) * steps) for p in circuit.populations
    }
    active = {}
    for p in circuit.populations:
        if isinstance(p, HostInput):
            continue
        mean = np.zeros((1, p.size))
        for q in circuit.incoming[p.name]:
            mean += arrivals(circuit, q, messages[q.src][None] / steps)
        share = 1.0 - np.exp(-mean[0])
        if isinstance(p, LIF) and p.bias is not None:
            share = np.where(lif_bias(circuit, p) != 0, 1.0, share)
        active[p.name] = share * steps
    return Activity("modelled", source, 1, messages, active)
