"""Laws of small functions of the passes, each against its definition in other words."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import strided_index
from neurocompile.ir.circuit_ranges import Reach
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.fields import ALL, INSTANT
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.close_loops import _Closing, _stays_silent
from neurocompile.passes.fold_scale import FoldScale
from neurocompile.passes.quantization.decided import _decided
from neurocompile.passes.quantization.fitting import MARGIN, range_of_real
from neurocompile.passes.quantization.layer import Layer
from neurocompile.passes.quantization.residuals import _grids, _real_fits, lif_unit
from neurocompile.passes.quantization.scales import best_scale
from neurocompile.passes.quantization.thresholds import LEAST_LEVELS, exact_level, soft_threshold
from neurocompile.passes.slice_layers import _digits


@pytest.mark.parametrize(
    ("known", "more"), [((-2.0, 2.0), 4.0), ((3.0, 4.0), 4.0), ((-5.0, -1.0), 5.0), ((0.0, 1.0), 1)]
)
def test_a_calibrated_range_is_widened_by_its_size_and_holds_zero(
    known: tuple[float, float], more: float
) -> None:
    """By a quarter of the larger of its length and its largest magnitude, within what is proven."""

    def of(proven: float) -> tuple[float, float]:
        calibration = SimpleNamespace(values={"v": known})
        options = SimpleNamespace(calibration=calibration)
        bound = SimpleNamespace(low=-2 * proven, high=2 * proven)
        return range_of_real(
            SimpleNamespace(unit={"v": 0.5}, bound={"v": bound}, options=options), "v"
        )

    low, high = known[0] - MARGIN * more, known[1] + MARGIN * more
    assert of(100.0) == (min(low, 0.0), max(high, 0.0))
    assert of(1.0) == (min(max(low, -1.0), 0.0), max(min(high, 1.0), 0.0))


@given(
    st.lists(st.tuples(st.integers(2, 4), st.integers(1, 40)), max_size=3),
    st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
)
def test_digits_of_an_index_are_found_where_there_are_some(pattern: list, odd: list) -> None:
    """Sizes and strides of what strides make; of anything else they make it again, or are None."""
    made = strided_index(tuple(n for n, _ in pattern) or (1,), tuple(k for _, k in pattern) or (1,))
    for index in (made, np.array(odd), np.array([0, odd[0] + 1])):
        found = _digits(index)
        assert found is None or np.array_equal(strided_index(*found), index)
    assert _digits(np.array([0, odd[0] + 1])) == ((2,), (odd[0] + 1,))
    assert _digits(np.array([0, 1, 3])) is None


@given(st.floats(0.6, 5000), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_a_soft_threshold_is_within_a_percent_and_none_there_is_better(
    ideal: float, kept: list[float]
) -> None:
    found = soft_threshold(ideal, np.array(kept))
    assert found == max(round(ideal), 1) or abs(found - ideal) <= 0.01 * ideal

    def apart(v: int) -> float:
        return round(max(abs(k * v - round(k * v)) for k in kept) / v, 5)

    near = [v for v in range(max(round(ideal) - 16, 1), round(ideal) + 17)]
    assert all(apart(found) <= apart(v) for v in near if abs(v - ideal) <= 0.0099 * ideal)


@pytest.mark.parametrize(("tau", "bits"), [(2.0, 1), (4.0, 2)])
@pytest.mark.parametrize("power", [0, 2])
def test_exact_levels_end_where_membranes_leave_the_chips_fraction(
    tau: float, bits: int, power: int
) -> None:
    """A membrane of T steps has bits * (T - 1) of fraction; the chip has 6, beside its scale."""
    last = (6 + power) // bits + 1
    grids = [2.0 ** (-bits * (T - 1)) for T in range(1, last + 3)]
    found = [
        exact_level(1.0, 3 + grid, np.array([tau]), T, power)
        for T, grid in enumerate(grids, start=1)
    ]
    # the first membrane that fires, 3 + grid, is above the integer and the one before is not
    assert found[:last] == [math.ceil((3 + grid) * 2**power) - 1 for grid in grids[:last]]
    assert found[last:] == [None, None]


@given(st.integers(0, 1 << 30))
@settings(max_examples=40)
def test_decided_channels_are_decided_at_every_corner(seed: int) -> None:
    """Channels that always or never fire do at every input between the bounds, and only those of
    which no input says otherwise are named.
    """
    rng = np.random.default_rng(seed)
    low, high = -rng.random(), 1 + rng.random()
    weight = rng.normal(size=(4, 3)).astype(np.float32) * rng.choice([0.01, 1.0])
    weight[rng.random(4) < 0.2] = 0
    bias = (rng.normal(size=(4,)) * 4).astype(np.float32)
    node, lif = (
        s.Linear(name="h", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="y", x=Ref("h"), tau=2.0, v_threshold=1.0, bias=TensorRef("b")),
    )
    graph = SimpleNamespace(tensors={"w": weight, "b": bias})
    always, never = _decided(graph, node, lif, low, high)
    corners = np.array(np.meshgrid(*[[low, high]] * 3)).reshape(3, -1)
    current = weight.astype(np.float64) @ corners + bias[:, None]
    used = weight.any(axis=1)
    assert (always <= ((current >= 1).all(axis=1) & used)).all()
    assert (never <= ((current <= 0).all(axis=1) & used)).all()
    clear = 1e-3 * (1 + np.abs(current).max(axis=1))
    assert (always >= ((current >= 1 + clear[:, None]).all(axis=1) & used)).all()
    assert (never >= ((current <= -clear[:, None]).all(axis=1) & used)).all()


def test_grids_of_a_residual_are_in_the_units_of_what_layers_read() -> None:
    weight = np.array([[0.5, -1.5], [0.0, 3.5]], np.float32)
    layers = [SimpleNamespace(name=n, weight="w", x=x) for n, x in (("a", "real"), ("b", "spikes"))]
    state = SimpleNamespace(
        graph=SimpleNamespace(tensors={"w": weight}),
        options=SimpleNamespace(weight_bits=8),
        integer={"real": None, "spikes": 1},
        unit={"real": 0.25},
    )
    found = _grids(state, SimpleNamespace(producers=layers))
    assert found is not None
    assert tuple(found["a"]) == (0.5, 0.125, 7) and tuple(found["b"]) == (0.5, 0.5, 7)


def test_the_scale_of_least_error_weighs_inputs_by_their_second_moment() -> None:
    """Of numbers of spikes of mean m: m + m^2, as a Poisson number has."""
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(2, 6)) * np.array([8, 1, 1, 1, 1, 1])
    for mean in (np.array([0.01, 3, 2, 1, 0.5, 4.0]), np.array([9, 0.01, 0, 0.5, 0.1, 0.2])):
        layer = SimpleNamespace(
            weight=weight,
            levels=7,
            node=s.Linear(name="h", x=Ref("x"), weight=TensorRef("w")),
            state=SimpleNamespace(mean={"x": mean}, options=SimpleNamespace(most_weights=None)),
        )
        largest = float(np.abs(weight).max())
        assert Layer.ideal(layer, slice(None)) == best_scale(weight, largest, 7, mean + mean**2)


def test_a_normalization_of_nothing_is_refused() -> None:
    text = """spiking "g" {stage = "imported"}
