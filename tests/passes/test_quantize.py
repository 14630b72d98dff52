"""Quantize: integers on the chip's grid, close to the float weights, in ranges that nothing
exceeds.
"""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from neurocompile.calibration import Calibration, InputStatistics, LayerStatistics, calibrate_on
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.quantize import Quantize

PIXELS = InputStatistics(0.0, 1.0, 1 / 255)


def statistics(
    low: float = 0.0, high: float = 1.0, grid: float | None = 1 / 255, **rates: list[float]
) -> Calibration:
    layers = {k: LayerStatistics(float(np.mean(v)), tuple(v)) for k, v in rates.items()}
    return Calibration(1, 4, InputStatistics(low, high, grid), layers)


def mlp(
    weight: np.ndarray, threshold: float = 1.0, bias: np.ndarray | None = None, tau: float = 2.0
) -> s.SpikingGraph:
    nodes = (
        s.Input(name="x", shape=weight.shape[1:]),
        s.Linear(name="fc", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(
            name="l",
            x=Ref("fc"),
            tau=tau,
            v_threshold=threshold,
            decay_input=False,
            bias=None if bias is None else TensorRef("b"),
        ),
        s.Linear(name="head", x=Ref("l"), weight=TensorRef("h")),
        s.TimeMean(name="m", x=Ref("head")),
        s.Output(name="o", x=Ref("m"), bias=TensorRef("ob")),
    )
    head = np.linspace(-1, 1, 3 * len(weight)).reshape(3, -1)
    tensors = {"w": weight, "h": head, "ob": np.array([0.5, -1.0, 3.0])}
    return s.SpikingGraph(
        "g", "canonical", nodes, tensors if bias is None else {**tensors, "b": bias}
    )


def normal(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_lie_on_the_grid_of_their_bits_and_near_the_float_ones(bits: int) -> None:
    graph = mlp(normal(8, 16))
    found = Quantize(4, statistics(grid=1 / 15), bits)(graph)
    lif = found.node["l"]
    for name, original in (("fc", "w"), ("head", "h")):
        w = found.tensors[found.node[name].weight]
        step, levels = 2 ** (9 - bits), 2 ** (bits - 1) - 1
        assert w.dtype == np.int16
        assert not (w % step).any() and np.abs(w).max() <= step * levels <= 254
        # a LIF's unit is what makes its threshold 1; the output's is its own
        unit = 15 / (lif.vth + 1 / 64) if name == "fc" else found.output.unit
        dequantized, true = w * unit, graph.tensors[original]
        inside = np.abs(true) < np.abs(dequantized).max()
        assert np.abs(dequantized - true)[inside].max() <= 0.51 * step * unit
        assert np.corrcoef(dequantized.ravel(), true.ravel())[0, 1] > (
            0.75 if bits == 2 else 0.9 if bits == 3 else 0.98
        )


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(NeurocompileError, match=f"NC2003 `weight_bits={bits}` "):
        Quantize(4, statistics(), bits)(mlp(normal(2, 2)))


def test_a_threshold_in_float_units_is_the_integer_threshold_plus_a_64th() -> None:
    """h >= 1 and v > 64 vth agree where one unit of current more decides."""
    found = Quantize(1, statistics(grid=1.0, high=200.0))(mlp(np.array([[0.01]])))
    fc, lif = found.node["fc"], found.node["l"]
    w = found.tensors[fc.weight].item() * 2.0**fc.exponent
    x = np.arange(201)[:, None]
    spikes = evaluate(found, x, 1)["l"].ravel()
    np.testing.assert_array_equal(spikes, w * x.ravel() > lif.vth)
    np.testing.assert_array_equal(spikes, x.ravel() >= 100)  # one weight lies on its own grid


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 999),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([0.01, 0.3, 30.0]),
    st.sampled_from([1, 40, 700]),
    st.booleans(),
    st.booleans(),
)
def test_sums_biases_and_thresholds_stay_in_their_fields(
    seed, bits, scale, width, signed, biased
) -> None:
    bias = normal(4, seed=seed + 1, scale=3 * scale) if biased else None
    try:
        found = Quantize(4, statistics(-1.0 if signed else 0.0), bits)(
            mlp(normal(4, width, seed=seed, scale=scale), bias=bias)
        )
    except NeurocompileError as error:
        assert error.code == "NC2002"
        return
    lif = found.node["l"]
    assert ranges(found)["fc"].magnitude <= 131071
    vth = found.tensors[lif.vth] if isinstance(lif.vth, TensorRef) else np.asarray(lif.vth)
    assert 0 <= vth.min() and vth.max() <= 131071 and lif.dv == 2048 and lif.gain == 1
    x = np.random.default_rng(seed).choice([found.input.low, found.input.high], (20, width))
    sums = evaluate(found, x, 1)["fc"]
    assert np.abs(sums).max() <= ranges(found)["fc"].magnitude
    if lif.bias is not None:
        mantissa = found.tensors[lif.bias]
        assert (
            mantissa.dtype == np.int16 and np.abs(mantissa).max() <= 4095 and 0 <= lif.bias_exp <= 7
        )


