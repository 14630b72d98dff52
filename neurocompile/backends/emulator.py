"""The emulator: neurocompile's own bit-exact integer execution of a circuit on the CPU.

Two executions of one semantics. :class:`Emulator` is depth-free: a plan of the circuit, sample
after sample, population after population in topological order, all steps of one before the next;
delays are ignored, because ``schedule`` balances them. Only populations that recurrent projections
tie together go step by step, and window by window those that a memory of a folded circuit ties
together. Every LIF is reset in each window of a folded circuit, and a projection with a lag reads
its source so many windows earlier. :func:`emulate_cycles` is cycle-accurate: global steps, real
delays, samples streaming every ``period`` steps. That both agree is a law the tests check.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.bias import lif_bias
from neurocompile.backends.encoding import check_integers
from neurocompile.backends.interpreter import run_samples
from neurocompile.backends.kernels import prepared, project_prepared
from neurocompile.backends.plan import Plan, make_plan
from neurocompile.backends.step import step as one_step
from neurocompile.backends.weights import make_weights
from neurocompile.ir.circuit import LIF, CircuitGraph, HostInput
from neurocompile.ir.windows import by_sample, host_rounds, rounds

__all__ = ["Emulator", "emulate_cycles"]

_CHUNK = 8
"""Samples of one call of compiled code; between calls a run can be interrupted."""


class Emulator:
    """Backend ``emulator``.

    Args:
        threads: workers of a run, each with samples of its own; by default the processors that
            this process may use. Results do not depend on it.
    """

    name = "emulator"
    banner = "neurocompile emulator (bit-exact integer model on the CPU), NOT hardware"

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or processors()

    def open(self, circuit: CircuitGraph) -> EmulatorExecutor:
        """Prepare ``circuit`` (scheduled or not: delays do not matter here)."""
        return EmulatorExecutor(circuit, self._threads)


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class EmulatorExecutor:
    """A circuit ready to be emulated, see :class:`neurocompile.backends.base.Executor`."""

    def __init__(self, circuit: CircuitGraph, threads: int = 1) -> None:
        self.circuit = circuit
        self._threads = threads
        self._weights = make_weights(circuit)
        self._plans: dict[frozenset[str], Plan] = {}

    def __enter__(self) -> EmulatorExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :meth:`neurocompile.backends.base.Executor.run`.

        Beside the trace, memory is that of one sample a thread.
        """
        x = check_integers(self.circuit, x)
        plan = self._plan(frozenset(self.circuit.population if record is None else record))
        flat, records, trace = self._traces(plan, len(x))
        self._share(plan, x, records, *flat, np.zeros((0, 0), np.int64))
        return trace

    def messages(self, x: np.ndarray, of: Collection[str] | None = None) -> dict[str, int]:
        """Of each population (of those named): its spikes, or values that are not 0, in all steps of
        all samples ``x`` (as :meth:`run` takes them). No trace is made."""
        x = check_integers(self.circuit, x)
        plan = self._plan(frozenset(self.circuit.population if of is None else of))
        counts = np.zeros((min(self._threads, max(len(x), 1)), len(plan.records)), np.int64)
        rows = [(*row[:4], 0, *row[4:]) for _, row in plan.records]
        records = np.array(rows, np.int64).reshape(-1, 7)
        self._share(plan, x, records, np.empty(0, np.uint8), np.empty(0, np.int32), counts)
        return {name: int(n) for (name, _), n in zip(plan.records, counts.sum(axis=0))}

    def _plan(self, wanted: frozenset[str]) -> Plan:
        if wanted not in self._plans:
            self._plans[wanted] = make_plan(self.circuit, self._weights, wanted)
        return self._plans[wanted]

    def _share(
        self,
        plan: Plan,
        x: np.ndarray,
        records: np.ndarray,
        of_octets: np.ndarray,
        of_words: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        """Run the samples on the threads; ``counts`` has a row for each, or none."""
        parts = [slice(at, min(at + _CHUNK, len(x))) for at in range(0, len(x), _CHUNK)]
        threads = min(self._threads, len(x))
        if threads > 1 and len(parts) < 2 * threads:  # all have something to do
            size = -(-len(x) // threads)
            parts = [slice(at, min(at + size, len(x))) for at in range(0, len(x), size)]
        todo, given = iter(parts), (records, of_octets, of_words)
        mine = [counts[k] if len(counts) else np.zeros(0, np.int64) for k in range(threads)]
        if threads < 2:
            for count in mine:
                self._work(plan, x, todo, *given, count)
            return
        with ThreadPoolExecutor(threads, "neurocompile-emulator") as pool:
            done = [pool.submit(self._work, plan, x, todo, *given, count) for count in mine]
            for worker in done:
                worker.result()

    def _traces(
        self, plan: Plan, samples: int
    ) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, Trace]:
        """Where the interpreter writes (uint8 and int32), its table, and the same by population."""
        rows, places, sizes = [], [], [0, 0]
        for _, (words, at, count, n, to_words, repeat) in plan.records:
            places.append(sizes[to_words])
            sizes[to_words] += samples * count * n * repeat
            rows.append((words, at, count, n, places[-1], to_words, repeat))
        flat = np.empty(sizes[0], np.uint8), np.empty(sizes[1], np.int32)
        trace = {}
        for (name, row), place in zip(plan.records, places):
            shape = (samples, self.circuit.sample_steps, *self.circuit.population[name].shape)
            trace[name] = flat[row[4]][place : place + prod(shape)].reshape(shape)
        return flat, np.array(rows, np.int64).reshape(-1, 7), trace

    def _work(
        self,
        plan: Plan,
        x: np.ndarray,
        todo: Iterator[slice],
        records: np.ndarray,
        of_octets: np.ndarray,
        of_words: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        """Take parts of the samples and run them, until there are none."""
        circuit, weights = self.circuit, self._weights
        octets, words = np.zeros(plan.octets, np.uint8), np.zeros(plan.words, np.int32)
        acc, events, starts = (np.zeros(n, np.int32) for n in plan.scratch)
        places, chosen = np.zeros(plan.places, np.int64), np.zeros(circuit.windows, np.int64)
        for in_words, at, values in plan.given:
            (words if in_words else octets)[at : at + len(values)] = values
        for part in todo:
            count = part.stop - part.start
            sent = [host_rounds(circuit, h, x[part]).reshape(count, -1) for h in plan.inputs]
            run_samples(
                plan.groups,
                plan.ops,
                plan.sources,
                plan.dims,
                weights.small,
                weights.wide,
                weights.bias,
                circuit.steps,
                circuit.windows,
                octets,
                words,
                acc,
                events,
                starts,
                places,
                chosen,
                plan.hosts,
                np.concatenate(sent, axis=1) if sent else np.zeros((count, 0), np.int32),
                part.start,
                records,
                of_octets,
                of_words,
                counts,
            )


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
    neurons = [p for p in order if isinstance(p, LIF)]
    state = {p.name: np.zeros((2, 1, p.size), np.int32) for p in neurons}
    bias = {p.name: lif_bias(circuit, p) for p in neurons}
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
                out = one_step(p, a, state, bias, step == 0)[0]
            history[p.name][now % reach] = out
            if 0 <= sample < count and step < steps:
                trace[p.name][sample, step] = out
    return {
        p.name: by_sample(circuit, trace[p.name].reshape(count, steps, *p.shape)) for p in order
    }
