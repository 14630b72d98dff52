"""Laws of small functions of the quantizer, each against its definition in other words."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.ir import spiking as s
from neurocompile.ir.digits import falling_values
from neurocompile.ir.fields import ALL
from neurocompile.ir.interval import Interval
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.narrow_weights import _parts
from neurocompile.passes.quantization.layer import _ROOM, Layer
from neurocompile.passes.quantization.means import note_shift
from neurocompile.passes.quantization.scales import _CLIPS, best_scale
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.tables import descent
from neurocompile.passes.quantization.thresholds import _leak, exact_level, input_limit
from neurocompile.targets.fields import LOIHI2

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("leak", [1, 3, 1024, 2048, 4095])
def test_a_leak_is_the_chips_where_it_is_one_of_its_4096ths(leak: int) -> None:
    tau = ALL / leak
    assert _leak(tau) == _leak(float(np.float32(tau))) == Fraction(leak, ALL)
    assert _leak(tau * (1 + 1e-5)) is None and _leak(tau * (1 - 1e-5)) is None


def test_a_leak_that_the_chip_lacks_is_none_however_small_it_is() -> None:
    assert _leak(1.0) is None  # nothing would be kept
    assert [_leak(tau) for tau in (3.0, 1e4, 1e6, 2.0**31, 2.0**32)] == [None] * 5
    assert [_leak(tau) for tau in (1.5 * 2.0**32, 1e20, np.inf)] == [0] * 3


@pytest.mark.parametrize("steps", [2, 3])
def test_an_exact_level_is_the_least_membrane_that_reaches_the_threshold(steps: int) -> None:
    """Within float32 rounding of a membrane a threshold is that membrane, above it the next one."""
    grid, tau = 2.0 ** -(steps - 1), np.array([2.0])
    for membrane in (3 + grid, 7 + grid):
        near = [exact_level(1.0, membrane * (1 + e), tau, steps, 4) for e in (-1e-7, 0, 1e-7)]
        below = [exact_level(1.0, membrane - part * grid, tau, steps, 4) for part in (0.9, 0.2)]
        assert set(near + below) == {round(membrane * 2**4) - 1}


@pytest.mark.parametrize("tau", [1.0, 1.5, 2.0, 8.0])
@pytest.mark.parametrize("current", [0.0, 0.5])
def test_a_hard_resets_input_fills_what_accumulates_it(tau: float, current: float) -> None:
    """The current alone where the voltage clips; else also a membrane over two samples' steps."""
    steps = 5
    for fields in (LOIHI2, replace(LOIHI2, membrane=LOIHI2.current)):
        most = input_limit(False, tau, steps, current, fields)
        held = sum(current**k for k in range(steps))
        if fields.membrane is not None:
            held *= sum((1 - 1 / tau) ** k for k in range(2 * steps))
        assert most * held <= fields.current < (most + 1) * held


def test_a_kernels_scale_of_least_error_weighs_inputs_as_a_matrix_does() -> None:
    weight, moments = RNG.normal(size=(3, 6)) * [8, 1, 1, 1, 1, 1], np.array([1e-3, 3, 2, 1, 2, 4])
    largest = float(np.abs(weight).max())

    def error(scale: float) -> float:
        kept = np.clip(np.rint(weight / scale), -7, 7) * scale
        return float((((weight - kept) ** 2) * moments).sum())

    found = best_scale(weight[:, :, None, None], largest, 7, moments)
    assert found == best_scale(weight, largest, 7, moments) < largest / 7
    assert error(found) == pytest.approx(min(error(c * largest / 7) for c in _CLIPS))


@given(st.integers(-5000, 5000), st.integers(0, 9000), st.integers(1, 3000))
def test_a_value_is_shifted_no_further_than_its_limit_asks(low: int, size: int, limit: int) -> None:
    bound = Interval(low, low + size)
    state = SimpleNamespace(bound={"x": bound}, dropped=lambda name, bits, nearest: bits)
    bits = Quantization.coarser(state, "x", limit)

    def reaches(k: int) -> int:
        return max(bound.high >> k, -(bound.low >> k))

    assert reaches(bits) <= limit and (not bits or reaches(bits - 1) > limit)


