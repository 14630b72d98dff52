"""The bound by counting spike patterns: below every code there is, and equal to the count itself."""

from __future__ import annotations

from math import comb, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.theory.bounds.codes import CODES
from neurocompile.theory.bounds.pattern_bound import (
    bits_in_range,
    bits_of_rms,
    least_spikes,
    least_steps,
)


def counted(slots: int, bits: float) -> int:
    """The smallest N whose patterns suffice, by exact integers."""
    total, most = 0, 0
    for most in range(slots + 1):
        total += comb(slots, most)
        if log2(total) >= bits:
            break
    return most


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 144))
def test_it_is_a_bound_and_close_to_the_exact_count(neurons, steps, bits):
    found = least_spikes(neurons, steps, bits)
    if bits > neurons * steps:
        assert found is None and least_steps(neurons, bits) > steps
        return
    exact = counted(neurons * steps, bits)
    assert 1 <= found <= exact
    assert exact - found <= 4 + log2(neurons * steps + 1)
    assert least_steps(neurons, bits) <= steps


@given(st.integers(1, 200), st.integers(1, 60), st.floats(0, 2000))
def test_more_steps_never_need_more_spikes(neurons, steps, bits):
    few, more = least_spikes(neurons, steps, bits), least_spikes(neurons, 2 * steps, bits)
    assert few is None or (more is not None and more <= few)


@pytest.mark.parametrize("name", ["integrate", "integrate-half", "bernoulli"])
@pytest.mark.parametrize("T", [4, 16, 64])
def test_no_code_of_ours_falls_below_it(name, T):
    """Unlike Theorem 8, of which deterministic codes fall below any constant."""
    rng = np.random.default_rng(0)
    x = rng.random(4096)
    counts = CODES[name](x, T, rng)
    rms = float(np.sqrt(((counts / T - x) ** 2).mean()))
    bound = least_spikes(x.size, T, bits_of_rms(x.size, rms))
    assert bound is not None and counts.sum() >= bound


def test_bits():
    assert bits_in_range(10, 1 / 8) == 20
    assert bits_in_range(10, 0.5) == bits_in_range(10, 3) == 0
    assert bits_of_rms(10, 1.0) == 0
    # a uniform quantizer of step s has an rms error of s / sqrt(12) and log2(1/s) bits: 0.25 bits
    # above Shannon's bound
    step = 1 / 64
    assert 6 - bits_of_rms(1, step / np.sqrt(12)) == pytest.approx(0.2546, abs=1e-3)
    assert least_spikes(4, 4, 0) == 0 and least_steps(4, 0) == 1
    with pytest.raises(NeurocompileError, match="NC8003"):
        bits_in_range(10, 0)
