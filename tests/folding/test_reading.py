"""Schedules that may meet, checked window by window, and those that may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.folding.reading import patch_of, plan
from neurocompile.folding.slots import Axis, Slots, Unfoldable


@st.composite
def slots(draw) -> Slots:
    """A row-serial schedule: whole rows, wide blocks or lanes handed on in time."""
    lanes = draw(st.sampled_from((1, 2, 4)))
    rows = Axis(4, lanes, ((4 // lanes, draw(st.integers(1, 6))),) if lanes < 4 else ())
    width = draw(st.sampled_from((1, 2, 4)))
    columns = Axis(4, width, ((4 // width, draw(st.integers(1, 3))),) if width < 4 else ())
    return Slots(rows, columns)


@settings(deadline=None, max_examples=150)
@given(slots(), slots(), st.sampled_from((1, 3)), st.sampled_from((1, 2)))
def test_a_plan_delivers_each_position_of_the_patch_and_nothing_else(
    reader, source, kernel, stride
):
    windows, padding = 40, kernel // 2
    small = Slots(*(_halved(a) if stride == 2 else a for a in (reader.rows, reader.columns)))
    try:
        patch = patch_of(small, source, (kernel,) * 2, (stride,) * 2, (padding,) * 2)
        found = plan(small, source, patch, windows)
        places = source.origin(windows), small.origin(windows)
    except Unfoldable:
        return
    image = np.arange(1, 17).reshape(4, 4)
    sent = np.zeros((windows, *source.lanes), int)
    for w, (y, x) in enumerate(places[0]):
        if y >= 0:
            sent[w] = image[y : y + source.lanes[0], x : x + source.lanes[1]]
    padded = np.pad(image, 8)
    for w, (y, x) in enumerate(places[1]):
        got = np.zeros(patch.shape, int)
        for run in found.runs:
            piece = sent[(w - run.lag) % windows]
            (a, b), (c, d), (n, m) = run.first, run.lane, run.count
            got[a : a + n, b : b + m] += piece[c : c + n, d : d + m]
        if y < 0:
            assert found.stray or not got.any()
            continue
        top = patch.rows.start + patch.rows.stride * y + 8
        left = patch.columns.start + patch.columns.stride * x + 8
        wanted = padded[top : top + patch.shape[0], left : left + patch.shape[1]]
        np.testing.assert_array_equal(got, wanted)


def _halved(axis: Axis) -> Axis:
    if axis.lanes > 1:
        return Axis(axis.size // 2, axis.lanes // 2, axis.digits)
    n, apart = axis.digits[0]
    return Axis(axis.size // 2, 1, ((n // 2, 2 * apart),))


def test_the_next_sample_must_not_be_read():
    rows = Slots(Axis(4, 1, ((4, 1),)), Axis(4, 4))
    patch = patch_of(rows, rows, (3, 3), (1, 1), (1, 1))
    assert len(plan(rows, rows, patch, 5).runs) == 3
    with pytest.raises(Unfoldable, match="window 3"):
        plan(rows, rows, patch, 4)  # no pause: row 4 is the first of the next sample


def test_two_positions_never_share_a_slot():
    with pytest.raises(Unfoldable, match="share a window"):
        Slots(Axis(4, 1, ((4, 1),)), Axis(4, 2, ((2, 1),))).origin(9)
    with pytest.raises(Unfoldable, match="no multiple"):
        Axis(5, 2, ((2, 1),))
