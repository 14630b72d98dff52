"""Functions of one real number that models apply element by element: their float64 definitions."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt

import numpy as np

__all__ = ["FUNCTIONS", "function"]

_ERF = np.frompyfunc(erf, 1, 1)


def _erf(x: np.ndarray) -> np.ndarray:
    return _ERF(x).astype(np.float64)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(sqrt(2.0 / pi) * (x + 0.044715 * x**3)))


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "abs": np.abs,
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / sqrt(2.0))),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "erf": _erf,
    "exp": lambda x: np.exp(np.minimum(x, 80.0)),
    "exp_above_0": lambda x: np.where(x > 0, np.exp(np.minimum(x, 80.0)), 0.0),
    "softplus": lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "hardsigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hardswish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "square": np.square,
}
"""By name; float64 in, float64 out, any shape. ``exp`` ends at e^80, far beyond any model's values."""


def function(name: str, x: np.ndarray) -> np.ndarray:
    """``FUNCTIONS[name]`` in float64; KeyError for a name that is not there."""
    return FUNCTIONS[name](np.asarray(x, np.float64))
