"""PARITY with a bounded number of spikes (Corollary 12), on the emulator.

n input bits drive k hidden threshold neurons, each of which spikes when at least so many bits are
set; one output neuron weighs them +1, -1, +1, ... So at most k hidden spikes are spent. Of all
choices of k thresholds, dynamic programming finds the best for uniform inputs, so what fails is no
bad choice of ours. With k = n the same two layers compute PARITY exactly: PARITY lies in TC0,
against what the corollary says in passing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.circuits.builder import Builder, strided
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref
from neurocompile.parameters import count

__all__ = ["Best", "best_thresholds", "parity_accuracy", "parity_circuit"]

_EXHAUSTIVE = 12
_SAMPLES = 4096


@dataclass(frozen=True)
class Best:
    """Thresholds (set bits from which a hidden neuron spikes), the output for each interval between
    them, and the share of all 2^n inputs that they get right."""

    thresholds: tuple[int, ...]
    odd: tuple[bool, ...]
    """Answer below the first threshold, and from each one on."""
    accuracy: float


def best_thresholds(n: int, k: int) -> Best:
    """The best ``k`` thresholds on the number of set bits of ``n`` uniform bits, exactly."""
    count("n", n), count("k", k)
    weight = [comb(n, s) / 2**n for s in range(n + 1)]
    even = np.concatenate([[0.0], np.cumsum([w * (s % 2 == 0) for s, w in enumerate(weight)])])
    odd = np.concatenate([[0.0], np.cumsum([w * (s % 2 == 1) for s, w in enumerate(weight)])])
    k = min(k, n)
    best = np.full((k + 2, n + 2), -1.0)  # best[j, s]: the first s sums in j intervals
    cut = np.zeros((k + 2, n + 2), int)
    best[0, 0] = 0.0
    for j in range(1, k + 2):
        for s in range(1, n + 2):
            for a in range(j - 1, s):
                value = best[j - 1, a] + max(even[s] - even[a], odd[s] - odd[a])
                if best[j - 1, a] >= 0 and value > best[j, s]:
                    best[j, s], cut[j, s] = value, a
    ends, s = [], n + 1
    for j in range(k + 1, 0, -1):
        ends.append((int(cut[j, s]), s))
        s = int(cut[j, s])
    intervals = ends[::-1]
    answers = tuple(bool(odd[b] - odd[a] > even[b] - even[a]) for a, b in intervals)
    return Best(tuple(a for a, _ in intervals[1:]), answers, float(best[k + 1, n + 1]))


def parity_circuit(n: int, best: Best) -> c.CircuitGraph:
    """n input bits, a hidden LIF for each threshold, one output LIF ``parity``; one step."""
    builder = Builder()
    bits = builder.population(c.HostInput, "bits", (n,), "bits", low=0, high=1)
    k = len(best.thresholds)
    # membrane 64 a + 64 (1 - threshold) > 0 where a >= threshold
    bias = builder.tensor("hidden.bias", np.array([1 - t for t in best.thresholds], np.int16))
    hidden = builder.population(
        c.LIF, "hidden", (k,), "hidden", vth=0, bias=bias, bias_exp=6, reset=True
    )
    builder.drive(hidden, [strided(bits, (n, k), (1, 0), (0, 1))])
    steps = np.diff(np.array(best.odd, int))
    weight = builder.tensor("parity.weight", (2 * steps[None]).astype(np.int16))
    start = builder.tensor("parity.bias", np.array([int(best.odd[0])], np.int16))
    output = builder.population(
        c.LIF, "parity", (1,), "parity", vth=0, bias=start, bias_exp=7, reset=True
    )
    builder.drive(output, [c.Dense(name="", src=Ref(hidden), dst=Ref(""), weight=weight)])
    return builder.finish(f"parity-{n}-{k}", 1)


def parity_accuracy(n: int, k: int, seed: int = 0) -> tuple[float, float, float]:
    """(accuracy on the emulator, most hidden spikes of an input, the optimum of any k thresholds).

    All 2^n inputs for n <= 12, otherwise 4,096 random ones.
    """
    best = best_thresholds(n, k)
    if n <= _EXHAUSTIVE:
        x = np.array(list(product((0, 1), repeat=n)), np.int32)
    else:
        x = np.random.default_rng(seed).integers(0, 2, (_SAMPLES, n), dtype=np.int32)
    with Emulator().open(parity_circuit(n, best)) as executor:
        trace = executor.run(x)
    answers = trace["parity"].reshape(-1)
    spikes = trace["hidden"].reshape(len(x), -1).sum(axis=1)
    return float((answers == x.sum(axis=1) % 2).mean()), float(spikes.max(initial=0)), best.accuracy
