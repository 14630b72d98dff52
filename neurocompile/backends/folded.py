"""Depth-free emulation of a circuit folded in time: windows are one more axis.

Every LIF is reset in each window, so that a window is one more sample of a batch, and a projection
with a lag is applied to its source shifted along the windows. Only what a cycle ties together
(memories) steps through them, all samples at once. Nothing of one sample reaches another: silence
outside of slots and closed memories see to that, and the law that this run equals the cycle-
accurate stream (tests/folding) holds them to it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.bias import lif_bias
from neurocompile.backends.encoding import check_integers
from neurocompile.backends.kernels import lif, prepared, project, project_prepared
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    GradedRelu,
    HostInput,
    Population,
    Projection,
    is_constant,
)
from neurocompile.ir.windows import host_rounds, overlap

__all__ = ["FoldedExecutor"]

_CHUNK_VALUES = 1 << 22
"""Values of the widest population emulated at once."""


class FoldedExecutor:
    """A folded circuit ready to be emulated, see :class:`neurocompile.backends.base.Executor`."""

    def __init__(self, circuit: CircuitGraph) -> None:
        self.circuit = circuit
        self._groups = circuit.groups
        self._order = [p for group in self._groups for p in group]
        self._bias = {p.name: lif_bias(circuit, p) for p in self._order if isinstance(p, LIF)}
        self._constant = {p.name for p in self._order if is_constant(circuit, p)}
        self._last_use: dict[str, int] = {}
        for i, group in enumerate(self._groups):
            for p in group:
                self._last_use.update((q.src, i) for q in circuit.incoming[p.name])

    def __enter__(self) -> FoldedExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :meth:`neurocompile.backends.base.Executor.run`."""
        circuit = self.circuit
        x = check_integers(circuit, x)
        wanted = {p.name for p in self._order} if record is None else set(record)
        trace = {
            p.name: np.empty(
                (len(x), circuit.sample_steps, *p.shape), np.uint8 if p.spiking else np.int32
            )
            for p in self._order
            if p.name in wanted
        }
        widest = max(p.size for p in self._order) * circuit.sample_steps
        chunk = max(1, _CHUNK_VALUES // widest)
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk]
            for name, values in self._run_chunk(part, wanted).items():
                trace[name][start : start + len(part)] = values
        return trace

    def _run_chunk(self, x: np.ndarray, wanted: set[str]) -> Trace:
        circuit = self.circuit
        alive: dict[str, np.ndarray] = {}  # (samples, windows, steps or 1, neurons)
        found: Trace = {}
        for i, group in enumerate(self._groups):
            if len(group) > 1 or any(
                q.src == group[0].name for q in circuit.incoming[group[0].name]
            ):
                made = self._memory(group, alive, len(x))
            else:
                made = [self._population(group[0], x, alive)]
            for p, values in zip(group, made):
                if p.name in wanted:
                    full = (len(x), circuit.windows, circuit.steps, p.size)
                    shape = (len(x), circuit.sample_steps, *p.shape)
                    found[p.name] = np.broadcast_to(values, full).reshape(shape)
                alive[p.name] = values
            for name in [n for n in alive if self._last_use.get(n, -1) <= i]:
                del alive[name]
        return found

    def _population(self, p: Population, x: np.ndarray, alive: dict[str, np.ndarray]) -> np.ndarray:
        circuit = self.circuit
        if isinstance(p, HostInput):
            sent = host_rounds(circuit, p, x)
            return sent.reshape(len(x), circuit.windows, circuit.steps if p.stepwise else 1, p.size)
        return self._emit(p, self._input(p, circuit.incoming[p.name], alive, len(x)))

    def _emit(self, p: Population, a: np.ndarray) -> np.ndarray:
        """Output of all windows, which are independent of each other, from their input."""
        if not isinstance(p, LIF):
            return np.maximum(a, 0, out=a) if isinstance(p, GradedRelu) else a
        steps = self.circuit.steps
        flat = a.reshape(-1, a.shape[2], p.size)
        out = np.empty((len(flat), steps, p.size), np.uint8)
        u, v = np.zeros((len(flat), p.size), np.int32), np.zeros((len(flat), p.size), np.int32)
        lif(flat, self._bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
        return out.reshape(*a.shape[:2], steps, p.size)

    def _input(
        self,
        p: Population,
        incoming: Collection[Projection],
        alive: dict[str, np.ndarray],
        samples: int,
    ) -> np.ndarray:
        """int32 (samples, windows, steps or 1, neurons)."""
        circuit = self.circuit
        steps = max((alive[q.src].shape[2] for q in incoming), default=1)
        a = np.zeros((samples, circuit.windows, steps, p.size), np.int32)
        for q in incoming:
            source = alive[q.src]
            lag = 0 if q.src in self._constant else q.lag
            into, of = overlap(circuit.windows, lag)
            if lag:
                source = source[:, of]
            alike = source.shape[2] == steps and source.shape[0] == samples
            if alike and not lag:
                part = a
            else:
                part = np.zeros((*source.shape[:3], p.size), np.int32)
            rows = np.ascontiguousarray(source, np.int32).reshape(-1, source.shape[3])
            project(
                q,
                circuit.weight(q),
                rows,
                circuit.population[q.src].shape,
                part.reshape(-1, p.size),
            )
            if part is not a:
                a[:, into] += part
        return a

    def _memory(
        self, group: tuple[Population, ...], alive: dict[str, np.ndarray], samples: int
    ) -> list[np.ndarray]:
        """Populations that a cycle ties together: window after window, all samples at once."""
        circuit, inside = self.circuit, {p.name for p in group}
        forward, loops = [], []
        for p in group:
            incoming = circuit.incoming[p.name]
            outer = [q for q in incoming if q.src not in inside]
            a = self._input(p, outer, alive, samples)
            forward.append(np.broadcast_to(a, (*a.shape[:2], circuit.steps, p.size)))
            kernels = [
                (q, prepared(q, circuit.weight(q), circuit.population[q.src].shape))
                for q in incoming
                if q.src in inside
            ]
            loops.append(kernels)
        out = {
            p.name: np.zeros(
                (samples, circuit.windows, circuit.steps, p.size),
                np.uint8 if p.spiking else np.int32,
            )
            for p in group
        }
        for w in range(circuit.windows):
            for p, a, projections in zip(group, forward, loops):
                total = np.ascontiguousarray(a[:, w])
                total = total.copy() if total.base is not None else total
                for q, kernel in projections:
                    if not 0 <= w - q.lag < circuit.windows:
                        continue
                    source = out[q.src][:, w - q.lag]
                    if not source.any():
                        continue
                    rows = np.ascontiguousarray(source, np.int32).reshape(-1, source.shape[2])
                    shape = circuit.population[q.src].shape
                    project_prepared(q, kernel, rows, shape, total.reshape(-1, p.size))
                out[p.name][:, w] = self._emit(p, total[:, None])[:, 0]
        return [out[p.name] for p in group]
