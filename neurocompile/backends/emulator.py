"""The emulator: neurocompile's own bit-exact integer execution of a circuit on the CPU.

Two executions of one semantics. :class:`Emulator` is depth-free: population after population in
topological order, all samples and steps of a chunk at once, delays ignored, because ``schedule``
balances them; only populations that recurrent projections tie together go step by step, all samples
at once. :func:`emulate_cycles` is cycle-accurate: global steps, real delays, samples streaming
every ``period`` steps. That both agree is a law the tests check.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neurocompile.backends.base import Executor, Trace
from neurocompile.backends.bias import lif_bias
from neurocompile.backends.encoding import check_integers
from neurocompile.backends.kernels import lif, prepared, project, project_prepared
from neurocompile.ir.circuit import LIF, CircuitGraph, GradedRelu, HostInput, Population
from neurocompile.ir.windows import by_sample, host_rounds, rounds

__all__ = ["Emulator", "emulate_cycles"]

_CHUNK_NEURON_STEPS = 4_000_000
"""Neuron-steps emulated at once: bounds memory to some tens of megabytes."""
_CHUNK_OF_LOOPS = 8
"""So many times more where loops go step by step, whose cost hardly depends on the number of
samples.
"""


def _fixed(circuit: CircuitGraph) -> set[str]:
    """Populations that the host does not reach: all samples are alike there."""
    fixed: set[str] = set()
    for group in circuit.groups:
        sources = {q.src for p in group for q in circuit.incoming[p.name] if not q.recurrent}
        if fixed.issuperset(sources) and not any(isinstance(p, HostInput) for p in group):
            fixed.update(p.name for p in group)
    return fixed


class Emulator:
    """Backend ``emulator``."""

    name = "emulator"
    banner = "neurocompile emulator (bit-exact integer model on the CPU), NOT hardware"

    def open(self, circuit: CircuitGraph) -> Executor:
        """Prepare ``circuit`` (scheduled or not: delays do not matter here)."""
        if circuit.windows > 1:
            from neurocompile.backends.folded import FoldedExecutor

            return FoldedExecutor(circuit)
        return EmulatorExecutor(circuit)


class EmulatorExecutor:
    """A circuit ready to be emulated, see :class:`neurocompile.backends.base.Executor`."""

    def __init__(self, circuit: CircuitGraph) -> None:
        self.circuit = circuit
        self._groups = circuit.groups
        self._order = [p for group in self._groups for p in group]
        self._bias = {p.name: lif_bias(circuit, p) for p in self._order if isinstance(p, LIF)}
        self._fixed = _fixed(circuit)
        self._last_use: dict[str, int] = {}
        for i, group in enumerate(self._groups):
            for p in group:
                self._last_use.update((q.src, i) for q in circuit.incoming[p.name])

    def __enter__(self) -> EmulatorExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :meth:`neurocompile.backends.base.Executor.run`."""
        x = check_integers(self.circuit, x)
        wanted = {p.name for p in self._order} if record is None else set(record)
        steps = self.circuit.steps
        trace = {
            p.name: np.empty((len(x), steps, *p.shape), np.uint8 if p.spiking else np.int32)
            for p in self._order
            if p.name in wanted
        }
        widest = max((p.size for p in self._order if p.name not in self._fixed), default=1) * steps
        at_once = _CHUNK_NEURON_STEPS * (
            _CHUNK_OF_LOOPS if any(q.recurrent for q in self.circuit.projections) else 1
        )
        chunk = max(1, at_once // (4 * widest))
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk]
            for name, values in self._run_chunk(part, wanted).items():
                trace[name][start : start + len(part)] = values
        return trace

    def _run_chunk(self, x: np.ndarray, wanted: set[str]) -> Trace:
        samples, steps = len(x), self.circuit.steps
        # (samples or 1, steps or 1, neurons): 1 where all samples are alike, and where constant in
        # time
        alive: dict[str, np.ndarray] = {}
        found: Trace = {}
        for i, group in enumerate(self._groups):
            loops = any(q.recurrent for q in self.circuit.incoming[group[0].name]) or len(group) > 1
            made = self._loop(group, alive) if loops else [self._population(group[0], x, alive)]
            for p, values in zip(group, made):
                if p.name in wanted:
                    full = np.broadcast_to(values, (samples, steps, p.size))
                    found[p.name] = full.reshape(samples, steps, *p.shape)
                alive[p.name] = values
            for name in [n for n in alive if self._last_use.get(n, -1) <= i]:
                del alive[name]
        return found

    def _population(self, p: Population, x: np.ndarray, alive: dict[str, np.ndarray]) -> np.ndarray:
        if isinstance(p, HostInput):
            return np.ascontiguousarray(x, np.int32).reshape(
                len(x), self.circuit.steps if p.stepwise else 1, p.size
            )
        steps = self.circuit.steps
        a = self._forward(p, alive)
        if isinstance(p, LIF):
            out = np.empty((len(a), steps, p.size), np.uint8)
            u, v = np.zeros((len(a), p.size), np.int32), np.zeros((len(a), p.size), np.int32)
            lif(a, self._bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
            return out
        return np.maximum(a, 0, out=a) if isinstance(p, GradedRelu) else a

    def _forward(self, p: Population, alive: dict[str, np.ndarray]) -> np.ndarray:
        """What all but recurrent projections deliver: int32 (samples or 1, steps or 1, neurons), 1
        where it is the same for all samples, and where it is constant in time."""
        incoming = [q for q in self.circuit.incoming[p.name] if not q.recurrent]
        samples = max((len(alive[q.src]) for q in incoming), default=1)
        steps = max(
            (self.circuit.steps if q.advance else alive[q.src].shape[1] for q in incoming),
            default=1,
        )
        a = np.zeros((samples, steps, p.size), np.int32)
        for q in incoming:
            source = alive[q.src].astype(np.int32, copy=False)
            if q.advance:
                full = np.broadcast_to(source, (len(source), steps, source.shape[2]))
                source = np.zeros(full.shape, np.int32)
                source[:, : steps - q.advance] = full[:, q.advance :]
            alike = source.shape[:2] == a.shape[:2]
            part = a if alike else np.zeros((*source.shape[:2], p.size), np.int32)
            project(
                q,
                self.circuit.weight(q),
                source.reshape(-1, source.shape[2]),
                self.circuit.population[q.src].shape,
                part.reshape(-1, p.size),
            )
            if not alike:
                a += part
        return a

    def _loop(
        self, group: tuple[Population, ...], alive: dict[str, np.ndarray]
    ) -> list[np.ndarray]:
        """Populations that recurrent projections tie together: step by step, all of them and all
        samples at once.
        """
        steps, circuit = self.circuit.steps, self.circuit
        forward = [self._forward(p, alive) for p in group]
        samples = max(map(len, forward))
        out = [
            np.empty((samples, steps, p.size), np.uint8 if p.spiking else np.int32) for p in group
        ]
        last = {p.name: np.zeros((samples, p.size), np.int32) for p in group}
        state = {
            p.name: np.zeros((2, samples, p.size), np.int32) for p in group if isinstance(p, LIF)
        }
        loops = [
            [
                (q, prepared(q, circuit.weight(q), circuit.population[q.src].shape))
                for q in circuit.incoming[p.name]
                if q.recurrent
            ]
            for p in group
        ]
        for t in range(steps):
            now = {}
            for p, a, projections, trace in zip(group, forward, loops, out):
                total = np.broadcast_to(a[:, min(t, a.shape[1] - 1)], (samples, p.size)).copy()
                for q, kernel in projections:
                    project_prepared(q, kernel, last[q.src], circuit.population[q.src].shape, total)
                now[p.name] = _step(p, total, state, self._bias, first=False)
                trace[:, t] = now[p.name]
            last = now
        return out


def emulate_cycles(circuit: CircuitGraph, x: np.ndarray) -> Trace:
    """Cycle-accurate execution of a scheduled circuit: the pipeline as the chip runs it.

    Args:
        circuit: scheduled (depths, delays >= 1, period).
        x: int32 (samples, *input shape), or (samples, steps, *input shape) for a stepwise input.
            A folded circuit's samples follow each other window after window.

    Returns every population's output aligned by depth, as :class:`Emulator` does.
    """
    order = circuit.populations
    period, steps = circuit.period, circuit.steps
    count = rounds(circuit, len(x))
    brought = {h.name: host_rounds(circuit, h, x) for h in circuit.inputs}
    total = count * period + circuit.depth
    reach = max((q.delay for q in circuit.projections), default=1) + 1
    kernels = {
        q.name: prepared(q, circuit.weight(q), circuit.population[q.src].shape)
        for q in circuit.projections
    }
    history = {p.name: np.zeros((reach, p.size), np.int32) for p in order}
    state = {p.name: np.zeros((2, 1, p.size), np.int32) for p in order if isinstance(p, LIF)}
    bias = {p.name: lif_bias(circuit, p) for p in order if isinstance(p, LIF)}
    trace = {
        p.name: np.zeros((count, steps, p.size), np.uint8 if p.spiking else np.int32) for p in order
    }
    for now in range(total):
        for p in order:
            sample, step = divmod(now - p.depth, period)
            if isinstance(p, HostInput):
                active = 0 <= sample < count and step < steps
                sent = brought[p.name]
                value = (
                    (sent[sample, step] if p.stepwise else sent[sample])
                    if active
                    else np.zeros(p.size)
                )
                out = value.reshape(-1).astype(np.int32)
            else:
                a = np.zeros((1, p.size), np.int32)
                for q in circuit.incoming[p.name]:
                    source = history[q.src][(now - q.delay) % reach][None]
                    if not source.any():
                        continue
                    project_prepared(q, kernels[q.name], source, circuit.population[q.src].shape, a)
                out = _step(p, a, state, bias, step == 0)[0]
            history[p.name][now % reach] = out
            if 0 <= sample < count and step < steps:
                trace[p.name][sample, step] = out
    return {
        p.name: by_sample(circuit, trace[p.name].reshape(count, steps, *p.shape)) for p in order
    }


def _step(
    p: Population,
    a: np.ndarray,
    state: dict[str, np.ndarray],
    bias: dict[str, np.ndarray],
    first: bool,
) -> np.ndarray:
    """One step of one population, int32 (rows, neurons), from its summed input; before the
    ``first`` step of a sample the state is reset."""
    if not isinstance(p, LIF):
        return np.maximum(a, 0) if isinstance(p, GradedRelu) else a
    u, v = state[p.name]
    if p.reset and first:
        u[:], v[:] = 0, 0
    out = np.empty((len(a), 1, p.size), np.uint8)
    lif(a[:, None], bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
    return out[:, 0].astype(np.int32)