%x = Input {shape = [4]}
%s = Scale {x = %x, factor = FACTOR}
%y = Normalization {x = %s, axes = [0], epsilon = 1e-05}
%out = Output {x = %y}
"""
    with pytest.raises(NeurocompileError, match="NC2001 layer 'y' reads a value scaled by 0"):
        FoldScale()(s.SpikingGraph.parse(text.replace("FACTOR", "0.0"), {}))
    before = s.SpikingGraph.parse(text.replace("FACTOR", "-2.0"), {})
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(
        evaluate(FoldScale()(before), x, 1)["out"], evaluate(before, x, 1)["out"], rtol=1e-5
    )


@pytest.mark.parametrize("dv", [0, 512, 2048, ALL])
@pytest.mark.parametrize("du", [INSTANT, 2048])
def test_a_closed_neuron_stays_silent_where_its_membrane_does(du: int, dv: int) -> None:
    """Against all of the steps, in exact integers: the largest inhibition that lets it fire."""
    for vth in (3, 9, 40):
        p = c.LIF(name="n", shape=(1,), layer="n", depth=1, vth=vth, du=du, dv=dv)
        for inhibition in range(8, 24):
            reach, steps, idle = Reach(0, 16, 16 << 6), 5, 12
            closed, kept, opened = 16 - inhibition << 6, INSTANT - du, 0
            for _ in range(steps):
                opened = opened * kept // ALL + (16 << 6)
            inhibited = inhibition << 6
            begins = ((idle, opened - inhibited, (16 << 6) - inhibited), (steps + idle - 1, 0, 5))
            fires = False
            for count, u, v in begins:
                v = min(v, vth << 6)
                for _ in range(count):
                    u = max(u, 0) * kept // ALL + closed
                    v = max(v, 0) * (ALL - dv) // ALL + u + 5
                    fires |= v > vth << 6
            found = _stays_silent(p, reach, 5, inhibition, steps, idle)
            assert found == (not fires), (vth, inhibition)


def test_a_current_that_stays_closed_for_a_period_is_held_to_the_field_exactly() -> None:
    """By the sum of its steps: what the limit of the field allows passes, and no more."""
    for du, period, low in ((INSTANT, 9, 0), (2048, 9, 0), (2048, 4, -30), (512, 16, 5)):
        p = c.LIF(name="n", shape=(1,), layer="n", vth=3, du=du, dv=0)
        kept = (INSTANT - du) / ALL
        whole = sum(kept**t for t in range(period))
        for most in (10_000, 54_321):
            at = SimpleNamespace(period=period, fields=SimpleNamespace(current=most))
            largest = math.floor(most / whole + 1e-9)
            _Closing.check_current(at, p, Reach(low, largest, 0), 0)
            _Closing.check_current(at, p, Reach(low, 0, 0), largest + min(low, 0))
            for high, inhibition in ((largest + 1, 0), (0, largest + min(low, 0) + 1)):
                with pytest.raises(NeurocompileError, match="NC2010") as caught:
                    _Closing.check_current(at, p, Reach(low, high, 0), inhibition)
                assert f"{int(most / whole):,}" in str(caught.value)


@pytest.mark.parametrize(
    ("largest", "threshold", "bias", "soft", "expected"),
    [
        (1000.0, 0.1, 0.0, False, 1000 / 500),
        (1.0, 300.0, 0.0, False, 300 / (2 * 200)),
        (1.0, 0.1, 90.0, False, 90 / (2 * 0.9 * 400)),
        (1.0, 0.1, 90.0, True, None),
        (1.0, 0.1, None, True, 1 / 500),
    ],
)
def test_the_unit_of_a_neuron_holds_sums_threshold_and_bias(
    largest, threshold, bias, soft, expected
) -> None:
    """Of limits 500 of a sum, 200 of a threshold, 400 of a bias, with a gain of 2: the largest."""
    fields = SimpleNamespace(threshold=200, bias=400, synapse=60, weight_exponent=3, current=10**6)
    if expected is None:  # it arrives over a synapse
        expected = 90 / (2 * 0.9 * 67)
    lif = s.LIF(
        name="n", x=Ref("x"), tau=2.0, v_threshold=threshold, soft_reset=soft, gain=2.0,
        bias=None if bias is None else TensorRef("b"),
    )  # fmt: skip
    tensors = {"b": np.array([0.5 * (bias or 0), -(bias or 0)])}
    state = SimpleNamespace(
        input_limit=lambda _: 500, fields=fields, graph=SimpleNamespace(tensors=tensors)
    )
    assert lif_unit(state, lif, largest) == pytest.approx(expected)


def test_a_real_input_is_rounded_to_a_tenth_of_a_threshold_and_to_enough_levels() -> None:
    """Each of the two conditions alone decides at its own limit."""
    norm, threshold, ideal = 3.0, 2.0, 8.0
    by_threshold = 0.1 * threshold * math.sqrt(12) / norm * ideal
    for unit, largest, fits in (
        (by_threshold * 0.999, 1e9, True),
        (by_threshold * 1.001, 1e9, False),
        (by_threshold / 2, by_threshold / 2 / ideal * LEAST_LEVELS / 2 * 1.001, True),
        (by_threshold / 2, by_threshold / 2 / ideal * LEAST_LEVELS / 2 * 0.999, False),
    ):
        assert _real_fits(unit, ideal, norm, largest, threshold) == fits, (unit, largest)
