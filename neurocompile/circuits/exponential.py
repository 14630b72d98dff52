"""``exp(x)`` for 0 <= x < 1 from coincidences of spike trains: the Taylor series with x^k as a
k-way AND (Lemma 2).

K trains of rate x; c_k fires where the first k all do, and the readout weighs it by 1/k! (times K!,
an integer)::

    z_j = [x > u_j]      c_k = [z_1 + .. + z_k >= k]      exp(x) ~ 1 + mean_t sum_k c_k / k!

The thresholds u_j come from the host in every step (Bernoulli trains if they are random, trains of
low discrepancy if they are a Sobol sequence), or from shift registers on the chip
(:mod:`neurocompile.circuits.random_bits`).
"""

from __future__ import annotations

from math import factorial

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.random_bits import REGISTER, random_bits
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref
from neurocompile.parameters import MOST, whole

__all__ = ["LEVELS", "exponential", "exponential_on_chip", "random_thresholds", "sobol_thresholds"]

LEVELS = 1 << 16
"""x = 1 and the range of the host's thresholds, as integers."""
_LARGEST_K = 7


def exponential(K: int, steps: int) -> c.CircuitGraph:
    """Thresholds from the host: input int32 (samples, steps, 1 + K), x times 2^16 and the
    thresholds of each step.
    """
    _check(K, steps)
    builder = Builder()
    x = builder.population(c.HostInput, "x", (1 + K,), "x", low=0, high=LEVELS, stepwise=True)
    train = builder.population(c.LIF, "train", (K,), "train", vth=0, dv=ALL, reset=True)
    builder.drive(
        train, [strided(x, (K,), (0,), (1,)), strided(x, (K,), (1,), (1,), weight=-1, src_offset=1)]
    )
    return _series(builder, train, K, steps)


def exponential_on_chip(K: int, bits: int, steps: int) -> c.CircuitGraph:
    """Thresholds of ``bits`` bits from the chip: input int32 (samples, 1 + 32 K bits), x times
    2^bits and the seeds.
    """
    _check(K, steps)
    whole("bits", bits, 1, 14)
    builder = Builder()
    x = builder.population(c.HostInput, "x", (1 + K * bits * REGISTER,), "x", low=0, high=1 << bits)
    random = random_bits(builder, K * bits, x, 1)
    train = builder.population(c.LIF, "train", (K,), "train", vth=0, dv=ALL, reset=True)
    builder.drive(train, [strided(x, (K,), (0,), (1,))])
    for bit in range(bits):
        for half in (0, 1):
            builder.drive(
                train,
                [
                    strided(
                        random,
                        (K,),
                        (bits * REGISTER,),
                        (1,),
                        weight=-(1 << bit),
                        src_offset=bit * REGISTER + half,
                    )
                ],
            )
    return _series(builder, train, K, steps)


def _check(K: int, steps: int) -> None:
    whole("K", K, -MOST), whole("steps", steps)
    if not 1 <= K <= _LARGEST_K:
        raise NeurocompileError(
            "NC2011", f"{K} terms of the exponential series; 1 to {_LARGEST_K} are supported"
        )


def _series(builder: Builder, train: str, K: int, steps: int) -> c.CircuitGraph:
    k = np.arange(1, K + 1)
    bias = builder.tensor(
        "coincidence.bias", (64 * (K - k)).astype(np.int16)
    )  # sum + K - k > K - 1
    both = builder.population(
        c.LIF, "coincidence", (K,), "coincidence", vth=K - 1, dv=ALL, bias=bias, reset=True
    )
    weight = builder.tensor("coincidence.weight", np.tril(np.ones((K, K), np.int16)))
    builder.drive(
        both, [c.Dense(name="", src=Ref(train), dst=Ref(""), weight=weight, sign="excitatory")]
    )
    out = builder.population(c.GradedRelay, "out", (1,), "out")
    for i in range(K):
        for term in builder.terms(factorial(K) // factorial(i + 1)):
            builder.drive(out, [strided(both, (1,), (1,), (1,), weight=term, src_offset=i)])
    offset = builder.tensor("series.one", np.full(1, factorial(K), np.int64))
    builder.readout(out, 1 / factorial(K), offset)
    return builder.finish("exponential", steps)


def random_thresholds(samples: int, steps: int, K: int, rng: np.random.Generator) -> np.ndarray:
    """Independent uniform thresholds, int32 (samples, steps, K)."""
    whole("samples", samples), whole("steps", steps), whole("K", K)
    return rng.integers(0, LEVELS, (samples, steps, K)).astype(np.int32)


def sobol_thresholds(samples: int, steps: int, K: int, seed: int = 0) -> np.ndarray:
    """A scrambled Sobol sequence a sample, one dimension a train, int32 (samples, steps, K); needs
    scipy.
    """
    from scipy.stats import qmc

    (
        whole("samples", samples),
        whole("steps", steps),
        whole("K", K, 1, _LARGEST_K),
        whole("seed", seed, 0, 1 << 60),
    )

    order = max(steps - 1, 1).bit_length()
    points = [
        qmc.Sobol(K, scramble=True, seed=seed + i).random_base2(order)[:steps]
        for i in range(samples)
    ]
    return np.floor(np.stack(points) * LEVELS).astype(np.int32)
