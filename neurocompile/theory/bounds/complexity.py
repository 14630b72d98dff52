"""Theorem 11: depth and size of a circuit graph as a threshold circuit.

Counted on the compiled CircuitGraph, one population after another:

=============  ======================================================  =====
population     gates of a neuron                                       depth
=============  ======================================================  =====
LIF, T steps   T(T+1)/2 + 2^T - 1 + T (threshold_lif.py); stateless: T 3; 1
graded relay,  T (2 M + bits), M the largest value: bit k of a sum is  2
graded ReLU    an alternating sum of thresholds [sum >= j 2^k]
=============  ======================================================  =====

Sums need no gates of their own: a threshold gate has weights. The leak is taken as exact, so the
rounding of the chip's membranes is not part of the circuit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from neurocompile.ir import circuit as c
from neurocompile.theory.bounds.threshold_lif import DEPTH, constant_depth_gates, sequential_gates

__all__ = ["Complexity", "complexity"]


@dataclass(frozen=True)
class Complexity:
    """Threshold gates and depth of the constant-depth form, and of the form unrolled in time."""

    T: int
    neurons: int
    gates: int
    depth: int
    unrolled_gates: int
    unrolled_depth: int


def complexity(circuit: c.CircuitGraph) -> Complexity:
    """Count ``circuit`` (scheduled or not) for its own number of steps."""
    T = circuit.steps
    largest: dict[str, int] = {}
    deep: dict[str, tuple[int, int]] = {}
    gates = unrolled = neurons = 0
    for p in circuit.topological():
        incoming = circuit.incoming[p.name]
        reached = [
            deep[q.src] for q in incoming if q.src in deep
        ]  # all, unless a loop closes here: its depth is not counted
        before = max((d for d, _ in reached), default=0), max((d for _, d in reached), default=0)
        if isinstance(p, c.HostInput):
            largest[p.name], deep[p.name] = max(abs(p.low), abs(p.high), 1), (0, 0)
            continue
        neurons += p.size
        if isinstance(p, c.LIF):
            stateful = p.reset
            each = constant_depth_gates(T) if stateful else T
            depth = (DEPTH if T > 1 else 1) if stateful else 1
            long = (2 * T - 1) if stateful else 1
            gates += p.size * each
            unrolled += p.size * (sequential_gates(T) if stateful else T)
            largest[p.name] = 1
        else:
            most = max(_largest(circuit, p, largest), 1)
            largest[p.name] = most
            each, depth, long = T * (2 * most + most.bit_length()), 2, 2
            gates += p.size * each
            unrolled += p.size * each
        deep[p.name] = before[0] + depth, before[1] + long
    return Complexity(
        T,
        neurons,
        gates,
        max(d for d, _ in deep.values()),
        unrolled,
        max(d for _, d in deep.values()),
    )


def _largest(circuit: c.CircuitGraph, p: c.Population, largest: dict[str, int]) -> int:
    """Bound of the magnitude of a graded population's sum."""
    total = 0
    for q in circuit.incoming[p.name]:
        if isinstance(q, c.Strided):
            fan_in = prod(
                n for n, stride in zip(q.sizes, q.dst_strides, strict=True) if stride == 0
            )
            weight = fan_in * abs(q.weight)
        else:
            tensor = circuit.weight(q)
            assert tensor is not None
            weight = int(
                np.abs(tensor.astype(np.int64)).reshape(len(tensor), -1).sum(axis=1).max(initial=0)
            )
        reach = weight * largest.get(q.src, 1)
        total += reach << q.weight_exp if q.weight_exp >= 0 else reach >> -q.weight_exp
    return min(total, p.largest) if p.largest else total
