"""evaluate() against torch's functions and against loops over scalars."""

from __future__ import annotations

import itertools
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef

X, W, B = Ref("x"), TensorRef("w"), TensorRef("b")


def run(
    node: s.Node, x: np.ndarray, steps: int = 1, stage: str = "imported", **tensors: np.ndarray
) -> np.ndarray:
    graph = s.SpikingGraph("g", stage, (s.Input(name="x", shape=x.shape[1:]), node), tensors)
    return evaluate(graph, x, steps, [node.name])[node.name]


def two(kind: type[s.Node], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``kind`` of two values: slices of one input."""
    x = np.concatenate([a.reshape(len(a), -1), b.reshape(len(b), -1)], axis=1)
    n, shapes = a[0].size, (a.shape[1:], b.shape[1:])
    cut = [np.eye(x.shape[1], dtype=np.float32)[:n], np.eye(x.shape[1], dtype=np.float32)[n:]]
    nodes: list[s.Node] = [s.Input(name="x", shape=x.shape[1:])]
    for name, shape in zip("ab", shapes):
        size = int(np.prod(shape, dtype=int))
        nodes.append(s.Linear(name=f"{name}.flat", x=X, weight=TensorRef(name)))
        nodes.append(
            s.Rearrange(name=name, x=Ref(f"{name}.flat"), shape=shape, sizes=(size,), strides=(1,))
        )
    nodes.append(kind(name="y", a=Ref("a"), b=Ref("b")))
    return evaluate(s.SpikingGraph("g", "imported", tuple(nodes), dict(zip("ab", cut))), x, 1)["y"][
        :, 0
    ]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
)
def test_conv_is_torchs(stride, padding, dilation, kernel, groups, biased) -> None:
    torch = pytest.importorskip("torch")
    x, w, b = normal(2, 4, 7, 6), normal(8, 4 // groups, *kernel, seed=1), normal(8, seed=2)
    node = s.Conv2d(
        name="y",
        x=X,
        weight=W,
        bias=B if biased else None,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x),
        torch.from_numpy(w),
        torch.from_numpy(b) if biased else None,
        stride,
        padding,
        dilation,
        groups,
    ).numpy()
    np.testing.assert_allclose(run(node, x, w=w, b=b)[:, 0], expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.data(),
)
def test_max_pool_is_torchs(kernel, stride, data) -> None:
    torch = pytest.importorskip("torch")
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    x = normal(2, 3, 6, 5) - 3  # negative, so that a border of zeros would win
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()
    node = s.MaxPool2d(name="y", x=X, kernel=kernel, stride=stride, padding=padding)
    np.testing.assert_array_equal(run(node, x)[:, 0], expected)
    integers = np.floor(x * 10).astype(np.int64)
    expected = torch.nn.functional.max_pool2d(
        torch.from_numpy(integers).double(), kernel, stride, padding
    ).numpy()
    np.testing.assert_array_equal(run(node, integers, stage="quantized")[:, 0], expected)


def test_integer_conv_is_exact_beyond_float32() -> None:
    x = np.full((1, 1, 1, 3), 2**20 + 1)
    w = np.array([[[[127, -126, 127]]]], np.int16)
    node = s.Conv2d(name="y", x=X, weight=W)
    assert run(node, x, stage="quantized", w=w).item() == 128 * (2**20 + 1)


def test_linear_is_a_product_with_the_transpose() -> None:
    x, w, b = normal(2, 5, 3), normal(4, 3, seed=1), normal(4, seed=2)
    y = run(s.Linear(name="y", x=X, weight=W, bias=B), x, w=w, b=b)[:, 0]
    for n, i, o in itertools.product(range(2), range(5), range(4)):
        assert y[n, i, o] == pytest.approx(
            sum(x[n, i, k] * w[o, k] for k in range(3)) + b[o], abs=1e-5
        )


@pytest.mark.parametrize("axis", [0, 1])
def test_batch_norm_is_torchs(axis: int) -> None:
    torch = pytest.importorskip("torch")
    x, (scale, shift, mean) = normal(3, 4, 4), normal(3, 4, seed=1)
    var = np.array([0.1, 1.0, 2.0, 1e-9], np.float32)
    refs = dict(zip(("scale", "shift", "mean", "var"), map(TensorRef, ("s", "h", "m", "v"))))
    node = s.BatchNorm(name="y", x=X, eps=1e-3, axis=axis, **refs)
    y = run(node, x, s=scale, h=shift, m=mean, v=var)[:, 0]
    channels_first = torch.from_numpy(np.moveaxis(x, axis + 1, 1).copy())
    arrays = [torch.from_numpy(np.asarray(a)) for a in (mean, var, scale, shift)]
    expected = torch.nn.functional.batch_norm(channels_first, *arrays, eps=1e-3).numpy()
    np.testing.assert_allclose(np.moveaxis(y, axis + 1, 1), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([1.0, 1.5, 2.0, 4 / 3, 20.0, inf]),
    st.sampled_from([0.5, 1.0, 0.3]),
    st.sampled_from([0.0, -0.3, 0.2]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 0.125, 0.3]),
    st.booleans(),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_lif_is_its_equations_a_neuron_at_a_time(
    tau, v_th, v_reset, decay, soft, gain, biased, steps, seed
) -> None:
    f = np.float32
    values, b = normal(2, 4, seed=seed) * f(1.5), normal(4, seed=1)
    node = s.LIF(
        name="y",
        x=X,
        tau=tau,
        v_threshold=v_th,
        v_reset=v_reset,
        decay_input=decay,
        soft_reset=soft,
        gain=gain,
        bias=B if biased else None,
    )
    spikes = run(node, values, steps, b=b)
    rest = f(0.0 if soft else v_reset)
    for n, i in itertools.product(range(2), range(4)):
        v = rest
        for t in range(steps):
            x = f(gain) * values[n, i] + (b[i] if biased else f(0))
            h = v + (x - (v - rest)) / f(tau) if decay else v - (v - rest) / f(tau) + x
            fires = h >= f(v_th)
            assert spikes[n, t, i] == fires
            v = (h - f(v_th) if soft else rest) if fires else h


def test_integrate_and_fire_neither_leaks_nor_forgets() -> None:
    node = s.LIF(name="y", x=X, tau=inf, v_threshold=1.0, decay_input=False)
    assert run(node, np.full((1, 1), 0.25, np.float32), 8).ravel().tolist() == [
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
    ]


def test_a_lif_follows_an_input_that_changes_over_the_steps() -> None:
    first = s.LIF(name="a", x=X, tau=inf, v_threshold=1.0, decay_input=False)
    second = s.LIF(name="y", x=Ref("a"), tau=inf, v_threshold=2.0, decay_input=False)
    graph = s.SpikingGraph("g", "imported", (s.Input(name="x", shape=(1,)), first, second), {})
    found = evaluate(graph, np.full((1, 1), 0.5, np.float32), 8)
    assert found["a"].ravel().tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert found["y"].ravel().tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def scalar_integer_lif(x: int, steps: int, vth: int, dv: int, gain: int, bias: int) -> list[int]:
    """Python's unlimited integers, rounding towards zero by hand."""
    v, spikes = 0, []
    for _ in range(steps):
        decayed = abs(v) * (4096 - dv) // 4096 * (1 if v >= 0 else -1)
        h = max(-(2**23) + 1, min(2**23 - 1, decayed + gain * x * 64 + bias))
        spikes.append(int(h > vth * 64))
        v = 0 if spikes[-1] else h
    return spikes


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(-40, 40) | st.sampled_from([-131071, 131071]), min_size=1, max_size=6),
    st.integers(0, 60) | st.sampled_from([131071]),
    st.sampled_from([0, 1, 1024, 2048, 3072, 4095]),
    st.sampled_from([1, 2, 64]),
    st.sampled_from([-4096, -100, 0, 7, 4095]),
    st.sampled_from([0, 3, 7]),
    st.integers(1, 8),
)
def test_integer_lif_is_a_loop_over_scalars(xs, vth, dv, gain, mantissa, exponent, steps) -> None:
    """Negative voltages decay towards zero, and both ends saturate."""
    node = s.IntegerLIF(name="y", x=X, vth=vth, dv=dv, gain=gain, bias=B, bias_exp=exponent)
    spikes = run(node, np.array([xs]), steps, "quantized", b=np.full(len(xs), mantissa, np.int16))
    for i, x in enumerate(xs):
        assert spikes[0, :, i].tolist() == scalar_integer_lif(
            x, steps, vth, dv, gain, mantissa * 2**exponent
        )


