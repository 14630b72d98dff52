"""Rate codes: how a value in 0..1 becomes T spikes. Numpy on the host, not a circuit: what encodes is an experiment's choice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurocompile.theory.rate_coding import relu_rate

__all__ = ["CODES", "bernoulli", "hard_reset_lif", "integrate", "integrate_half"]


def bernoulli(x: np.ndarray, T: int, rng: np.random.Generator) -> np.ndarray:
    """Spikes of independent Bernoulli trains (Lemma 1's code): counts, int64."""
    return rng.binomial(T, x)


def integrate(x: np.ndarray, T: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Spikes of an integrate-and-fire neuron with soft reset, membrane from 0."""
    return np.rint(relu_rate(x, T) * T).astype(np.int64)


def integrate_half(x: np.ndarray, T: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The same with the membrane from half of the threshold."""
    return np.rint(relu_rate(x, T, initial=0.5) * T).astype(np.int64)


def hard_reset_lif(x: np.ndarray, T: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Spikes of the models' own neuron, equations (1) and (2): beta 0.5, V_th 1, hard reset, current x."""
    v, count = np.zeros(x.shape), np.zeros(x.shape, np.int64)
    for _ in range(T):
        v = 0.5 * v + x
        spikes = v >= 1
        count += spikes
        v[spikes] = 0
    return count


CODES: dict[str, Callable[..., np.ndarray]] = {
    "bernoulli": bernoulli, "integrate": integrate, "integrate-half": integrate_half, "hard-reset LIF": hard_reset_lif,
}  # fmt: skip
"""Name -> (values in 0..1, T, generator) -> spike counts."""
