"""Rows that are equal, found by hashing, against sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.mapping.alike import alike


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 9))
def test_equal_rows_are_those_that_sorting_finds(seed, rows, kinds):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 63, (kinds, 2), dtype=np.uint64)
    words[:: max(seed % 3, 1), 0] = words[0, 0]  # half of the bits tell nothing apart
    signature = words[rng.integers(0, kinds, rows)]
    first, class_of, count = alike(signature)
    _, place, inverse = np.unique(signature, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(first, place[inverse.ravel()])
    assert count == len(place)
    new = class_of[np.sort(place)]
    np.testing.assert_array_equal(new, np.arange(count))  # in the order of first rows
    np.testing.assert_array_equal(class_of, class_of[first])
