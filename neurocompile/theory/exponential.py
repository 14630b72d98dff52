"""The exponential by coincidence of spikes (Lemma 2)."""

from __future__ import annotations

from math import ceil, exp, factorial

import numpy as np

from neurocompile.theory.check import count, positive

__all__ = ["coincidence_steps", "coincidence_variance", "taylor", "taylor_order", "taylor_remainder"]


def taylor(x: np.ndarray, order: int) -> np.ndarray:
    """``sum_{k <= order} x^k / k!``, float64."""
    x = np.asarray(x, np.float64)
    found = np.ones_like(x)
    for k in range(order, 0, -1):  # Horner
        found = 1 + found * x / k
    return found


def taylor_remainder(bound: float, order: int) -> float:
    """Largest error of :func:`taylor` for abs(x) <= ``bound``: e^B B^(K+1) / (K+1)! (Lagrange)."""
    return exp(bound) * bound ** (order + 1) / factorial(order + 1)


def taylor_order(bound: float, eps: float) -> int:
    """Smallest order whose remainder is at most ``eps``."""
    positive("bound", bound), positive("epsilon", eps)
    order = 0
    while taylor_remainder(bound, order) > eps:
        order += 1
    return order


def coincidence_steps(bound: float, eps: float, constant: float = 0.25) -> int:
    """Lemma 2 (reconstructed): T = C e^{2B} / eps^2 steps bring the standard deviation to ``eps``.

    C = 1/4 suffices: the mean of T coincidences has a variance of at most 1/(4T), and the weights B^k/k! have squares
    that sum to at most e^{2B}.
    """
    return ceil(positive("constant", constant) * exp(2 * positive("bound", bound)) / positive("epsilon", eps) ** 2)


def coincidence_variance(rate: float, bound: float, order: int, T: int) -> float:
    """Exact variance of ``sum_k (B^k / k!) Y_k`` where Y_k is the mean of T ANDs of k Bernoulli(``rate``) trains of its own.

    Its mean is ``taylor(B * rate, order)``.
    """
    powers = [(bound**k / factorial(k), rate**k) for k in range(1, order + 1)]
    return sum(a * a * p * (1 - p) for a, p in powers) / count("T", T)
