"""RWKV's weighted mean over tokens: its integers are exact, and its error falls with the digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import Maker, assert_equal_to_definition, on_frames, samples

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.backends.stream import Stream
from neurocompile.calibration import calibrate_on
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantization.neurons import integrated
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import schedule

C, T = 4, 6
TEXT = f"""spiking "mean" {{stage = "imported"}}
%x = Input {{shape = [{2 * C}], steps = {T}}}
%k = Rearrange {{x = %x, shape = [{C}], sizes = [{C}], strides = [1]}}
%v = Rearrange {{x = %x, shape = [{C}], sizes = [{C}], strides = [1], offset = {C}}}
%y = TokenMean {{k = %k, v = %v, decay = @d, first = @f}}
%l = LIF {{x = %y, tau = 2.0, v_threshold = 0.3}}
%mean = TimeMean {{x = %l}}
%out = Output {{x = %mean}}
"""
TENSORS = {
    "d": np.array([0.0, 0.9, 0.97, 1.0], np.float32),
    "f": np.array([0.2, 0.3, 2.5, 0.3], np.float32),
}


def weighted_mean() -> s.SpikingGraph:
    return s.SpikingGraph.parse(TEXT, TENSORS)


def frames(count: int, seed: int = 0, wide: float = 1.0) -> np.ndarray:
    """Weights' exponents k of deviation ``wide``, and values."""
    x = np.random.default_rng(seed).normal(0, 1, (count, T, 2 * C)).astype(np.float32)
    x[..., C:] += 0.5
    x[..., :C] *= wide
    return x


def quantized(x: np.ndarray, digits: int) -> s.SpikingGraph:
    canonical = canonicalize(weighted_mean())
    return Quantize(T, calibrate_on(canonical, x, T), digits=digits)(canonical)


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_shares_of_channels_are_kept(data):
    m = Maker(data.draw, (3, 4), low=-50, high=50)
    weights = m.rng.choice([0, 1, 77, 128], (4,) if m.integer(0, 1) else (3, 1)).astype(np.int32)
    m.tensors["w"] = weights
    largest = integrated(50, int(weights.max()), 3)
    y = m.add(s.IntegerIntegrator, x=m.x, weight=TensorRef("w"), largest=largest)
    graph = on_frames(m.finish(m.add(s.Add, a=y, b=m.add(s.Delay, x=y))), 3)
    assert_equal_to_definition(graph, lower(graph, 3), samples(graph, 3))


def test_the_definition_is_the_weighted_mean():
    x = frames(2, wide=30.0).astype(np.float64)  # e^k leaves float32
    k, v, d, f = x[..., :C], x[..., C:], TENSORS["d"], TENSORS["f"]
    y = evaluate(weighted_mean(), x.astype(np.float32), T, ["y"])["y"]
    for t in range(T):
        with np.errstate(divide="ignore"):
            ages = np.log(d ** np.arange(t - 1, -1, -1)[:, None])
        exponents = np.concatenate([k[:, :t] + ages, k[:, t : t + 1] + np.log(f)], axis=1)
        weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
        expected = (weights * v[:, : t + 1]).sum(1) / weights.sum(1)
        np.testing.assert_allclose(y[:, t], expected, rtol=2e-4, atol=1e-5)


def error(digits: int, wide: float) -> float:
    """rms error of the means over their rms, with the best unit."""
    x = frames(60, wide=wide)
    graph = quantized(x, digits)
    given = encode_input(graph.input, x[:30])
    (y,) = (n.x for n in graph.nodes if isinstance(n, s.IntegerLIF))
    found = evaluate(graph, given, T, [y])[y].astype(np.float64)
    float_input = (given * graph.input.unit).astype(np.float32)
    wanted = evaluate(weighted_mean(), float_input, T, ["y"])["y"].astype(np.float64)
    unit = (found * wanted).sum() / (found * found).sum()
    return float(np.sqrt(((unit * found - wanted) ** 2).mean() / (wanted**2).mean()))


def test_the_error_of_a_weighted_mean_falls_with_the_digits_however_wide_the_weights():
    for wide in (1.0, 4.0):
        errors = {digits: error(digits, wide) for digits in (5, 10)}
        assert errors[10] < 0.01 and errors[5] > 4 * errors[10], errors


def test_the_circuit_computes_the_definition():
    x = frames(40)
    graph = quantized(x, 7)
    assert_equal_to_definition(graph, lower(graph, T), x[:3])
    again = s.SpikingGraph.parse(graph.text(), graph.tensors)
    assert again.text() == graph.text()


