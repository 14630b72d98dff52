"""Softmax by spikes: division by lateral inhibition (Theorem 4) and the attention weight's error
(Lemma 6).
"""

from __future__ import annotations

from math import log, sqrt

from neurocompile.parameters import LARGEST, between, count, fraction, positive, result, whole_steps

__all__ = ["deterministic_normalization_steps", "normalization_steps", "softmax_error"]


def normalization_steps(n: int, eps: float, delta: float = 0.05) -> int:
    """Theorem 4 (reconstructed): T = ln(2n/delta) / (2 eps^2), so that all ``n`` rates are within
    ``eps`` at once.

    Lemma 1 for each neuron and a union bound over the n of them, with probability 1 - ``delta``.
    """
    eps = positive("epsilon", eps)
    return whole_steps(
        (log(2) + log(count("n", n)) - log(fraction("delta", delta))) / 2 / eps / eps
    )


def deterministic_normalization_steps(eps: float, initial: float = 0.5) -> int:
    """Ours: T = max(initial, 1 - initial) / eps for the divisive circuit without noise, whatever n.

    Neuron i integrates x_i and loses S = sum_j x_j when its membrane, which starts at ``initial``
    S, reaches S: its count is ``floor(T x_i / S + initial)``, hence off by max(initial, 1 -
    initial) at most. The rounding that it takes to reach a whole step aside, a membrane at S/2
    needs half of the steps.
    """
    initial = between("initial", initial, 0, 1)
    return whole_steps(max(initial, 1 - initial) / positive("epsilon", eps))


def softmax_error(n: int, T: int, constant: float = 1.0, exponential_error: float = 0.0) -> float:
    """Lemma 6 (reconstructed): C sqrt(ln(n) / T) + the error of the exponential. C is not given: 1
    by default.
    """
    added = between("exponential_error", exponential_error, 0, LARGEST)
    found = (
        result("C", positive("constant", constant)) * sqrt(log(count("n", n)) / count("T", T))
        + added
    )
    return result("the error", found) if found else 0.0  # one weight is exact
