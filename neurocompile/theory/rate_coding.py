"""Rates by spikes: how far the mean of T spikes is from the value it encodes (Definition 1, Lemmas 1 and 5)."""

from __future__ import annotations

from math import ceil, exp, log, sqrt

import numpy as np

from neurocompile.theory.check import count, fraction, positive

__all__ = ["hoeffding_error", "hoeffding_failure", "hoeffding_steps", "relu_error", "relu_rate"]


def hoeffding_steps(eps: float, delta: float = 0.05) -> int:
    """Lemma 1 (reconstructed): steps T >= ln(2/delta) / (2 eps^2) of independent spikes.

    From then on the rate is within ``eps`` with probability 1 - ``delta`` at least (Hoeffding).
    """
    return ceil(log(2 / fraction("delta", delta)) / (2 * positive("epsilon", eps) ** 2))


def hoeffding_error(T: int, delta: float = 0.05) -> float:
    """The eps that Lemma 1 promises after ``T`` steps: sqrt(ln(2/delta) / (2 T))."""
    return sqrt(log(2 / fraction("delta", delta)) / (2 * count("T", T)))


def hoeffding_failure(T: int, eps: float) -> float:
    """Bound on the probability that a rate of ``T`` independent spikes is off by ``eps``: min(1, 2 exp(-2 T eps^2))."""
    return min(1.0, 2 * exp(-2 * count("T", T) * positive("epsilon", eps) ** 2))


def relu_rate(x: np.ndarray, T: int, threshold: float = 1.0, initial: float = 0.0) -> np.ndarray:
    """Lemma 5: the rate of an integrate-and-fire neuron (no leak, soft reset) with constant input ``x``.

    In closed form ``clip(floor(T x / threshold + initial), 0, T) / T``: spikes are what the integral has crossed, one a
    step at most. The readout ``threshold * rate`` approximates ``min(max(x, 0), threshold)``.

    Args:
        x: input of every step, any shape.
        initial: membrane at the start, in thresholds, in 0..1 (1 excluded).

    Returns float64 rates in 0..1, of the shape of ``x``.
    """
    crossed = np.floor(count("T", T) * np.asarray(x, np.float64) / positive("threshold", threshold) + initial)
    return np.clip(crossed, 0, T) / T


def relu_error(T: int, threshold: float = 1.0, initial: float = 0.0) -> float:
    """Largest error of Lemma 5's readout for inputs up to the threshold: max(1 - initial, initial) threshold / T.

    The paper says O(1/sqrt(T)), by Lemma 1; that is the error of a stochastic neuron.
    """
    return max(1 - initial, initial) * positive("threshold", threshold) / count("T", T)
