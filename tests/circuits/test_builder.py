"""What carries a value from one layout to another equals numpy's indexing, on random layouts."""

from __future__ import annotations

import itertools
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.kernels import project
from neurocompile.circuits.builder import (
    Builder,
    Drive,
    Signal,
    channels_last,
    compact,
    loops,
    strided,
)
from neurocompile.ir import circuit as c
from neurocompile.ir.layout import Atom, Layout

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def permuted(draw, shape: tuple[int, ...]) -> Layout:
    """A gapless layout of ``shape``: its axes lie in memory in a random order."""
    order = draw(st.permutations(range(len(shape))))
    memory = Layout.contiguous(tuple(shape[i] for i in order))
    return memory.transpose(tuple(int(i) for i in np.argsort(order)))


@st.composite
def nested(draw) -> Layout:
    """A layout whose axes have several atoms each."""
    sizes = draw(SIZES)
    layout = draw(permuted(sizes))
    cut = sorted(draw(st.lists(st.integers(0, len(sizes)), max_size=3)))
    bounds = [0, *cut, len(sizes)]
    return layout.reshape(tuple(prod(sizes[a:b]) for a, b in zip(bounds, bounds[1:])))


def carried(signal: np.ndarray, src: Layout, dst: Layout, size: int, weight: int = 1) -> np.ndarray:
    """``signal`` (flat memory of ``src``) after the projection of :func:`loops`, as flat memory of
    ``dst``.
    """
    projection = strided("x", *loops(src, dst), weight=weight)
    a = np.zeros((1, size), np.int32)
    project(projection, None, np.ascontiguousarray(signal[None], np.int32), signal.shape, a)
    return a[0]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_carrying_between_two_layouts_moves_every_logical_element_to_its_place(data):
    shape = data.draw(SIZES)
    src, dst = data.draw(permuted(shape)), data.draw(permuted(shape))
    x = np.arange(1, prod(shape) + 1)
    found = carried(x, src, dst, prod(shape), weight=3)
    np.testing.assert_array_equal(dst.apply(found), 3 * src.apply(x))


@settings(max_examples=200, deadline=None)
@given(nested(), st.data())
def test_carrying_between_nested_layouts_moves_every_logical_element_to_its_place(src, data):
    dst = Layout.contiguous(src.shape)
    x = np.arange(1, prod(src.shape) + 1)
    np.testing.assert_array_equal(dst.apply(carried(x, src, dst, x.size)), src.apply(x))
    np.testing.assert_array_equal(src.apply(carried(x, dst, src, x.size)), dst.apply(x))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_axis_of_size_one_in_the_source_broadcasts_and_in_the_destination_reduces(data):
    shape = data.draw(SIZES)
    kept = tuple(data.draw(st.booleans()) for _ in shape)
    small = tuple(n if k else 1 for n, k in zip(shape, kept))
    full, part = data.draw(permuted(shape)), data.draw(permuted(small))
    x = np.arange(1, prod(small) + 1)
    found = full.apply(carried(x, part, full, prod(shape)))
    np.testing.assert_array_equal(found, np.broadcast_to(part.apply(x), shape))
    y = np.arange(1, prod(shape) + 1)
    axes = tuple(i for i, k in enumerate(kept) if not k)
    reduced = part.apply(carried(y, full, part, prod(small)))
    np.testing.assert_array_equal(reduced, full.apply(y).sum(axis=axes, keepdims=True))


def test_layouts_that_do_not_nest_are_refused():
    with pytest.raises(ValueError, match="do not nest"):
        loops(Layout(((Atom(2, 3), Atom(3, 1)),)), Layout(((Atom(3, 2), Atom(2, 1)),)))


@settings(max_examples=200, deadline=None)
@given(nested(), st.integers(1, 5))
def test_compact_keeps_the_order_in_memory_and_leaves_no_gap(layout, gap):
    spread = Layout(tuple(tuple(Atom(a.size, a.stride * gap) for a in dim) for dim in layout.dims))
    shape, packed = compact(spread)
    found = packed.indices().ravel()
    assert packed.shape == layout.shape
    assert prod(shape) == prod(layout.shape)
    assert sorted(found) == list(range(prod(shape)))
    np.testing.assert_array_equal(np.argsort(found), np.argsort(spread.indices().ravel()))


