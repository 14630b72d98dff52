"""A Layout's reshapes and transpositions are numpy's, on indices instead of data."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from neurocompile.ir.layout import Atom, Layout, LayoutError

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4).map(tuple)


@st.composite
def reshapes(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of as many elements: neighbours merged, sizes split, 1s added."""
    sizes = list(shape)
    for _ in range(draw(st.integers(0, 3))):
        i = draw(st.integers(0, len(sizes) - 1))
        what = draw(st.sampled_from(["merge", "split", "one"]))
        if what == "merge" and i + 1 < len(sizes):
            sizes[i : i + 2] = [sizes[i] * sizes[i + 1]]
        elif what == "split":
            k = draw(st.sampled_from([d for d in range(1, sizes[i] + 1) if sizes[i] % d == 0]))
            sizes[i : i + 1] = [k, sizes[i] // k]
        else:
            sizes.insert(i, 1)
    return tuple(sizes)


def check_same(layout: Layout, view: np.ndarray, data: np.ndarray) -> None:
    assert layout.shape == view.shape
    np.testing.assert_array_equal(layout.indices(), view)  # ``data`` counts its elements
    np.testing.assert_array_equal(layout.apply(data.reshape(-1)), view)
    stacked = np.stack([data.reshape(-1), -data.reshape(-1)])
    np.testing.assert_array_equal(layout.apply(stacked), np.stack([view, -view]))
    np.testing.assert_array_equal(layout.simplified().indices(), view)
    assert layout.is_contiguous == bool((view.reshape(-1) == np.arange(view.size)).all())


@given(SHAPES, st.data())
def test_a_chain_of_reshapes_and_transpositions_is_numpys(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    array = np.arange(prod(shape)).reshape(shape)
    layout, view = Layout.contiguous(shape), array
    check_same(layout, view, array)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            permutation = tuple(data.draw(st.permutations(range(view.ndim))))
            layout, view = layout.transpose(permutation), view.transpose(permutation)
        else:
            wanted = data.draw(reshapes(view.shape))
            try:
                layout = layout.reshape(wanted)
            except LayoutError:
                assume(False)  # which reshapes must work is the next test's matter
            view = view.reshape(wanted)
        check_same(layout, view, array)


@given(SHAPES, st.data())
def test_splits_and_merges_of_whole_axes_always_work(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    """Attention heads: permute, merge neighbours, cut them apart again."""
    array = np.arange(prod(shape)).reshape(shape)
    permutation = tuple(data.draw(st.permutations(range(len(shape)))))
    view = array.transpose(permutation)
    layout = Layout.contiguous(shape).transpose(permutation).reshape((prod(shape),))
    check_same(layout, view.reshape(-1), array)
    check_same(layout.reshape(view.shape), view, array)
    back = tuple(np.argsort(permutation))
    check_same(layout.reshape(view.shape).transpose(back), array, array)


@given(SHAPES, st.data())
def test_rearranging_a_layout_is_rearranging_the_array(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    """The Rearrange node: digits ``sizes`` with ``strides`` into the row-major index of the view."""
    array = np.arange(prod(shape)).reshape(shape)
    outer = tuple(data.draw(st.permutations(range(len(shape)))))
    view, layout = array.transpose(outer), Layout.contiguous(shape).transpose(outer)
    inner = tuple(data.draw(st.permutations(range(len(shape)))))
    strides = [prod(view.shape[i + 1 :]) for i in range(view.ndim)]
    expected = view.transpose(inner)
    found = layout.rearranged(expected.shape, expected.shape, tuple(strides[i] for i in inner))
    check_same(found, expected, array)


@pytest.mark.parametrize("shape", [(5,), (2, 2), (7, 1), (-2, -3), (6, -1), (0, 6), (12, 2, 0), ()])
def test_a_reshape_to_another_number_of_elements_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError):
        Layout.contiguous((2, 3)).reshape(shape)


def test_a_reshape_that_cuts_an_axis_between_its_multiples_is_refused() -> None:
    layout = Layout.contiguous((4, 6)).transpose((1, 0))
    with pytest.raises(LayoutError, match="cuts an axis"):
        layout.reshape((4, 6))


def test_a_labelled_axis_is_merged_and_recovered_but_never_cut() -> None:
    layout = Layout(((Atom(4, 1, "T"),), (Atom(6, 1, "B"),), *Layout.contiguous((3, 2)).dims))
    merged = layout.reshape((24, 6))
    assert merged.dims[0] == (Atom(4, 1, "T"), Atom(6, 1, "B"))
    assert merged.reshape((4, 6, 3, 2)) == layout
    for shape in [(8, 3, 6), (2, 12, 6), (4, 2, 3, 6)]:
        with pytest.raises(LayoutError, match="cuts an axis"):
            layout.reshape(shape)


@pytest.mark.parametrize("permutation", [(0,), (0, 0), (0, 2), (1, 0, 2), (-1, 0)])
def test_what_is_no_permutation_is_refused(permutation: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="permutation"):
        Layout.contiguous((2, 3)).transpose(permutation)


def test_an_axis_of_one_element_has_no_atom() -> None:
    assert Layout.contiguous((1, 2, 1)).dims == ((), (Atom(2, 1),), ())
    assert Layout.contiguous(()).indices() == 0
