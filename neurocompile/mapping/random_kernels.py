"""Chance in the inner loops: a generator of their own, the same on every machine."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import helper

__all__ = ["below", "draw", "seeded"]


def seeded(seed: int, salt: int) -> np.ndarray:
    """State of a generator, uint64 (1)."""
    state = np.empty(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state[0] = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    return state


@helper
def draw(state: np.ndarray) -> np.uint64:
    """Next 64 random bits (xorshift64*); ``state`` uint64 (1), not 0."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return x * np.uint64(2685821657736338717)


@helper
def below(state: np.ndarray, n: int) -> np.int64:
    """A random whole number in 0..n-1, n < 2^31."""
    return np.int64(((draw(state) >> np.uint64(33)) * np.uint64(n)) >> np.uint64(31))