def test_channels_last_is_the_transposition_of_an_image():
    image = np.arange(24).reshape(3, 4, 2)  # (H, W, C)
    np.testing.assert_array_equal(
        channels_last((2, 3, 4)).apply(image.ravel()), image.transpose(2, 0, 1)
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(0, 9)), max_size=4),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_strided_joins_loops_without_changing_the_synapses(found, src_offset, dst_offset):
    sizes, src, dst = zip(*found) if found else ((), (), ())
    projection = strided("x", sizes, src, dst, src_offset=src_offset, dst_offset=dst_offset)

    def synapses(sizes, src, dst):
        return sorted(
            (
                src_offset + sum(i * k for i, k in zip(index, src)),
                dst_offset + sum(i * k for i, k in zip(index, dst)),
            )
            for index in itertools.product(*map(range, sizes))
        )

    assert synapses(projection.sizes, projection.src_strides, projection.dst_strides) == synapses(
        sizes, src, dst
    )
    assert (projection.src_offset, projection.dst_offset) == (src_offset, dst_offset)


def test_loops_that_run_on_without_a_gap_become_one():
    projection = strided("x", (2, 3, 4), (12, 4, 1), (12, 4, 1))
    assert (projection.sizes, projection.src_strides, projection.dst_strides) == ((24,), (1,), (1,))


@given(st.integers(-255, 255), st.integers(0, 7))
def test_a_weight_above_eight_bits_becomes_an_exponent(mantissa, exponent):
    projection = strided("x", (1,), (0,), (0,), weight=mantissa << exponent)
    assert projection.weight << projection.weight_exp == mantissa << exponent
    assert abs(projection.weight) <= 255 and 0 <= projection.weight_exp <= 7
    assert projection.sign == ("excitatory" if mantissa >= 0 else "inhibitory")


@pytest.mark.parametrize("weight", [257, -511, 1001])
def test_a_weight_that_needs_more_than_eight_bits_is_refused(weight):
    with pytest.raises(ValueError, match="more than 8 bits"):
        strided("x", (1,), (0,), (0,), weight=weight)


@pytest.mark.parametrize("first, gain", [(3, 5), (-1, 254), (16, 16), (255, 128)])
def test_a_gain_multiplies_a_strided_weight(first, gain):
    projection = Builder().weighted(
        strided("x", (4,), (1,), (1,), weight=first, src_offset=1), gain
    )
    assert projection.weight << projection.weight_exp == first * gain
    assert projection.src_offset == 1


def test_only_unweighted_connections_take_a_gain():
    dense = c.Dense(name="", src="x", dst="", weight="w")
    assert Builder().weighted(dense, 1) is dense
    with pytest.raises(ValueError, match="gain"):
        Builder().weighted(dense, 2)


def test_a_drive_is_carried_only_to_its_own_layout():
    layout = Layout.contiguous((2, 3))
    drive = Signal(Drive((2, 3), (strided("x", (6,), (1,), (1,), weight=2),)), layout)
    assert [p.weight for p in Builder().carry(drive, layout, weight=5)] == [10]
    with pytest.raises(ValueError, match="relay it first"):
        Builder().carry(drive, Layout.contiguous((3, 2)).transpose((1, 0)))


def test_names_and_tensors_are_never_given_twice():
    builder = Builder()
    names = [builder.population(c.GradedRelay, "p", (1,), "p") for _ in range(3)]
    tensors = [builder.tensor("w", np.zeros(i)) for i in range(3)]
    assert names == ["p", "p.2", "p.3"] and tensors == ["w", "w.2", "w.3"]


def test_a_relay_of_a_drive_holds_its_value_and_a_population_is_its_own_relay():
    builder = Builder()
    builder.population(c.HostInput, "x", (3,), "x", low=0, high=9)
    drive = Signal(
        Drive((3,), (strided("x", (3,), (1,), (1,), weight=2),)), Layout.contiguous((3,))
    )
    relayed = builder.relay(drive, "r", "r")
    assert builder.relay(relayed, "again", "r") is relayed
    trace = Emulator().open(builder.finish("relay", 2)).run(np.array([[1, 2, 3]], np.int32))
    np.testing.assert_array_equal(trace["r"], [[[2, 4, 6], [2, 4, 6]]])


def test_the_constant_one_fires_in_every_step():
    builder = Builder()
    builder.population(c.HostInput, "x", (1,), "x", low=0, high=1)
    one = builder.always_on("layer")
    trace = Emulator().open(builder.finish("one", 5)).run(np.zeros((2, 1), np.int32))
    assert (trace[one] == 1).all() and trace[one].shape == (2, 5, 1)


def test_finish_puts_sources_before_destinations():
    builder = Builder()
    builder.population(c.GradedRelay, "late", (1,), "late")
    builder.population(c.HostInput, "x", (1,), "x", low=0, high=1)
    builder.drive("late", [strided("x", (1,), (0,), (0,))])
    assert [p.name for p in builder.finish("order", 1).populations] == ["x", "late"]
