"""Rate codes: how a value in 0..1 becomes T spikes. Numpy on the host, not a circuit: what encodes
is an experiment's choice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parameters import count
from neurocompile.theory.bounds.rate_coding import relu_rate

__all__ = ["CODES", "bernoulli", "hard_reset_lif", "integrate", "integrate_half"]


def bernoulli(x: np.ndarray, T: int, rng: np.random.Generator) -> np.ndarray:
    """Spikes of independent Bernoulli trains (Lemma 1's code): counts, int64."""
    if not ((np.asarray(x) >= 0) & (np.asarray(x) <= 1)).all():
        raise NeurocompileError(
            "NC8003", "a value to encode lies outside of 0..1, which no rate does"
        )
    return rng.binomial(count("T", T), x)


def integrate(x: np.ndarray, T: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Spikes of an integrate-and-fire neuron with soft reset, membrane from 0."""
    return np.rint(relu_rate(x, T) * T).astype(np.int64)


def integrate_half(x: np.ndarray, T: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The same with the membrane from half of the threshold."""
    return np.rint(relu_rate(x, T, initial=0.5) * T).astype(np.int64)


def hard_reset_lif(x: np.ndarray, T: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Spikes of the models' own neuron, equations (1) and (2): beta 0.5, V_th 1, hard reset,
    current x.
    """
    v, fired = np.zeros(x.shape), np.zeros(x.shape, np.int64)
    for _ in range(count("T", T)):
        v = 0.5 * v + x
        spikes = v >= 1
        fired += spikes
        v[spikes] = 0
    return fired


CODES: dict[str, Callable[..., np.ndarray]] = {
    "bernoulli": bernoulli,
    "integrate": integrate,
    "integrate-half": integrate_half,
    "hard-reset LIF": hard_reset_lif,
}
"""Name -> (values in 0..1, T, generator) -> spike counts."""
