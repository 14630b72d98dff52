"""A LIF neuron over T steps as a threshold circuit of constant depth (Theorem 11).

With hard reset the membrane at step t depends on the last spike alone: ``v[t] = sum_{r < j <= t}
beta^(t-j) I[j]`` if that was at step r. So three layers suffice, whatever T:

1. for every r < t one threshold gate ``g[r, t] = [sum_{r < j <= t} beta^(t-j) I[j] >= V_th]``;
2. for every set of spike times that ends at t one AND of gates and negated gates: spikes exactly
   there;
3. for every t one OR over the sets that end there.

Layer 2 has 2^T - 1 gates: polynomial in n only while T = O(log n), which is what the theorem needs.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np

from neurocompile.parameters import between, count, positive

__all__ = ["constant_depth_gates", "evaluate_constant_depth", "sequential_gates"]

_LARGEST_T = 20
"""Of an evaluation, which looks at 2^T sets of spike times."""
_LARGEST_COUNTED = 1 << 16
"""Of a count: 2^T is written out."""
DEPTH = 3
"""Layers of gates, T >= 2; a single step is one threshold gate."""


def constant_depth_gates(T: int) -> int:
    """Gates of the circuit above for one neuron: T(T+1)/2 comparisons, 2^T - 1 ANDs, T ORs; 1 for T
    = 1.
    """
    T = int(between("T", count("T", T), 1, _LARGEST_COUNTED))
    return 1 if T == 1 else T * (T + 1) // 2 + 2**T - 1 + T


def sequential_gates(T: int) -> int:
    """Gates of the neuron unrolled in time, one after another: a comparison and the reset's gate a
    step (depth 2T - 1).
    """
    return 2 * count("T", T) - 1


def evaluate_constant_depth(current: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    """Evaluate the three layers on ``current`` (..., T): spikes (..., T), bool.

    Equal to stepping ``v = beta v + I; s = v >= V_th; v = 0 where s`` wherever the arithmetic is
    exact.
    """
    T = int(
        between("T", count("T", np.shape(current)[-1] if np.ndim(current) else 0), 1, _LARGEST_T)
    )
    beta, threshold = between("beta", beta, 0, 1), positive("threshold", threshold)
    gate: dict[tuple[int, int], np.ndarray] = {}
    for r in range(-1, T):
        for t in range(r + 1, T):
            powers = beta ** np.arange(t - r - 1, -1, -1.0)
            gate[r, t] = (current[..., r + 1 : t + 1] * powers).sum(axis=-1) >= threshold
    spikes = np.zeros(current.shape, bool)
    for t in range(T):
        for number in range(t + 1):
            for earlier in combinations(range(t), number):
                times, holds = (-1, *earlier, t), np.ones(current.shape[:-1], bool)
                for r, following in pairwise(times):
                    holds &= gate[r, following]
                    for silent in range(r + 1, following):
                        holds &= ~gate[r, silent]
                spikes[..., t] |= holds
    return spikes
