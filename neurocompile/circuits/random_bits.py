"""Pseudo-random bits on the chip: one shift register a bit, ``b(t) = b(t - 31) xor b(t - 28)``
(x^31 + x^3 + 1 is primitive).

A register is 32 neurons without memory. XOR is no threshold, but the sum of two that are never on
together::

    u = [r_30 - r_27 > 0]   w = [r_27 - r_30 > 0]   b = u + w   r_1 = [u + w > 0]   r_(i+1) = [r_i > 0]   (of the step before)

The host gives the seed once a sample; a neuron that fires in every step blocks it from step 1 on.
Registers with independent seeds make independent bits; the period is 2^31 - 1 steps.
"""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.normalize import recurrent
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.parameters import whole

__all__ = ["REGISTER", "random_bits", "reference_bits", "seeds"]

REGISTER = 32
"""Neurons a bit: u, w, r_1 .. r_30."""


def random_bits(builder: Builder, count: int, host: str, offset: int) -> str:
    """``count`` registers, population (count, 32); bit i of a step is neuron (i, 0) plus neuron (i,
    1).

    Args:
        host: constant population that holds the seeds (:func:`seeds`) from ``offset`` on.
    """
    n = count * REGISTER
    one = builder.tensor("past.bias", np.ones(1, np.int16))
    past = builder.population(c.LIF, "past", (1,), "past", vth=0, dv=ALL, reset=True, bias=one)
    seed = builder.population(c.GradedRelu, "seed", (count, REGISTER), "random")
    builder.drive(seed, [strided(host, (n,), (1,), (1,), src_offset=offset)])
    builder.drive(seed, [recurrent(strided(past, (n,), (0,), (1,), weight=-1))])
    bits = builder.population(
        c.LIF, "random", (count, REGISTER), "random", vth=0, dv=ALL, reset=True
    )
    builder.drive(bits, [strided(seed, (n,), (1,), (1,))])

    def wire(first: int, length: int, to: int, weight: int = 1) -> None:
        steps = (REGISTER, 1)
        projection = strided(
            bits, (count, length), steps, steps, weight=weight, src_offset=first, dst_offset=to
        )
        builder.drive(bits, [recurrent(projection)])

    wire(0, 1, 2)
    wire(1, 1, 2)
    wire(2, REGISTER - 3, 3)
    for src, dst, weight in ((31, 0, 1), (28, 0, -1), (28, 1, 1), (31, 1, -1)):
        wire(src, 1, dst, weight)
    return bits


def seeds(samples: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random seeds, int32 (samples, count * 32): u and w are never on together, no register is all
    zero.
    """
    whole("samples", samples), whole("count", count)
    found = rng.integers(0, 2, (samples, count, REGISTER)).astype(np.int32)
    found[..., 1] = 0
    found[..., 2] |= ~found.any(axis=-1)
    return found.reshape(samples, -1)


def reference_bits(seed: np.ndarray, steps: int) -> np.ndarray:
    """The bits by the recurrence itself, (registers, steps), from seeds (registers, 32)."""
    history = [
        seed[:, 0] + seed[:, 1],
        *(seed[:, i] for i in range(2, REGISTER)),
    ]  # b(0), b(-1), .. b(-30)
    found = [history[0]]
    for _ in range(steps - 1):
        history = [history[30] ^ history[27], *history[:30]]
        found.append(history[0])
    return np.stack(found, axis=1)
