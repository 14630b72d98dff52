"""Integer forms of real operators: the circuit on the emulator, and on Lava, is the definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_cases import vit_block
from spiking_cases import Maker, assert_equal_to_definition, on_frames, samples

from neurocompile.backends.encoding import encode
from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.functions import FUNCTIONS
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import schedule

SETTINGS = settings(max_examples=12, deadline=None)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4))
LIMIT = (1 << 23) - 1


def numbers(m: Maker, values: np.ndarray) -> TensorRef:
    name = f"t{len(m.tensors)}"
    m.tensors[name] = np.asarray(values, np.int64)
    return TensorRef(name)


def check(m: Maker, y: str) -> None:
    """In another order of axes than it was made, and with a new value in every step."""
    assert m.range(y).magnitude <= LIMIT
    graph = on_frames(m.finish(y), 2)
    assert_equal_to_definition(graph, lower(graph, 2), samples(graph, 3))


def made(draw, shape: tuple[int, ...], low: int, high: int) -> Maker:
    """A maker whose value ``m.x`` may lie transposed."""
    m = Maker(draw, shape, low=low, high=high)
    if m.draw(st.booleans()):
        m.x = m.rearrange(m.x, shape, tuple(reversed(range(len(shape)))), shape[::-1])
    return m


@SETTINGS
@given(st.data(), SHAPES)
def test_a_clip(data, shape):
    m = made(data.draw, shape, -300, 300)
    low = m.integer(-310, 300)
    check(m, m.add(s.Clip, x=m.x, low=low, high=m.integer(low, 310)))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_combination_with_a_sum_of_rows(data, shape):
    m = made(data.draw, shape, -300, 300)
    total = m.add(s.Sum, x=m.x, axes=(1,), keepdims=True)
    check(m, m.add(s.Combination, a=m.x, b=total, times_a=m.integer(-9, 900), times_b=-1))


@SETTINGS
@given(st.data(), SHAPES)
def test_the_maximum_of_a_row(data, shape):
    m = made(data.draw, shape, -30, 30)
    check(m, m.add(s.Maximum, x=m.x))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_piecewise_linear_function(data, shape):
    m = made(data.draw, shape, -1000, 1000)
    knots = np.unique(m.rng.integers(-1100, 1000, m.integer(1, 6)))
    weights = m.rng.integers(-500, 500, len(knots))
    y = m.add(
        s.IntegerFunction,
        x=m.x,
        knots=numbers(m, knots),
        weights=numbers(m, weights),
        constant=m.integer(-(1 << 20), 1 << 20),
        shift=m.integer(0, 12),
    )
    check(m, y)


@SETTINGS
@given(st.data(), SHAPES)
def test_a_falling_function(data, shape):
    m = made(data.draw, shape, 0, 4000)
    lengths = m.rng.integers(1, 600, m.integer(1, 6))
    ends = m.integer(0, 100) + np.cumsum(lengths)
    count = len(lengths)
    y = m.add(
        s.Falling,
        x=m.x,
        ends=numbers(m, ends),
        lengths=numbers(m, lengths),
        weights=numbers(m, m.rng.integers(0, 256, count)),
        exponents=numbers(m, m.rng.integers(-3, 16, count)),
        drops=numbers(m, m.rng.integers(0, 12, count)),
        constant=m.integer(-1000, 100_000),
    )
    check(m, y)


def digit_fields(m: Maker) -> dict:
    return {"signed": m.draw(st.booleans()), "bits": m.integer(2, 6), "shift": m.integer(0, 9)}


def in_digits(m: Maker, bits: int, signed: bool, **kwargs) -> str:
    low = -(1 << bits) if signed else 0
    return m.add(s.Clip, x=kwargs.get("x", m.x), low=low, high=(1 << bits) - 1)


def value(m: Maker, x: str) -> str:
    """Of either sign or none, small or large."""
    factor = m.choose(1, 37, 600)
    y = m.add(s.Combination, a=x, b=x, times_a=factor, times_b=0)
    return m.add(s.Clip, x=y, low=0, high=60_000) if m.draw(st.booleans()) else y


@SETTINGS
@given(st.data(), SHAPES)
def test_a_product_by_digits(data, shape):
    m = made(data.draw, shape, -70, 70)
    fields = digit_fields(m)
    digits, other = in_digits(m, **fields), value(m, m.x)
    if m.draw(st.booleans()):  # one value a row
        other = m.add(s.Maximum, x=other)
    check(m, m.add(s.DigitMul, digits=digits, value=other, **fields))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_sum_of_squares(data, shape):
    m = made(data.draw, shape, -70, 70)
    fields = digit_fields(m)
    fields["shift"] = m.integer(0, fields["bits"])
    axes = m.choose((0,), (1,), (0, 1))
    check(
        m, m.add(m.choose(s.SquareSum, s.DigitSum), x=in_digits(m, **fields), axes=axes, **fields)
    )


@SETTINGS
@given(st.data(), st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)))
def test_a_matrix_product_by_digits(data, shape):
    m = made(data.draw, shape, -70, 70)
    fields = digit_fields(m)
    *lead, n, k = m.shape(m.x)
    turned = m.rearrange(m.x, (*lead, n, k), (0, 2, 1), (*lead, k, n))
    fields["shift"] = m.integer(0, fields["bits"])
    digits = in_digits(m, x=turned, **fields)
    check(m, m.add(s.DigitMatMul, digits=digits, value=value(m, m.x), **fields))


@SETTINGS
@given(st.data(), SHAPES)
def test_the_value_of_the_step_before(data, shape):
    m = made(data.draw, shape, -30, 30)
    check(m, m.add(s.Add, a=m.x, b=m.add(s.Delay, x=m.x)))


def normalized(m: Maker) -> s.SpikingGraph:
    """A sum, its falling function, a product with it, and a product of matrices."""
    total = m.add(s.Sum, x=m.x, axes=(1,), keepdims=True)
    centred = m.add(s.Combination, a=m.x, b=total, times_a=3, times_b=-1)
    divisor = m.add(
        s.Falling,
        x=m.add(s.Clip, x=total, low=0, high=90),
        ends=numbers(m, [4, 20, 90]),
        lengths=numbers(m, [4, 16, 70]),
        weights=numbers(m, [200, 130, 140]),
        exponents=numbers(m, [0, 1, 5]),
        drops=numbers(m, [0, 0, 0]),
        constant=9,
    )
    y = m.add(s.DigitMul, digits=centred, value=divisor, bits=8, signed=True, shift=4)
    power = m.add(s.SquareSum, x=centred, axes=(1,), bits=8, signed=True, shift=7)
    total = m.add(s.DigitSum, x=centred, axes=(1,), bits=8, signed=True, shift=2)
    power = m.add(s.Combination, a=power, b=total)
    y = m.add(s.Combination, a=y, b=power, times_b=-1)
    turned = m.rearrange(y, (3, 3), (1, 0), (3, 3))
    fine = m.add(s.Clip, x=turned, low=-128, high=127)
    z = m.add(s.DigitMatMul, value=y, digits=fine, bits=7, signed=True, shift=5)
    w = m.add(
        s.IntegerFunction,
        x=z,
        knots=numbers(m, [-(1 << 20), -5, 40]),
        weights=numbers(m, [0, 3, -2]),
        shift=2,
    )
    w = m.add(s.Shift, x=w, bits=5)
    return m.finish(m.add(s.Add, a=w, b=m.add(s.Delay, x=w)))


class Fixed:
    """Draws for one case without hypothesis: the least of everything."""

    def __call__(self, strategy):
        return False if "booleans" in repr(strategy) else 0


@pytest.mark.slow
def test_torch_computes_the_same():
    pytest.importorskip("torch")
    from neurocompile.gpu import Evaluator

    graph = on_frames(normalized(Maker(Fixed(), (3, 3), low=-10, high=30)), 2)
    x = samples(graph, 4).astype(np.int32)
    found = Evaluator(graph, 2, "cpu", kernels=False).evaluate(x)
    for name, values in evaluate(graph, x, 2).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.slow
def test_streamed_on_the_emulator_and_on_lava_it_is_the_same():
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    from neurocompile.backends.emulator import emulate_cycles
    from neurocompile.backends.lava import LavaInProcess

    graph = on_frames(normalized(Maker(Fixed(), (3, 3), low=-10, high=30)), 2)
    circuit = schedule(lower(graph, 2), max_spike_delay=62, power_of_two_period=True)
    x = samples(graph, 3)
    trace = assert_equal_to_definition(graph, circuit, x)
    inputs = encode(circuit, x)
    streamed, lava = emulate_cycles(circuit, inputs), LavaInProcess().open(circuit).run(inputs)
    for p in circuit.populations:
        np.testing.assert_array_equal(streamed[p.name], trace[p.name], err_msg=p.name)
        np.testing.assert_array_equal(lava[p.name], trace[p.name], err_msg=p.name)


# ---- from a float graph -------------------------------------------------------------------------


def compiled(graph: s.SpikingGraph, x: np.ndarray, T: int, digits: int):
    """(canonical, quantized) of an imported graph, calibrated on ``x``."""
    canonical = canonicalize(graph)
    return canonical, Quantize(T, calibrate_on(canonical, x, T), digits=digits)(canonical)


def operator(node: s.Node, shape: tuple[int, ...]) -> s.SpikingGraph:
    """``node`` alone, of the input ``x``."""
    nodes = (
        s.Input(name="x", shape=shape),
        node,
        s.TimeMean(name="mean", x=Ref(node.name)),
        s.Output(name="out", x=Ref("mean")),
    )
    return s.SpikingGraph("operator", "imported", nodes, {})


def error(graph: s.SpikingGraph, x: np.ndarray, digits: int) -> float:
    """Largest error over the samples against float64 of the same encoded inputs."""
    canonical, quantized = compiled(graph, x, 1, digits)
    given = encode_input(quantized.input, x)
    found = evaluate(quantized, given, 1, ["out"])["out"]
    float_input = (given * quantized.input.unit).astype(np.float32)
    return float(np.abs(found - evaluate(canonical, float_input, 1, ["out"])["out"]).max())


RNG = np.random.default_rng(0)
OPERATORS = {
    "layer": s.Normalization(name="y", x=Ref("x"), axes=(0,), epsilon=1e-5),
    "rms": s.Normalization(name="y", x=Ref("x"), axes=(0,), epsilon=1e-5, centered=False),
    "softmax": s.StepSoftmax(name="y", x=Ref("x"), gain=0.5),
    "turned softmax": s.StepSoftmax(name="y", x=Ref("x"), gain=-0.5),
    **{
        name: s.Function(name="y", x=Ref("x"), function=name, gain=0.75)
        for name in FUNCTIONS
        if name != "exp_above_0"  # it jumps at 0; see tests/frontends/test_one_spike_codes.py
    },
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_error_of_an_operator_falls_with_its_digits(name):
    x = (2 * RNG.standard_normal((40, 24))).astype(np.float32)
    graph = operator(OPERATORS[name], (24,))
    largest = 20 if name in ("exp", "square") else 3  # the size of the function itself
    coarse, fine = error(graph, x, 5), error(graph, x, 10)
    assert fine < 0.02 * largest and (fine < coarse / 4 or coarse < 4e-3)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_square_has_a_digit_of_sign_where_its_value_has_one(low: float) -> None:
    x = np.linspace(low, 1, 240, dtype=np.float32).reshape(40, 6)
    _, quantized = compiled(operator(OPERATORS["square"], (6,)), x, 1, 8)
    node = quantized.node["y"]
    assert isinstance(node, s.DigitMul) and node.signed == (low < 0)


def test_a_product_of_matrices_stays_within_the_range_that_is_known_of_it() -> None:
    x = RNG.uniform(0, 1, (30, 4, 4)).astype(np.float32)
    graph = operator(s.MatMul(name="y", a=Ref("x"), b=Ref("x")), (4, 4))
    _, quantized = compiled(graph, x, 1, 8)
    given = encode_input(quantized.input, np.concatenate([x, np.ones_like(x[:1])]))
    found = evaluate(quantized, given, 1, ["y"])["y"]
    known = ranges(quantized)["y"]
    assert known is not None and found.min() >= known.low and found.max() <= known.high


def test_an_operator_of_a_negative_factor_and_a_bias_is_folded():
    nodes = operator(OPERATORS["gelu"], (6,))
    tensors = {"b": np.linspace(-1, 1, 6, dtype=np.float32)}
    before = (
        s.Scale(name="s", x=Ref("x"), factor=-1.5),
        s.Offset(name="o", x=Ref("s"), offset=TensorRef("b")),
    )
    first, node, *rest = nodes.nodes
    graph = nodes.replace(nodes=(first, *before, replace(node, x=Ref("o")), *rest), tensors=tensors)
    x = RNG.standard_normal((20, 6)).astype(np.float32)
    canonical = canonicalize(graph)
    np.testing.assert_allclose(
        evaluate(canonical, x, 1, ["out"])["out"], evaluate(graph, x, 1, ["out"])["out"], atol=1e-5
    )
    assert error(graph, x, 10) < 0.01


@pytest.mark.parametrize("T", [4, 64])
def test_a_neuron_with_a_soft_reset_reads_a_normalization(T):
    """Of 64 steps the sums leave the membrane's field, and the value is made coarser first."""
    graph = operator(OPERATORS["layer"], (24,))
    first, layer, _, out = graph.nodes
    fields = {"v_threshold": 1.0, "tau": np.inf, "soft_reset": True, "decay_input": False}
    lif = s.LIF(name="lif", x=Ref("y"), **fields)
    mean = s.TimeMean(name="mean", x=Ref("lif"))
    x = (2 * RNG.standard_normal((40, 24))).astype(np.float32)
    canonical, quantized = compiled(graph.replace(nodes=(first, layer, lif, mean, out)), x, T, 10)
    assert (quantized.node["lif"].x == "y") == (T == 4)
    given = encode_input(quantized.input, x)
    found = evaluate(quantized, given, T, ["out"])["out"]
    meant = evaluate(canonical, (given * quantized.input.unit).astype(np.float32), T, ["out"])[
        "out"
    ]
    assert np.abs(found - meant).mean() < 0.01


@pytest.mark.slow
def test_a_transformer_block_is_exact_and_its_error_falls_with_the_digits():
    graph, T = vit_block(6, 8, 2, 16), 3
    x = np.random.default_rng(1).standard_normal((60, 8, 6, 1)).astype(np.float32)
    errors = {}
    for digits in (4, 6, 9):
        canonical, quantized = compiled(graph, x[:30], T, digits)
        given = encode_input(quantized.input, x[30:])
        found = evaluate(quantized, given, T, ["ln3", "logits"])
        float_input = (given * quantized.input.unit).astype(np.float32)
        expected = evaluate(canonical, float_input, T, ["ln3"])
        unit = np.abs(expected["ln3"]).max() / np.abs(found["ln3"]).max()
        errors[digits] = float(np.abs(found["ln3"] * unit - expected["ln3"]).mean())
    assert errors[4] > 1.5 * errors[6] > 1.5 * errors[9]
    circuit = lower(quantized, T)
    assert_equal_to_definition(quantized, circuit, x[:2])
    again = s.SpikingGraph.parse(quantized.text(), quantized.tensors)
    assert again.text() == quantized.text()