def test_a_very_wide_layer_gives_up_low_bits_instead_of_failing() -> None:
    """300 weights a row on inputs of up to 30 would reach 860,000 at 8 bits; a current holds
    131,071.
    """
    rng = np.random.default_rng(0)
    weight = (
        rng.choice([-1.0, 1.0], (2, 6000))
        * rng.uniform(0.5, 1, (2, 6000))
        * (rng.random((2, 6000)) < 0.05)
    )
    wide = Quantize(4, statistics(high=30.0, grid=1.0))(mlp(weight, threshold=400.0))
    w = wide.tensors[wide.node["fc"].weight]
    assert 2 <= np.abs(w).max() < 254
    assert ranges(wide)["fc"].magnitude <= 131071
    assert np.corrcoef(w.ravel(), weight.ravel())[0, 1] > 0.97


def test_a_layer_that_fits_at_no_scale_is_named() -> None:
    with pytest.raises(NeurocompileError, match="NC2002 layer 'fc'.*less than the unit"):
        Quantize(4, statistics())(mlp(np.ones((2, 9000))))


@pytest.mark.parametrize("bias", [None, [3.0, -0.5]])
def test_a_layer_of_zeros_is_a_constant(bias: list[float] | None) -> None:
    graph = mlp(np.zeros((2, 3)), bias=None if bias is None else np.array(bias))
    found = Quantize(4, statistics())(graph)
    traces = evaluate(found, np.full((1, 3), 255), 4)["l"]
    expected = evaluate(graph, np.ones((1, 3), np.float32), 4)["l"]
    np.testing.assert_array_equal(traces, expected)
    assert traces[..., 0].all() == (bias is not None)


@pytest.mark.parametrize("bias", [30.0, -30.0, 1e6, -1e6])
def test_a_neuron_that_its_bias_decides_is_a_constant_and_costs_the_others_nothing(bias) -> None:
    weight, x = normal(8, 6), np.random.default_rng(0).integers(0, 256, (50, 6))
    found = Quantize(4, statistics())(mlp(weight, bias=np.array([bias, *[0.1] * 7])))
    assert np.abs(found.tensors[found.node["fc"].weight]).max() >= 240
    spikes = evaluate(found, x, 4)["l"]
    assert (spikes[..., 0] == (bias > 0)).all()
    expected = evaluate(mlp(weight, bias=np.full(8, 0.1)), (x / 255).astype(np.float32), 4)["l"]
    x = encode_input(found.input, x / 255)
    assert (evaluate(found, x, 4)["l"] == expected)[..., 1:].mean() > 0.985