def test_windows_of_tokens_with_their_state_are_one_long_window():
    """Two windows of three tokens, and three of one, four and one: what the whole sample gives."""
    x = frames(20)
    graph = quantized(x, 7)
    circuit = schedule(lower(graph, T), max_spike_delay=62, power_of_two_period=True)
    inputs = encode(circuit, x[:1])
    whole = Emulator().open(circuit).run(inputs)
    given = encode_input(graph.input, x[:1])
    for parts in ((3, 3), (1, 4, 1)):
        stream, at = Stream(circuit), 0
        found: dict[str, list[np.ndarray]] = {p.name: [] for p in circuit.populations}
        for steps in parts:
            for name, sent in stream.run(inputs[0, at : at + steps]).items():
                found[name].append(sent)
            at += steps
        for p in circuit.populations:
            np.testing.assert_array_equal(np.concatenate(found[p.name]), whole[p.name][0], p.name)
    (view,) = circuit.views
    (spikes,) = evaluate(graph, given, T, [view.layer]).values()
    np.testing.assert_array_equal(view.read(whole[view.src]), spikes)
    with pytest.raises(
        NeurocompileError, match="NC1006 1 steps for a sample .* has 0 of its 6 left"
    ):
        stream.run(inputs[0, :1])


def test_a_divisor_that_may_be_0_is_refused():
    text = TEXT.replace(
        "TokenMean {k = %k, v = %v, decay = @d, first = @f}", "Quotient {a = %v, b = %k}"
    )
    x = frames(20)
    canonical = canonicalize(s.SpikingGraph.parse(text, {}))
    with pytest.raises(NeurocompileError, match="NC2002 .*divides by .*above 0 is supported"):
        Quantize(T, calibrate_on(canonical, x, T))(canonical)


def test_more_tokens_than_levels_of_a_weight_are_refused():
    canonical = canonicalize(weighted_mean())
    statistics = calibrate_on(canonical, frames(20), T)
    with pytest.raises(NeurocompileError, match="NC2002 .*4,096 tokens.*use fewer tokens"):
        Quantize(4096, statistics)(canonical)


def test_a_step_that_counts_a_hundred_times_keeps_its_weight_and_more_is_refused():
    for most in (100.0, 200.0):
        tensors = {**TENSORS, "f": np.array([1e-6, 0.3, most, 0.3], np.float32)}
        canonical = canonicalize(s.SpikingGraph.parse(TEXT, tensors))
        quantize = Quantize(T, calibrate_on(canonical, frames(20), T), digits=10)
        if most > 127:
            with pytest.raises(NeurocompileError, match="NC2002 .*200 times; up to 127"):
                quantize(canonical)
            continue
        found, x = quantize(canonical), frames(20)
        given = encode_input(found.input, x)
        (y,) = (n.x for n in found.nodes if isinstance(n, s.IntegerLIF))
        values = evaluate(found, given, T, [y])[y].astype(np.float64)
        wanted = evaluate(canonical, (given * found.input.unit).astype(np.float32), T, ["y"])["y"]
        # the channel of a millionth has its own value in the first step too
        assert np.corrcoef(values[:, 0].ravel(), wanted[:, 0].ravel())[0, 1] > 0.999
        assert np.corrcoef(values[..., 2].ravel(), wanted[..., 2].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_factor_of_the_exponent_is_kept(sign):
    x = frames(30)
    made = replace(weighted_mean().node["y"], gain=0.5 * sign)
    graph = weighted_mean()
    graph = graph.replace(nodes=tuple(made if n.name == "y" else n for n in graph.nodes))
    canonical = canonicalize(graph)
    found = Quantize(T, calibrate_on(canonical, x, T), digits=10)(canonical)
    given = encode_input(found.input, x)
    (y,) = (n.x for n in found.nodes if isinstance(n, s.IntegerLIF))
    values = evaluate(found, given, T, [y])[y].astype(np.float64)
    wanted = evaluate(graph, (given * found.input.unit).astype(np.float32), T, ["y"])["y"]
    assert np.corrcoef(values.ravel(), wanted.ravel())[0, 1] > 0.9998


@pytest.mark.slow
def test_torch_computes_the_same():
    pytest.importorskip("torch")
    from neurocompile.gpu import Evaluator
    from neurocompile.gpu.floats import FloatEvaluator

    x = frames(20)
    graph = quantized(x, 7)
    given = encode_input(graph.input, x[:4])
    found = Evaluator(graph, T, "cpu", kernels=False).evaluate(given.astype(np.int32))
    for name, values in evaluate(graph, given, T).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    spikes = FloatEvaluator(weighted_mean(), T, "cpu").spikes(x)["l"]
    np.testing.assert_array_equal(spikes, evaluate(weighted_mean(), x, T)["l"].sum((0, 1)))


@pytest.mark.slow
def test_streamed_on_the_emulator_and_on_lava_it_is_the_same():
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    from neurocompile.backends.emulator import emulate_cycles
    from neurocompile.backends.lava import LavaInProcess

    x = frames(20)
    graph = quantized(x, 4)
    circuit = schedule(lower(graph, T), max_spike_delay=62, power_of_two_period=True)
    trace = assert_equal_to_definition(graph, circuit, x[:2])
    inputs = encode(circuit, x[:2])
    streamed, lava = emulate_cycles(circuit, inputs), LavaInProcess().open(circuit).run(inputs)
    for p in circuit.populations:
        np.testing.assert_array_equal(streamed[p.name], trace[p.name], err_msg=p.name)
        np.testing.assert_array_equal(lava[p.name], trace[p.name], err_msg=p.name)