def test_what_shifts_lose_adds_up() -> None:
    """A value that lacks 3 lacks half of its dropped bits more, where its mean is not made up for."""
    state = SimpleNamespace(
        options=SimpleNamespace(weight_bits=8),
        bound={Ref("x"): Interval(0, 4000)},
        fields=LOIHI2,
        unit={Ref("x"): 0.5},
        rewriter=SimpleNamespace(fresh=lambda name: name),
        shift={Ref("x"): np.full((2, 1), 3.0)},
        active={Ref("x"): np.array([[True], [False]])},
    )

    def emit(node: s.Shift, like: Ref) -> Ref:
        state.unit[node.name] = 0.0
        return Ref(node.name)

    state._emit = emit
    found = Quantization._shifted(state, Ref("x"), 4, False)
    lost = 0.5 * (16 - 2) / 2  # of 2^9-bits levels apart: those of 8-bit weights are even
    assert state.shift[found].tolist() == [[3 + lost], [3.0]]
    assert state.unit[found] == 0.5 * 16


def test_a_layer_lacks_what_rounding_took_and_what_its_input_lacks() -> None:
    node = s.Linear(name="h", x=Ref("x"), weight=TensorRef("w"))
    weight, lost = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    mean, lacks = np.array([0.5, 1, 2]), np.array([3, -1, 4.0])
    for means in ({}, {"x": mean}):
        for shifts in ({}, {"x": lacks}):
            state = SimpleNamespace(mean=means, shift=dict(shifts), size={"x": (3,), "h": (2,)})
            note_shift(state, node, weight, lost)
            wanted = (lost @ mean if means else 0.0) + (weight @ lacks if shifts else 0.0)
            assert ("h" in state.shift) == bool(means or shifts)
            np.testing.assert_allclose(state.shift.get("h", 0.0), wanted)


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 3.0), (-2.0, -1.0)])
def test_noise_of_a_layer_on_pixels_is_that_of_uniform_ones(low: float, high: float) -> None:
    """Rounding is off by scale / sqrt(12) a weight; pixels are anything of their range."""
    pixels = np.linspace(low, high, 20001)
    layer = SimpleNamespace(
        state=SimpleNamespace(
            mean={},
            graph=SimpleNamespace(node={"x": s.Input(name="x", shape=(5,))}),
            options=SimpleNamespace(
                calibration=SimpleNamespace(input=SimpleNamespace(min=low, max=high))
            ),
        ),
        node=s.Linear(name="h", x=Ref("x"), weight=TensorRef("w")),
        weight=np.zeros((2, 5)),
        threshold=0.7,
    )
    scale = np.array([0.1, 0.3])
    wanted = scale * np.sqrt(5 * (pixels**2).mean() / 12) / 0.7
    np.testing.assert_allclose(Layer.noise(layer, scale), wanted, rtol=1e-3)


@pytest.mark.parametrize("bias, threshold, weight", [(900.0, 1.0, 1e-3), (1e-3, 900.0, 1e-3)])
def test_the_least_scale_fills_the_field_that_is_short(
    bias: float, threshold: float, weight: float
) -> None:
    """Whatever the input's unit is."""
    for unit in (0.125, 1.0, 4.0):
        layer = SimpleNamespace(
            reach=lambda w: np.abs(w).sum(axis=1),
            weight=np.full((1, 2), weight),
            lif=s.LIF(name="y", x=Ref("h"), tau=2.0, v_threshold=1.0),
            bias=np.array([bias]),
            threshold=threshold,
            unit=unit,
            limit=LOIHI2.current,
            state=SimpleNamespace(fields=LOIHI2),
        )
        (least,) = Layer.least(layer)
        fullness = (
            2 * weight / least / LOIHI2.current,
            threshold / unit / least / LOIHI2.threshold,
            bias / unit / least / (_ROOM * LOIHI2.bias),
        )
        assert max(fullness) == pytest.approx(1.0)