def test_integer_lif_needs_more_than_its_threshold() -> None:
    node = s.IntegerLIF(name="y", x=X, vth=5, dv=0)
    assert run(node, np.array([[5, 6]]), 1, "quantized").ravel().tolist() == [0, 1]


def test_or_is_one_from_one_on() -> None:
    assert run(s.Or(name="y", x=X), np.array([[0, 1, 2, 7]]), 1, "quantized").ravel().tolist() == [
        0,
        1,
        1,
        1,
    ]


SHAPES = [((3, 4), (3, 4)), ((3, 4), (1, 4)), ((3, 1), (3, 4)), ((2, 3, 4), (4,)), ((4,), (3, 4))]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_sums_and_products_broadcast_over_features_only(
    a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    """Two samples: a missing axis must not be taken from samples or steps."""
    x, y = normal(2, *a), normal(2, *b, seed=1)
    np.testing.assert_allclose(
        two(s.Add, x, y), np.stack([x[i] + y[i] for i in range(2)]), rtol=1e-6
    )
    np.testing.assert_allclose(
        two(s.Mul, x, y), np.stack([x[i] * y[i] for i in range(2)]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (1, 4, 3))],
)
def test_matrix_products_are_numpys_a_sample(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = normal(2, *a), normal(2, *b, seed=1)
    np.testing.assert_allclose(
        two(s.MatMul, x, y), np.stack([x[i] @ y[i] for i in range(2)]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("axes", "keepdims"), [((0,), False), ((1,), True), ((0, 2), False), ((1, 2), True)]
)
def test_sums_run_over_feature_axes(axes: tuple[int, ...], keepdims: bool) -> None:
    x = normal(2, 3, 4, 5)
    y = run(s.Sum(name="y", x=X, axes=axes, keepdims=keepdims), x)[:, 0]
    np.testing.assert_allclose(
        y, np.stack([v.sum(axis=axes, keepdims=keepdims) for v in x]), rtol=1e-4, atol=1e-5
    )


@given(st.permutations(range(3)))
def test_rearrange_is_a_transposition_and_a_reshape(permutation: list[int]) -> None:
    x = normal(2, 2, 3, 4)
    strides = tuple((12, 4, 1)[i] for i in permutation)
    sizes = tuple((2, 3, 4)[i] for i in permutation)
    y = run(s.Rearrange(name="y", x=X, shape=(24,), sizes=sizes, strides=strides), x)[:, 0]
    np.testing.assert_array_equal(y, x.transpose(0, *(i + 1 for i in permutation)).reshape(2, 24))


def test_scale_multiplies() -> None:
    np.testing.assert_array_equal(
        run(s.Scale(name="y", x=X, factor=-0.5), normal(2, 3))[:, 0], normal(2, 3) / -2
    )


def test_time_mean_and_output_have_no_time() -> None:
    nodes = (
        s.Input(name="x", shape=(2,)),
        s.LIF(name="l", x=X, tau=inf, v_threshold=1.0, decay_input=False),
        s.TimeMean(name="m", x=Ref("l")),
        s.Output(name="y", x=Ref("m"), unit=3.0, bias=B),
    )
    graph = s.SpikingGraph("g", "imported", nodes, {"b": np.array([1.0, -1.0])})
    found = evaluate(graph, np.array([[0.5, 1.0]], np.float32), 4)
    assert found["m"].tolist() == [[0.5, 1.0]]
    assert found["y"].tolist() == [[4.5, 0.0]]


def test_a_mean_over_time_of_a_constant_is_the_constant() -> None:
    assert run(s.TimeMean(name="y", x=X), normal(2, 3), 4).tolist() == normal(2, 3).tolist()


def test_only_recorded_values_are_returned_and_all_have_their_steps() -> None:
    x = normal(2, 3)
    nodes = (
        s.Input(name="x", shape=(3,)),
        s.Scale(name="a", x=X, factor=2.0),
        s.Scale(name="b", x=Ref("a"), factor=2.0),
    )
    graph = s.SpikingGraph("g", "imported", nodes, {})
    assert set(evaluate(graph, x, 3)) == {"x", "a", "b"}
    found = evaluate(graph, x, 3, ["b"])
    assert list(found) == ["b"] and found["b"].shape == (2, 3, 3)


def test_the_input_is_rounded_half_to_even_and_clipped() -> None:
    node = s.Input(name="x", shape=(5,), unit=0.5, low=-2, high=3)
    assert encode_input(node, np.array([[-9.0, -0.25, 0.25, 0.75, 9.0]])).tolist() == [
        [-2, 0, 0, 2, 3]
    ]


def test_factors_that_are_not_given_are_one() -> None:
    x = normal(3, 5)
    plain = run(s.Softmax(name="y", x=X), x)
    np.testing.assert_array_equal(plain, run(s.Softmax(name="y", x=X, gain=1.0), x))
    apart = run(s.Softmax(name="y", x=X, gain=2.0), x)
    np.testing.assert_allclose(apart, plain**2 / (plain**2).sum(-1, keepdims=True), rtol=1e-5)
