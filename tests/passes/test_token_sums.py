"""RWKV's weighted mean over tokens: its integers are exact, and its error falls with the digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import Maker, assert_equal_to_definition, on_frames, samples

from neurocompile.backends.encoding import encode
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
%e = Function {{x = %k, function = "exp"}}
%ev = Mul {{x = %e, b = %v}}
%a = TokenSum {{x = %ev, decay = @d, first = @f}}
%b = TokenSum {{x = %e, decay = @d, first = @f}}
%y = Quotient {{a = %a, b = %b}}
%l = LIF {{x = %y, tau = 2.0, v_threshold = 0.3}}
%mean = TimeMean {{x = %l}}
%out = Output {{x = %mean}}
""".replace("Mul {x = %e", "Mul {a = %e")
TENSORS = {
    "d": np.array([0.0, 0.9, 0.97, 1.0], np.float32),
    "f": np.array([0.0, 0.3, 2.5, 0.3], np.float32),
}


def weighted_mean() -> s.SpikingGraph:
    return s.SpikingGraph.parse(TEXT, TENSORS)


def frames(count: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(0, 1, (count, T, 2 * C)).astype(np.float32)
    x[..., C:] += 0.5
    return x


def quantized(x: np.ndarray, digits: int) -> s.SpikingGraph:
    canonical = canonicalize(weighted_positive())
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
    x = frames(2).astype(np.float64)
    k, v, d, f = x[..., :C], x[..., C:], TENSORS["d"], TENSORS["f"]
    with np.errstate(all="ignore"):  # channel 0 has no weight in the first step
        y = evaluate(weighted_mean(), frames(2), T, ["y"])["y"]
    for t in range(T):
        weights = np.stack(
            [np.exp(k[:, i]) * d ** (t - 1 - i) for i in range(t)] + [f * np.exp(k[:, t])]
        )
        with np.errstate(all="ignore"):
            expected = (weights * v[:, : t + 1].swapaxes(0, 1)).sum(0) / weights.sum(0)
        known = np.isfinite(expected)
        np.testing.assert_allclose(y[:, t][known], expected[known], rtol=2e-4, atol=1e-5)


def test_the_error_of_a_weighted_mean_falls_with_the_digits():
    x, errors = frames(60), {}
    for digits in (5, 8, 10):
        graph = quantized(x, digits)
        given = encode_input(graph.input, x[:30])
        (y,) = (n.x for n in graph.nodes if isinstance(n, s.IntegerLIF))
        found = evaluate(graph, given, T, [y])[y].astype(np.float64)
        float_input = (given * graph.input.unit).astype(np.float32)
        wanted = evaluate(weighted_positive(), float_input, T, ["y"])["y"].astype(np.float64)
        unit = (found * wanted).sum() / (found * found).sum()
        errors[digits] = np.sqrt(((unit * found - wanted) ** 2).mean() / (wanted**2).mean())
    assert errors[10] < 0.04 and errors[5] > 4 * errors[10]


def weighted_positive() -> s.SpikingGraph:
    """The same, in which every step has some weight of its own."""
    return s.SpikingGraph.parse(TEXT, {**TENSORS, "f": np.maximum(TENSORS["f"], 0.2)})


def test_the_circuit_computes_the_definition():
    x = frames(40)
    graph = quantized(x, 7)
    assert_equal_to_definition(graph, lower(graph, T), x[:3])
    again = s.SpikingGraph.parse(graph.text(), graph.tensors)
    assert again.text() == graph.text()


def test_a_divisor_that_may_be_0_is_refused():
    graph = weighted_positive()
    nodes = tuple(replace(n, b=n.a) if isinstance(n, s.Quotient) else n for n in graph.nodes)
    x = frames(20)
    canonical = canonicalize(graph.replace(nodes=nodes))
    with pytest.raises(NeurocompileError, match="NC2002 .*divides by .*above 0 is supported"):
        Quantize(T, calibrate_on(canonical, x, T))(canonical)


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
    spikes = FloatEvaluator(weighted_positive(), T, "cpu").spikes(x)["l"]
    np.testing.assert_array_equal(spikes, evaluate(weighted_positive(), x, T)["l"].sum((0, 1)))


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