@pytest.mark.parametrize("per_octave", [2, 4])
@pytest.mark.parametrize("low, high", [(1, 60), (40, 90_000)])
def test_a_descent_is_near_its_function_at_both_ends_and_between(
    low: int, high: int, per_octave: int
) -> None:
    top = 20_000
    found = descent(lambda x: 1000.0 / (x + 5.0), low, high, per_octave, top, LOIHI2)
    x = np.unique(np.geomspace(low, high, 200).astype(np.int64))
    tensors = [found.ends, found.lengths, found.weights, found.exponents, found.drops]
    y = falling_values(x, found.constant, tensors)
    assert (np.diff(y) <= 0).all() and y[0] <= 1.01 * top
    wanted = 1000.0 / (x + 5.0)
    apart = np.abs(y * found.unit - wanted) / wanted
    chord = 1 / per_octave**2 / 8  # of a hyperbola over an octave
    assert apart.max() < chord + 3 * found.unit / wanted[-1]
    assert apart[-1] < chord + found.unit / wanted[-1]


@given(st.integers(-255, 255), st.integers(1, 8))
def test_parts_of_a_weight_are_narrow_and_add_up_to_it(weight: int, bits: int) -> None:
    parts = list(_parts(weight, bits))
    assert sum(parts) == weight and all(p * weight > 0 for p in parts)
    assert all(abs(p) // (abs(p) & -abs(p)) < 1 << bits for p in parts)
    assert parts == sorted(parts, key=abs, reverse=True)


def test_a_neurons_layer_fits_it_unless_the_layer_is_of_a_residual() -> None:
    """Or another neuron reads the layer first, or a sum lies between."""
    tensors = {"w": np.ones((3, 3), np.float32)}
    fields = {"tau": 2.0, "v_threshold": 1.0}
    view = {"shape": (3,), "sizes": (3,), "strides": (1,)}
    nodes = (
        s.Input(name="x", shape=(3,)),
        s.Linear(name="h", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="first", x=Ref("h"), **fields),
        s.LIF(name="second", x=Ref("h"), **fields),
        s.Linear(name="k", x=Ref("x"), weight=TensorRef("w")),
        s.Rearrange(name="r", x=Ref("k"), **view),
        s.LIF(name="viewed", x=Ref("r"), **fields),
        s.Add(name="a", a=Ref("h"), b=Ref("k")),
        s.LIF(name="summed", x=Ref("a"), **fields),
        s.Output(name="o", x=Ref("summed")),
    )
    graph = s.SpikingGraph("g", "canonical", nodes, tensors)
    for trunks, fitting in (
        ({}, ["first", "viewed"]),
        ({"h": 1}, ["viewed"]),
        ({"k": 1}, ["first"]),
    ):
        state = SimpleNamespace(graph=graph, trunks=trunks)
        state.consumer = partial(Quantization.consumer, state)
        neurons = [n for n in graph.nodes if isinstance(n, s.LIF)]
        assert [n.name for n in neurons if Quantization.fits(state, n)] == fitting


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 4, 4), (1, 4, 4), (1, 1, 1)])
def test_a_layers_bias_is_the_largest_of_each_channel_wherever_it_lies(shape: tuple) -> None:
    values = RNG.normal(size=shape).astype(np.float32)
    nodes = (
        s.Input(name="x", shape=(2, 4, 4)),
        s.Conv2d(name="h", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="y", x=Ref("h"), tau=2.0, v_threshold=1.0, gain=0.5, bias=TensorRef("b")),
        s.Output(name="o", x=Ref("y")),
    )
    tensors = {"w": np.ones((3, 2, 1, 1), np.float32), "b": values}
    graph = s.SpikingGraph("g", "canonical", nodes, tensors)
    state = SimpleNamespace(graph=graph, size={"h": (3, 4, 4)})
    layer = Layer.of(state, graph.node["h"], 1.0, 0, 1)
    everywhere = np.broadcast_to(np.abs(values.astype(np.float64)), (3, 4, 4))
    np.testing.assert_allclose(layer.bias, everywhere.max(axis=(1, 2)) / 0.5)
