"""The exponential by coincidence of spikes (Lemma 2)."""

from __future__ import annotations

from math import exp, inf, lgamma, log

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parameters import between, count, positive, whole_steps

__all__ = [
    "coincidence_steps",
    "coincidence_variance",
    "taylor",
    "taylor_order",
    "taylor_remainder",
]

_LARGEST_BOUND = 100.0
"""Of x: e^{2B} and the orders that it takes stay numbers."""
_LARGEST_ORDER = 10_000


def taylor(x: np.ndarray, order: int) -> np.ndarray:
    """``sum_{k <= order} x^k / k!``, float64."""
    try:
        x = np.asarray(x, np.float64)
    except (TypeError, ValueError):
        x = np.array(np.nan)
    if not (np.abs(x) <= _LARGEST_BOUND).all():
        raise NeurocompileError(
            "NC8003",
            f"an x lies outside of -{_LARGEST_BOUND:g}..{_LARGEST_BOUND:g}; the series is for small ones",
        )
    found = np.ones_like(x)
    for k in range(_order(order), 0, -1):  # Horner
        found = 1 + found * x / k
    return found


def taylor_remainder(bound: float, order: int) -> float:
    """Largest error of :func:`taylor` for abs(x) <= ``bound``: e^B B^(K+1) / (K+1)! (Lagrange)."""
    return exp(_log_remainder(between("bound", bound, 0, _LARGEST_BOUND), _order(order)))


def taylor_order(bound: float, eps: float) -> int:
    """Smallest order whose remainder is at most ``eps``."""
    bound, wanted, order = _bound(bound), log(positive("epsilon", eps)), 0
    while _log_remainder(bound, order) > wanted:
        order += 1
    return order


def coincidence_steps(bound: float, eps: float, constant: float = 0.25) -> int:
    """Lemma 2 (reconstructed): T = C e^{2B} / eps^2 steps bring the standard deviation to ``eps``.

    C = 1/4 suffices: the mean of T coincidences has a variance of at most 1/(4T), and the weights
    B^k/k! have squares that sum to at most e^{2B}.
    """
    eps = positive("epsilon", eps)
    return whole_steps(positive("constant", constant) * exp(2 * _bound(bound)) / eps / eps)


def coincidence_variance(rate: float, bound: float, order: int, T: int) -> float:
    """Exact variance of ``sum_k (B^k / k!) Y_k`` where Y_k is the mean of T ANDs of k
    Bernoulli(``rate``) trains of its own.

    Its mean is ``taylor(B * rate, order)``.
    """
    bound, rate = between("bound", bound, 0, _LARGEST_BOUND), between("rate", rate, 0, 1)
    weight, total = 1.0, 0.0
    for k in range(1, _order(order) + 1):
        weight *= bound / k
        total += weight * weight * rate**k * (1 - rate**k)
    return total / count("T", T)


def _bound(bound: float) -> float:
    return between("bound", positive("bound", bound), 0, _LARGEST_BOUND)


def _order(order: int) -> int:
    return int(between("order", count("order", order, 0), 0, _LARGEST_ORDER))


def _log_remainder(bound: float, order: int) -> float:
    return bound + (order + 1) * log(bound) - lgamma(order + 2) if bound > 0 else -inf
