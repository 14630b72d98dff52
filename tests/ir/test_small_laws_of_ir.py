"""Laws of small functions of the two graphs, each against its definition in other words."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import _integer_lif
from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.ir.interval import Interval, geometric
from neurocompile.ir.layout import Atom, _gaps, _insert, _ones
from neurocompile.ir.spiking_rules import _mixed_sum
from neurocompile.ir.text import Ref, TensorRef

ENDS = [(-5, -2), (-3, 0), (-4, 7), (0, 6), (2, 9)]


@pytest.mark.parametrize("low, high", ENDS)
def test_sums_of_weighted_values_reach_both_of_their_bounds(low: int, high: int) -> None:
    weights = np.array([3, -2, 5, -7, 0])
    sums = [
        int(np.dot(weights, values)) for values in product((low, (low + high) // 2, high), repeat=5)
    ]
    least, most = Interval(low, high).weighted(
        np.minimum(weights, 0).sum(), np.maximum(weights, 0).sum()
    )
    assert (int(least), int(most)) == (min(sums), max(sums))


@pytest.mark.parametrize("a", ENDS)
@pytest.mark.parametrize("b", ENDS)
def test_intervals_of_two_values_are_those_of_their_members(a: tuple, b: tuple) -> None:
    one, other = Interval(*a), Interval(*b)
    pairs = list(product(range(a[0], a[1] + 1), range(b[0], b[1] + 1)))
    added, multiplied = [x + y for x, y in pairs], [x * y for x, y in pairs]
    assert one + other == Interval(min(added), max(added))
    assert one * other == Interval(min(multiplied), max(multiplied))
    for factor in (-3, 0, 2):
        times = [factor * x for x in range(a[0], a[1] + 1)]
        assert one.times(factor) == Interval(min(times), max(times))
    assert one.magnitude == max(abs(x) for x in range(a[0], a[1] + 1))
    assert one.with_zero() == Interval(min(a[0], 0), max(a[1], 0))
    cut = one.within(3)
    assert (cut.low, cut.high) == (max(a[0], -3), min(a[1], 3))


@pytest.mark.parametrize("kept", [0.0, 0.25, 0.9, 1.0])
def test_what_a_leak_makes_of_a_constant(kept: float) -> None:
    value, sums = 0.0, []
    for _ in range(400):
        value = value * kept + 1
        sums.append(value)
    assert geometric(kept, 7) == pytest.approx(sums[6])
    assert geometric(kept, None) == (pytest.approx(sums[-1]) if kept < 1 else float("inf"))


def test_axes_of_size_one_are_found_by_what_lies_in_front_of_them() -> None:
    """Axes of 3, 1, 2 x (a label) x 4, 1, 1, 5: a label's place is the product of all in front."""
    label = Atom(1, 0, "time")
    two, four = Atom(2, 4), Atom(4, 1)
    dims = [(Atom(3, 40),), (label,), (two, label, four), (), (label, label), (Atom(5, 8),)]
    assert _ones(dims) == {3: [(label,)], 6: [(label,)], 24: [(), (label, label)]}
    gaps = _gaps([(Atom(3, 40),), (), (two, four), (), (), (Atom(5, 8),)])
    assert gaps == {1: ([], None, 0), 3: ([1], 0, 2), 24: ([3, 4], 2, 5), 120: ([], 5, None)}
    assert _gaps([]) == {1: ([], None, None)}


def test_labels_are_put_into_the_axis_at_their_place() -> None:
    """Beside an atom of time or batch, where as many elements lie in front; nowhere else."""
    time, plain, label = Atom(4, 6, "time"), Atom(3, 2), (Atom(1, 0, "batch"),)
    for place, expected in (
        (2, [[Atom(2, 24)], [plain, time]]),  # between axes, not within one
        (6, [[Atom(2, 24)], [plain, *label, time]]),
        (24, [[Atom(2, 24)], [plain, time]]),
    ):
        placed = [[Atom(2, 24)], [plain, time]]
        _insert(placed, place, label)
        assert placed == expected, place
    features = [[Atom(2, 24)], [plain, Atom(4, 6)]]
    _insert(features, 6, label)  # between features it is given up
    assert features == [[Atom(2, 24)], [plain, Atom(4, 6)]]


@given(
    st.lists(st.integers(-(1 << 17), 1 << 17), min_size=1, max_size=8),
    st.integers(0, ALL),
    st.integers(0, ALL),
    st.integers(0, 1 << 17),
    st.integers(-4096, 4095),
    st.integers(0, 7),
    st.integers(1, 3),
)
def test_the_integer_lif_is_its_scalar_loop(x, dv, current, vth, bias, exponent, gain) -> None:
    """Every step in Python's integers, with the voltage's saturation at the payload."""
    node = s.IntegerLIF(
        name="n", x=Ref("x"), vth=vth, dv=dv, current=current, gain=gain, bias=TensorRef("b"),
        bias_exp=exponent,
    )  # fmt: skip
    tensors = {"b": np.array([bias], np.int16)}
    steps = len(x) + 2  # beyond its end an input stays
    found = _integer_lif(
        node, [np.array(x, np.int64).reshape(1, -1, 1)], [tensors[t] for t in node.tensors], steps
    )

    def stays(value: int, loses: int) -> int:
        size = abs(value) * (ALL - loses) >> 12
        return size if value >= 0 else -size

    u = v = 0
    for t in range(steps):
        u = stays(u, current) + (gain * x[min(t, len(x) - 1)] << 6)
        v = stays(v, dv) + u + (bias << exponent)
        v = max(-PAYLOAD, min(PAYLOAD, v))
        fires = v > vth << 6
        assert found[0, t, 0] == fires, (t, v)
        v = 0 if fires else v


@pytest.mark.parametrize("first, second", [("spikes", "real"), ("real", "spikes")])
def test_a_sum_of_an_integer_and_a_real_value_of_one_shape_is_named(
    first: str, second: str
) -> None:
    """One that broadcasts is another rule's matter, and two of a kind are none."""
    tensors = {"w": np.ones((3, 3), np.float32), "one": np.ones((1, 3), np.float32)}
    nodes = (
        s.Input(name="x", shape=(3,)),
        s.Linear(name="layer", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="spikes", x=Ref("layer"), tau=2.0, v_threshold=1.0),
        s.Function(name="real", x=Ref("layer"), function="sigmoid"),
        s.Sum(name="short", x=Ref("real"), axes=(0,), keepdims=True),
    )

    def named(a: str, b: str) -> str:
        total = s.Add(name="total", a=Ref(a), b=Ref(b))
        return _mixed_sum(s.SpikingGraph("g", "canonical", (*nodes, total), tensors))

    assert named(first, second) == "total"
    assert named(first, first) == named("spikes", "short") == named("short", "spikes") == ""
