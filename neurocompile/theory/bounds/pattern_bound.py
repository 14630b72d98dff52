"""A lower bound on spikes that holds for every code: count the patterns that they can make.

Theorem 8 bounds Bernoulli rate coding; deterministic codes fall below it. Whatever a code does,
``m`` neurons that send at most N spikes in T steps make no more than sum_{k<=N} C(mT, k) different
patterns, and what is decoded from them can be no finer. So

    log2 sum_{k<=N} C(mT, k) >= bits that the numbers need,

which shows what Theorem 8 cannot: more steps need fewer spikes. The sum is at most 2^(mT H(N/mT))
for N <= mT/2 (H the binary entropy in bits; Cover and Thomas, Elements of Information Theory,
Example 11.1.3), and with that the N found here is a little below the true one: still a bound. It
bounds the mean over inputs too: of all distributions of patterns with N spikes on average none has
more entropy than mT H(N/mT).
"""

from __future__ import annotations

from math import e, log2, pi

from neurocompile.parameters import count, positive

__all__ = ["bits_in_range", "bits_of_rms", "least_spikes", "least_steps"]


def bits_in_range(numbers: float, eps: float) -> float:
    """Bits that tell apart ``numbers`` values in 0..1, each to within ``eps`` for every input: each
    axis has 1/(2 eps) intervals of that size.
    """
    return positive("numbers", numbers) * max(log2(1 / (2 * positive("epsilon", eps))), 0.0)


def bits_of_rms(numbers: float, eps: float) -> float:
    """Bits of ``numbers`` independent values, uniform in 0..1, to an rms error of ``eps`` on
    average: Shannon's lower bound on the rate-distortion function.
    """
    positive("epsilon", eps)
    return positive("numbers", numbers) * max(log2(1 / (eps * (2 * pi * e) ** 0.5)), 0.0)


def least_spikes(neurons: int, steps: int, bits: float) -> int | None:
    """The fewest spikes of ``neurons`` over ``steps`` that any code of ``bits`` needs, on its worst
    input or on average; None where no number of spikes suffices (then more steps are needed: ``least_steps``).
    """
    slots = count("neurons", neurons) * count("steps", steps)
    if bits <= 0:
        return 0
    if bits > slots:
        return None
    low, high = 0, (slots + 1) // 2  # from half of the slots on H is 1: all 2^slots patterns
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if slots * _entropy(middle / slots) >= bits else (middle, high)
    return high


def least_steps(neurons: int, bits: float) -> int:
    """The fewest steps in which ``neurons`` can send ``bits``, whatever their spikes."""
    return max(1, -(-int(bits + 1 - 1e-9) // count("neurons", neurons)))


def _entropy(p: float) -> float:
    """Of a coin with probability ``p``, in bits."""
    return 0.0 if p in (0.0, 1.0) else -p * log2(p) - (1 - p) * log2(1 - p)
