"""Rates by spikes: how far the mean of T spikes is from the value it encodes (Definition 1, Lemmas
1 and 5).
"""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parameters import between, count, fraction, positive, result, whole_steps

__all__ = ["hoeffding_error", "hoeffding_failure", "hoeffding_steps", "relu_error", "relu_rate"]


def hoeffding_steps(eps: float, delta: float = 0.05) -> int:
    """Lemma 1 (reconstructed): steps T >= ln(2/delta) / (2 eps^2) of independent spikes.

    From then on the rate is within ``eps`` with probability 1 - ``delta`` at least (Hoeffding).
    """
    eps = positive("epsilon", eps)
    return whole_steps(_logarithm(delta) / 2 / eps / eps)


def hoeffding_error(T: int, delta: float = 0.05) -> float:
    """The eps that Lemma 1 promises after ``T`` steps: sqrt(ln(2/delta) / (2 T))."""
    return result("the error", sqrt(_logarithm(delta) / (2 * count("T", T))))


def hoeffding_failure(T: int, eps: float) -> float:
    """Bound on the probability that a rate of ``T`` independent spikes is off by ``eps``: min(1, 2
    exp(-2 T eps^2)).
    """
    eps = positive("epsilon", eps)
    return min(1.0, 2 * exp(-2 * (count("T", T) * eps * eps)))


def relu_rate(x: np.ndarray, T: int, threshold: float = 1.0, initial: float = 0.0) -> np.ndarray:
    """Lemma 5: the rate of an integrate-and-fire neuron (no leak, soft reset) with constant input
    ``x``.

    In closed form ``clip(floor(T x / threshold + initial), 0, T) / T``: spikes are what the
    integral has crossed, one a step at most. The readout ``threshold * rate`` approximates
    ``min(max(x, 0), threshold)``.

    Args:
        x: input of every step, any shape.
        initial: membrane at the start, in thresholds, in 0..1 (1 excluded).

    Returns float64 rates in 0..1, of the shape of ``x``.
    """
    try:
        x = np.asarray(x, np.float64)
    except (TypeError, ValueError):
        x = np.array(np.nan)
    if np.isnan(x).any():
        raise NeurocompileError("NC8003", "an input is no number; numbers are needed")
    T, threshold, initial = count("T", T), positive("threshold", threshold), _start(initial)
    with np.errstate(over="ignore"):  # far beyond the threshold is a spike in every step
        crossed = np.floor(T * x / threshold + initial)
    return np.clip(crossed, 0, T) / T


def relu_error(T: int, threshold: float = 1.0, initial: float = 0.0) -> float:
    """Largest error of Lemma 5's readout for inputs up to the threshold: max(1 - initial, initial)
    threshold / T.

    The paper says O(1/sqrt(T)), by Lemma 1; that is the error of a stochastic neuron.
    """
    initial = _start(initial)
    return result(
        "the error", max(1 - initial, initial) * positive("threshold", threshold) / count("T", T)
    )


def _logarithm(delta: float) -> float:
    """ln(2 / delta), without the quotient, which may be beyond every number."""
    return log(2) - log(fraction("delta", delta))


def _start(initial: float) -> float:
    """A membrane in thresholds, 1 excluded."""
    if between("initial", initial, 0, 1) == 1:
        raise NeurocompileError("NC8003", "initial is 1; a membrane below its threshold is needed")
    return float(initial)