def grid_weights(levels: int, unit: float, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).integers(-levels, levels + 1, (8, 20))
    found[0, 0] = levels
    return found * unit


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 3, 7, 127]),
    st.sampled_from([0.125, 0.0137, 1.0]),
    st.sampled_from([1.0, 2.0, 4.0]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
@example(127, 0.125, 1.0, False, False, 5)  # a chip's neuron without memory keeps 1/4096
def test_weights_on_a_grid_stay_and_every_spike_is_that_of_the_float_model(
    levels, unit, tau, biased, strict, seed
) -> None:
    """Thresholds of whole units, so that many membranes meet them; ``strict`` is ``v > threshold``."""
    assume(not strict or unit != 0.0137)  # of which float32 has no exact multiples
    weight, whole = grid_weights(levels, unit, seed), np.random.default_rng(seed + 1)
    threshold = float(np.float32(unit)) * int(whole.integers(1, 3 * levels + 2))
    least = float(np.nextafter(np.float32(threshold), np.float32(2 * threshold)))
    bias = whole.integers(-3, 4, 8) * float(unit) if biased else None
    steps = 3 if tau == 4.0 else 4
    found = Quantize(steps, statistics(grid=1.0))(
        mlp(weight, least if strict else threshold, bias, tau)
    )
    x = (whole.random((40, 20)) < 0.4).astype(np.int64)
    current = np.rint(weight / unit).astype(np.int64) @ x.T
    current = current + (0 if bias is None else np.rint(bias / unit).astype(np.int64)[:, None])
    whole_threshold, v, spikes = round(threshold / unit), np.zeros(current.shape), []
    for _ in range(steps):  # in float64 every membrane is exact
        h = v * (1 - 1 / tau) + current
        spikes.append(h > whole_threshold if strict else h >= whole_threshold)
        v = np.where(spikes[-1], 0, h)
    expected = np.stack(spikes, 1).transpose(2, 1, 0)
    np.testing.assert_array_equal(evaluate(found, x, steps)["l"], expected)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_channels_of_very_different_size_keep_their_bits(bits: int) -> None:
    """Row maxima from 1 to 100: each row keeps most of its levels, at four thresholds."""
    weight = normal(32, 27, scale=0.3) * np.geomspace(0.2, 20, 32)[:, None]
    graph = mlp(weight, bias=normal(32, seed=3))
    calibration = statistics(grid=1 / 15)
    found = Quantize(4, calibration, bits)(graph)
    q = np.abs(found.tensors[found.node["fc"].weight]).max(axis=1) / (1 << (9 - bits))
    assert q.min() >= 0.2 * ((1 << (bits - 1)) - 1)
    thresholds = found.tensors[found.node["l"].vth]
    assert 2 <= len(np.unique(thresholds)) <= 4
    x = np.random.default_rng(1).integers(0, 16, (300, 27))
    expected = evaluate(graph, (x / 15).astype(np.float32), 4)["l"]
    agreement = (evaluate(found, x, 4)["l"] == expected).mean()
    assert agreement > {4: 0.93, 6: 0.98, 8: 0.99}[bits]


def test_inputs_without_a_grid_leave_the_first_layer_its_bits() -> None:
    """Levels of the input, of the weights, and the scale are one choice under all limits."""
    for seed in range(20):
        weight = normal(8, 9, seed=seed, scale=1.0)
        bias = normal(8, seed=seed + 50, scale=1.0)
        found = Quantize(4, statistics(-2.0, 3.0, None))(mlp(weight, bias=bias))
        q = np.abs(found.tensors[found.node["fc"].weight]) // 2
        assert q.max() >= 118
        assert found.input.high - found.input.low >= 40


def test_the_bias_takes_the_exponent_that_it_needs_and_no_more() -> None:
    for size in (0.0001, 0.01, 0.3, 1.0):
        found = Quantize(4, statistics(grid=1 / 15))(
            mlp(normal(2, 3), bias=np.array([size, -size / 3]))
        )
        lif = found.node["l"]
        mantissa = found.tensors[lif.bias].astype(int)
        unit = 1.0 / (64 * lif.vth + 1)  # of the membrane, in thresholds
        assert abs(mantissa[0] * 2**lif.bias_exp * unit - size) <= 2**lif.bias_exp * unit * 0.51
        assert lif.bias_exp == 0 or np.abs(mantissa).max() > 2047


def test_the_output_bias_is_added_in_the_units_of_the_sum() -> None:
    found = Quantize(4, statistics())(mlp(normal(2, 3)))
    np.testing.assert_allclose(
        found.tensors[found.output.bias] * found.output.unit,
        [0.5, -1.0, 3.0],
        atol=found.output.unit,
    )


def test_the_input_is_scaled_to_its_grid_or_to_255_levels() -> None:
    for low, high, grid, expected in [(-2.0, 1.0, None, (-255, 128)), (0, 1, 1 / 16, (0, 16))]:
        node = Quantize(4, statistics(low, high, grid))(mlp(normal(2, 3))).input
        assert (node.low, node.high) == expected
    assert encode_input(node, np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def attention(gain: float, threshold: float, tau: float) -> s.SpikingGraph:
    """A product of spikes, without weights, into a LIF."""
    nodes = (
        s.Input(name="x", shape=(3, 4)),
        s.Linear(name="fc", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="q", x=Ref("fc"), tau=2.0, v_threshold=1.0, decay_input=False),
        s.Rearrange(name="k", x=Ref("q"), shape=(4, 3), sizes=(4, 3), strides=(1, 4)),
        s.MatMul(name="qk", a=Ref("q"), b=Ref("k")),
        s.MatMul(name="qkv", a=Ref("qk"), b=Ref("q")),
        s.LIF(
            name="att", x=Ref("qkv"), tau=tau, v_threshold=threshold, decay_input=False, gain=gain
        ),
        s.TimeMean(name="m", x=Ref("att")),
        s.Output(name="o", x=Ref("m")),
    )
    return s.SpikingGraph("g", "canonical", nodes, {"w": normal(4, 4, scale=1.0)})


@pytest.mark.parametrize(
    ("gain", "threshold", "tau", "exact"), [(0.0625, 0.5, 2.0, (8, 63)), (1.0, 3.0, inf, (1, 2))]
)
def test_attention_without_weights_is_exact(
    gain: float, threshold: float, tau: float, exact: tuple[int, int]
) -> None:
    graph = attention(gain, threshold, tau)
    found = Quantize(4, statistics())(graph)
    lif = found.node["att"]
    assert (lif.gain, lif.vth, lif.bias) == (*exact, None)
    x = np.random.default_rng(0).uniform(0, 1, (60, 3, 4))
    traces = evaluate(found, encode_input(found.input, x), 4)
    # the float LIF on the integers that the quantized model computes
    current, v = traces["qkv"].astype(np.float32), np.zeros((60, 3, 4), np.float32)
    for t in range(4):
        h = v - v / np.float32(tau) + np.float32(gain) * current[:, t]
        np.testing.assert_array_equal(traces["att"][:, t], h >= threshold)
        v = np.where(h >= threshold, np.float32(0), h)


def test_attention_without_an_exact_form_takes_the_finest_threshold() -> None:
    lif = Quantize(4, statistics())(attention(0.0625, 0.5, 3.0)).node["att"]
    assert lif.gain == 128 and lif.dv == round(4096 / 3)
    assert lif.vth == pytest.approx(lif.gain * 8, abs=1)


def test_sums_of_a_layer_and_the_input_are_refused() -> None:
    graph = mlp(normal(3, 3))
    nodes = list(graph.nodes)
    nodes[2:3] = [
        s.Add(name="a", a=Ref("fc"), b=Ref("x")),
        s.LIF(name="l", x=Ref("a"), tau=2.0, v_threshold=1.0, decay_input=False),
    ]
    with pytest.raises(NeurocompileError, match="NC2001.*'x' \\(Input\\)"):
        Quantize(4, statistics())(graph.replace(nodes=tuple(nodes)))


def test_the_mean_that_rounding_loses_goes_into_the_bias() -> None:
    """A layer of equal weights 0.4 units beside a large one: all round to 0, and the bias makes up
    for them.
    """
    weight = np.full((1, 200), 0.0015)
    weight[0, 0] = 1.0
    graph = mlp(normal(200, 4), threshold=1.0)
    lif2 = s.LIF(name="l2", x=Ref("fc2"), tau=2.0, v_threshold=0.6, decay_input=False)
    nodes = (
        *graph.nodes[:3],
        s.Linear(name="fc2", x=Ref("l"), weight=TensorRef("w2")),
        lif2,
        s.TimeMean(name="m", x=Ref("l2")),
        s.Output(name="o", x=Ref("m")),
    )
    graph = graph.replace(nodes=nodes, tensors={"w": graph.tensors["w"], "w2": weight})
    found = Quantize(4, statistics(l=[0.5] * 200), 8)(graph)
    lif, w = found.node["l2"], found.tensors[found.node["fc2"].weight]
    unit = 0.6 / (64 * lif.vth + 1)
    correction = found.tensors[lif.bias].astype(float) * 2.0**lif.bias_exp * unit
    lost = 0.5 * (weight - w * 64 * unit).sum()
    assert abs(lost) > 0.05 and correction.ravel()[0] == pytest.approx(lost, rel=0.02)


def test_a_correction_over_channels_last_maps_follows_the_channels() -> None:
    """A Linear over (H, W, C): as many rows as channels, so a wrong axis would not show in the
    shape.
    """
    nodes = (
        s.Input(name="x", shape=(4, 4, 4)),
        s.Linear(name="a", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="l", x=Ref("a"), tau=2.0, v_threshold=1.0, decay_input=False),
        s.Linear(name="b", x=Ref("l"), weight=TensorRef("v")),
        s.LIF(name="l2", x=Ref("b"), tau=2.0, v_threshold=1.0, decay_input=False),
        s.TimeMean(name="m", x=Ref("l2")),
        s.Output(name="o", x=Ref("m")),
    )
    graph = s.SpikingGraph("g", "canonical", nodes, {"w": normal(4, 4), "v": normal(4, 4, seed=1)})
    found = Quantize(4, statistics(l=[0.1, 0.9, 0.3, 0.5]), 3)(graph)
    bias = found.tensors[found.node["l2"].bias]
    assert np.broadcast_shapes(bias.shape, (4, 4, 4)) == (4, 4, 4) and bias.shape[-1] == 4


def test_more_bits_agree_better_with_the_float_model() -> None:
    graph = mlp(normal(32, 16), tau=2.0)
    x = np.round(np.random.default_rng(1).uniform(0, 1, (200, 16)) * 255).astype(
        np.float32
    ) / np.float32(255)
    calibration, agreement = calibrate_on(graph, x, 4), {}
    expected = evaluate(graph, x, 4)
    for bits in (3, 5, 8):
        found = Quantize(4, calibration, bits)(graph)
        traces = evaluate(found, encode_input(found.input, x), 4)
        agreement[bits] = float(np.mean(traces["l"] == expected["l"]))
    assert agreement[3] < agreement[5] < agreement[8] and agreement[8] > 0.99
    assert np.abs(traces["o"] - expected["o"]).mean() < 0.05


def test_a_large_bias_on_a_fine_input_costs_weight_bits_and_not_the_compilation() -> None:
    """Pixels of 255 levels and a bias of one threshold: at 8 bits it would need mantissas of 2^15."""
    found = Quantize(4, statistics())(mlp(normal(8, 27), bias=np.ones(8)))
    lif = found.node["l"]
    assert lif.bias_exp == 7 and np.abs(found.tensors[lif.bias]).max() <= 4095
    np.testing.assert_allclose(
        found.tensors[lif.bias].astype(int) * 128 / (64 * lif.vth + 1), 1.0, rtol=1e-2
    )
