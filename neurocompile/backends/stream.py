"""A sample in parts: a circuit that goes on from the step where it was.

What a program's steps are, tokens or frames, may come one by one. :class:`Stream` makes the steps that are
brought, keeps every neuron's state and what loops read of the step before, and gives what was sent:
parts one after another are the whole sample, spike by spike, as :class:`~neurocompile.backends.emulator.Emulator`
runs it. Depth-free, step by step, population by population.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.bias import lif_bias
from neurocompile.backends.encoding import check_integers
from neurocompile.backends.kernels import prepared, project_prepared
from neurocompile.backends.step import step
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import LIF, CircuitGraph, HostInput

__all__ = ["Stream"]


class Stream:
    """The steps of one sample of a circuit, scheduled or not.

    Raises:
        NeurocompileError: NC1006 for a circuit whose sample does not come step by step: folded, or
            with one value for all steps.
    """

    def __init__(self, circuit: CircuitGraph) -> None:
        folded = circuit.windows > 1 or any(q.advance or q.lag for q in circuit.projections)
        if folded or not all(h.stepwise for h in circuit.inputs):
            raise NeurocompileError(
                "NC1006",
                f"samples of '{circuit.name}' come whole: {'it is folded' if folded else 'its input is one for all steps'}; "
                "a program that takes its steps one by one is unfolded, and brings a value a step",
            )
        self.circuit = circuit
        self.done = 0
        """Steps that were made."""
        self._order = tuple(circuit.topological())
        self._kernels = {
            q.name: prepared(q, circuit.weight(q), circuit.population[q.src].shape)
            for q in circuit.projections
        }
        neurons = [p for p in self._order if isinstance(p, LIF)]
        self._bias = {p.name: lif_bias(circuit, p) for p in neurons}
        self._state = {p.name: np.zeros((2, 1, p.size), np.int32) for p in neurons}
        self._sent = {p.name: np.zeros((1, p.size), np.int32) for p in self._order}

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """The next steps.

        Args:
            x: int32 (steps, *input shape of a step), as ``encode`` makes it.
            record: populations to give back; all if None.

        Returns:
            name -> (steps, *shape), as in a trace of the emulator.

        Raises:
            NeurocompileError: NC1006 for what the input does not take, and for more steps than the
                sample has left, for which no range is proven.
        """
        circuit = self.circuit
        x, left = np.asarray(x), circuit.steps - self.done
        if len(x) > left:
            raise NeurocompileError(
                "NC1006",
                f"{len(x):,} steps for a sample of '{circuit.name}' that has {left:,} of its {circuit.steps:,} left; build "
                "it for more (T)",
            )
        whole = np.zeros((1, circuit.steps, *x.shape[1:]), x.dtype)
        whole[0, : len(x)] = x
        x = check_integers(circuit, whole)[0, : len(x)]
        wanted = set(circuit.population if record is None else record)
        found: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        for values in x:
            self._step(values)
            for name, kept in found.items():
                kept.append(self._sent[name][0])
        return {
            name: np.array(
                kept, np.uint8 if circuit.population[name].spiking else np.int32
            ).reshape(-1, *circuit.population[name].shape)
            for name, kept in found.items()
        }

    def _step(self, values: np.ndarray) -> None:
        circuit, before, sent = self.circuit, self._sent, dict[str, np.ndarray]()
        for p in self._order:
            if isinstance(p, HostInput):
                sent[p.name] = values.reshape(1, -1)
                continue
            a = np.zeros((1, p.size), np.int32)
            for q in circuit.incoming[p.name]:
                source = before[q.src] if q.recurrent else sent[q.src]
                if source.any():
                    shape = circuit.population[q.src].shape
                    project_prepared(q, self._kernels[q.name], source, shape, a)
            sent[p.name] = step(p, a, self._state, self._bias, not self.done)
        self._sent, self.done = sent, self.done + 1
