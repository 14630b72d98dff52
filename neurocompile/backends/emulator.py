"""The emulator: neurocompile's own bit-exact integer execution of a circuit on the CPU.

Two executions of one semantics. :class:`Emulator` is depth-free: population after population in topological order, all
samples and steps of a chunk at once, delays ignored, because ``schedule`` balances them. :func:`emulate_cycles` is
cycle-accurate: global steps, real delays, samples streaming every ``period`` steps. That both agree is a law the tests
check.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.kernels import lif, project
from neurocompile.ir.circuit import LIF, CircuitGraph, GradedRelu, HostInput, Population

__all__ = ["Emulator", "emulate_cycles"]

_CHUNK_NEURON_STEPS = 4_000_000
"""Neuron-steps emulated at once: bounds memory to some tens of megabytes."""


def lif_bias(circuit: CircuitGraph, population: LIF) -> np.ndarray:
    """The shifted bias of every neuron, int32 (neurons,)."""
    if population.bias is None:
        return np.zeros(population.size, np.int32)
    mantissa = circuit.tensors[population.bias].astype(np.int32) << population.bias_exp
    return np.ascontiguousarray(np.broadcast_to(mantissa, population.shape)).reshape(-1)


class Emulator:
    """Backend ``emulator``."""

    name = "emulator"
    banner = "neurocompile emulator (bit-exact integer model on the CPU), NOT hardware"

    def open(self, circuit: CircuitGraph) -> EmulatorExecutor:
        """Prepare ``circuit`` (scheduled or not: delays do not matter here)."""
        return EmulatorExecutor(circuit)


class EmulatorExecutor:
    """A circuit ready to be emulated, see :class:`neurocompile.backends.base.Executor`."""

    def __init__(self, circuit: CircuitGraph) -> None:
        self.circuit = circuit
        self._order = list(circuit.topological())
        self._bias = {p.name: lif_bias(circuit, p) for p in self._order if isinstance(p, LIF)}
        self._last_use: dict[str, int] = {}
        for i, p in enumerate(self._order):
            for projection in circuit.incoming[p.name]:
                self._last_use[projection.src] = i

    def __enter__(self) -> EmulatorExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :meth:`neurocompile.backends.base.Executor.run`."""
        wanted = {p.name for p in self._order} if record is None else set(record)
        steps = self.circuit.steps
        trace = {
            p.name: np.empty((len(x), steps, *p.shape), np.uint8 if p.spiking else np.int32)
            for p in self._order
            if p.name in wanted
        }
        widest = max(p.size for p in self._order) * steps
        chunk = max(1, _CHUNK_NEURON_STEPS // (4 * widest))
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk]
            for name, values in self._run_chunk(part, wanted).items():
                trace[name][start : start + len(part)] = values
        return trace

    def _run_chunk(self, x: np.ndarray, wanted: set[str]) -> Trace:
        samples, steps = len(x), self.circuit.steps
        alive: dict[str, np.ndarray] = {}  # (samples, steps or 1, neurons): 1 where constant in time
        found: Trace = {}
        for i, p in enumerate(self._order):
            values = self._population(p, x, alive, samples)
            if p.name in wanted:
                full = np.broadcast_to(values, (samples, steps, p.size))
                found[p.name] = full.reshape(samples, steps, *p.shape)
            alive[p.name] = values
            for name in [n for n in alive if self._last_use.get(n, -1) <= i]:
                del alive[name]
        return found

    def _population(self, p: Population, x: np.ndarray, alive: dict[str, np.ndarray], samples: int) -> np.ndarray:
        if isinstance(p, HostInput):
            return np.ascontiguousarray(x, np.int32).reshape(samples, 1, p.size)
        steps = self.circuit.steps
        incoming = self.circuit.incoming[p.name]
        constant = all(alive[q.src].shape[1] == 1 for q in incoming)
        a = np.zeros((samples, 1 if constant else steps, p.size), np.int32)
        for q in incoming:
            source = alive[q.src].astype(np.int32, copy=False)
            weight = self.circuit.weight(q)
            shape = self.circuit.population[q.src].shape
            if source.shape[1] == a.shape[1]:
                project(q, weight, source.reshape(-1, source.shape[2]), shape, a.reshape(-1, p.size))
            else:
                part = np.zeros((samples, p.size), np.int32)
                project(q, weight, source.reshape(samples, -1), shape, part)
                a += part[:, None]
        if isinstance(p, LIF):
            out = np.empty((samples, steps, p.size), np.uint8)
            u, v = np.zeros((samples, p.size), np.int32), np.zeros((samples, p.size), np.int32)
            lif(a, self._bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
            return out
        return np.maximum(a, 0, out=a) if isinstance(p, GradedRelu) else a


def emulate_cycles(circuit: CircuitGraph, x: np.ndarray) -> Trace:
    """Cycle-accurate execution of a scheduled circuit: the pipeline as the chip runs it.

    Args:
        circuit: scheduled (depths, delays >= 1, period).
        x: int32 (samples, *input shape).

    Returns every population's output aligned by depth, as :class:`Emulator` does.
    """
    order = circuit.populations
    period, steps = circuit.period, circuit.steps
    total = len(x) * period + circuit.depth
    reach = max((q.delay for q in circuit.projections), default=1) + 1
    history = {p.name: np.zeros((reach, p.size), np.int32) for p in order}
    state = {p.name: np.zeros((2, 1, p.size), np.int32) for p in order if isinstance(p, LIF)}
    bias = {p.name: lif_bias(circuit, p) for p in order if isinstance(p, LIF)}
    trace = {p.name: np.zeros((len(x), steps, p.size), np.uint8 if p.spiking else np.int32) for p in order}
    for now in range(total):
        for p in order:
            sample, step = divmod(now - p.depth, period)
            if isinstance(p, HostInput):
                active = 0 <= sample < len(x) and step < steps
                out = x[sample].reshape(-1).astype(np.int32) if active else np.zeros(p.size, np.int32)
            else:
                a = np.zeros((1, p.size), np.int32)
                for q in circuit.incoming[p.name]:
                    source = history[q.src][(now - q.delay) % reach][None]
                    project(q, circuit.weight(q), source, circuit.population[q.src].shape, a)
                out = _step(p, a, state, bias, step == 0)
            history[p.name][now % reach] = out
            if 0 <= sample < len(x) and step < steps:
                trace[p.name][sample, step] = out
    return {p.name: trace[p.name].reshape(len(x), steps, *p.shape) for p in order}


def _step(
    p: Population, a: np.ndarray, state: dict[str, np.ndarray], bias: dict[str, np.ndarray], first: bool
) -> np.ndarray:
    """One global step of one population from its summed input (1, neurons); ``first`` step of a sample."""
    if not isinstance(p, LIF):
        return (np.maximum(a, 0) if isinstance(p, GradedRelu) else a)[0]
    u, v = state[p.name]
    if p.reset and first:
        u[:], v[:] = 0, 0
    out = np.empty((1, 1, p.size), np.uint8)
    lif(a[:, None], bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
    return out[0, 0]
