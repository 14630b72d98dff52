"""Bits that weights need: what Lava's truncation leaves of them, aligned to the top of the field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.ir.significance import bits_needed


@pytest.mark.parametrize(
    ("values", "sign", "bits"),
    [
        ([1], "excitatory", 1),
        ([240], "excitatory", 4),
        ([255], "excitatory", 8),
        ([-128, -64], "inhibitory", 2),
        ([0], "excitatory", 1),
        ([0], "mixed", 2),
        ([-256, 254], "mixed", 8),
        ([-64, 0], "mixed", 1),
        ([64], "mixed", 2),
        ([32 * 7, -32 * 7], "mixed", 4),
    ],
)
def test_known(values: list[int], sign: str, bits: int) -> None:
    assert bits_needed(np.array(values, np.int16), sign) == bits


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=9).filter(any), st.booleans())
def test_the_least_bits_that_hold_the_weights(numbers: list[int], mixed: bool) -> None:
    """Brute force: over all shifts, the least b so that every weight is a number of b bits."""
    values = np.array(numbers) if mixed else np.abs(numbers)

    def holds(b: int) -> bool:
        low, high = (-(1 << (b - 1)), (1 << (b - 1)) - 1) if mixed else (0, (1 << b) - 1)
        return any(
            not (values % (1 << k)).any()
            and low <= (values >> k).min()
            and (values >> k).max() <= high
            for k in range(8)
        )

    assert bits_needed(values, "mixed" if mixed else "excitatory") == min(
        b for b in range(1, 10) if holds(b)
    )
