"""The emulator's kernels against loops written from the definitions, and what must not change a
result.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spiking_cases import networks, samples

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import decode, encode
from neurocompile.backends.kernels import lif, project
from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.lower import lower
from neurocompile.theory.measure.convergence import prepared

LIMIT = 1 << 23


def towards_zero(value: int) -> int:
    """``value / 4096`` without its fraction."""
    return value // 4096 if value >= 0 else -(-value // 4096)


def lif_by_hand(a: list[int], bias: int, vth: int, dv: int, du: int) -> tuple[list[int], int, int]:
    """One neuron in Python's integers: spikes, and the last u and v."""
    u = v = 0
    spikes = []
    for current in a:
        u = towards_zero(u * (4096 - (du + 1))) + current * 64
        if u > LIMIT:
            u -= 2 * LIMIT
        elif u <= -LIMIT:
            u += 2 * LIMIT
        v = towards_zero(v * (4096 - dv)) + u + bias
        v = max(-(LIMIT - 1), min(LIMIT - 1, v))
        spikes.append(int(v > vth * 64))
        v = 0 if spikes[-1] else v
    return spikes, u, v


def check_lif(a: list[int], bias: int, vth: int, dv: int, du: int) -> None:
    u, v = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32)
    out = np.empty((1, len(a), 1), np.uint8)
    lif(
        np.array(a, np.int32).reshape(1, -1, 1),
        np.array([bias], np.int32),
        vth << 6,
        dv,
        du,
        u,
        v,
        out,
    )
    assert (out.ravel().tolist(), int(u[0, 0]), int(v[0, 0])) == lif_by_hand(a, bias, vth, dv, du)


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(-300, 300), st.integers(-131071, 131071)), min_size=1, max_size=12
    ),
    st.integers(-4096, 4095),
    st.integers(0, 7),
    st.integers(0, 131071),
    st.integers(0, 4095),
    st.integers(0, 4095),
)
@example([131071] * 9, 4095, 7, 131071, 0, 0)  # v saturates above
@example([-131071] * 9, -4096, 7, 0, 0, 0)  # and below
@example([131071, 131071, -1], 0, 0, 131071, 0, 0)  # u wraps
@example([-131071, -131071, 1], 0, 0, 131071, 0, 0)
@example([1, 0, 0, 0], 0, 0, 0, 4095, 4095)
def test_the_lif_kernel_equals_a_scalar_loop_on_the_whole_legal_range(
    a, bias, exponent, vth, dv, du
):
    check_lif(a, bias << exponent, vth, dv, du)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(-(LIMIT >> 5), LIMIT >> 5), min_size=1, max_size=6),
    st.sampled_from([0, 1, 4094, 4095]),
)
def test_the_current_wraps_once_at_24_bits(a, du):
    check_lif(a, 0, 131071, 0, du)
    check_lif(a, 0, 100, 7, du)


@pytest.mark.parametrize("dv, du", itertools.product([0, 1, 2048, 4095], [0, 1, 2048, 4094, 4095]))
def test_every_membrane_near_zero_decays_like_the_scalar_loop(dv, du):
    for first in range(-70, 71):
        check_lif([first, 0, 0, 1, 0, -1], 0, 200, dv, du)


def test_a_neuron_at_its_threshold_is_silent_and_above_it_fires():
    assert lif_by_hand([10], 0, 10, 0, 4095)[0] == [0] and lif_by_hand([10], 1, 10, 0, 4095)[0] == [
        1
    ]
    check_lif([10], 0, 10, 0, 4095)
    check_lif([10], 1, 10, 0, 4095)


def test_many_neurons_with_their_own_bias_and_constant_input_equal_one_by_one():
    rng = np.random.default_rng(0)
    a, bias = (
        rng.integers(-500, 500, (3, 1, 20)).astype(np.int32),
        rng.integers(-4096, 4096, 20).astype(np.int32),
    )
    out, state = np.empty((3, 6, 20), np.uint8), np.zeros((2, 3, 20), np.int32)
    lif(a, bias, 300 << 6, 1000, 2000, state[0], state[1], out)
    for i, j in np.ndindex(3, 20):
        assert (
            out[i, :, j].tolist()
            == lif_by_hand([int(a[i, 0, j])] * 6, int(bias[j]), 300, 1000, 2000)[0]
        )


# ---- projections ---------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 3))
    group_in, per_group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel, stride, dilation = (
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3)
    )
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    smallest = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding)]
    size = [draw(st.integers(n, n + 4)) for n in smallest]
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    weight = (2 * rng.integers(-128, 128, (groups * per_group, *kernel, group_in))).astype(np.int16)
    x = rng.integers(-20, 20, (2, *size, groups * group_in)).astype(np.int32) * rng.integers(
        0, 2, (2, *size, groups * group_in)
    )
    fields = dict(
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        weight_exp=draw(st.integers(0, 3)),
    )
    return (
        c.Conv2d(name="c", src=Ref("x"), dst=Ref("y"), weight=TensorRef("w"), **fields),
        weight,
        x.astype(np.int32),
    )


def convolved(p: c.Conv2d, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (H', W', C_out), one multiplication at a time."""
    height, width, _ = x.shape
    out, kh, kw, group_in = weight.shape
    rows = (height + 2 * p.padding[0] - p.dilation[0] * (kh - 1) - 1) // p.stride[0] + 1
    columns = (width + 2 * p.padding[1] - p.dilation[1] * (kw - 1) - 1) // p.stride[1] + 1
    y = np.zeros((rows, columns, out), np.int64)
    for i, j, o, a, b, g in np.ndindex(rows, columns, out, kh, kw, group_in):
        row, column = (
            i * p.stride[0] - p.padding[0] + a * p.dilation[0],
            j * p.stride[1] - p.padding[1] + b * p.dilation[1],
        )
        if 0 <= row < height and 0 <= column < width:
            y[i, j, o] += int(weight[o, a, b, g]) * int(
                x[row, column, o // (out // p.groups) * group_in + g]
            )
    return y << p.weight_exp


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_a_convolution_equals_the_naive_loops(case):
    p, weight, x = case
    expected = np.stack([convolved(p, weight, sample) for sample in x]).reshape(len(x), -1)
    found = np.full(expected.shape, 7, np.int32)
    project(p, weight, x.reshape(len(x), -1), x.shape[1:], found)
    np.testing.assert_array_equal(found, expected + 7)  # added to what was there


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 7),
    st.integers(0, 2**31),
)
def test_a_dense_projection_equals_the_naive_loops(n_dst, n_src, rows, exponent, seed):
    rng = np.random.default_rng(seed)
    weight = (2 * rng.integers(-128, 128, (n_dst, n_src))).astype(np.int16)
    x = rng.integers(-300, 300, (rows, n_src)).astype(np.int32)
    p = c.Dense(name="d", src=Ref("x"), dst=Ref("y"), weight=TensorRef("w"), weight_exp=exponent)
    found = np.ones((rows, n_dst), np.int32)
    project(p, weight, x, (n_src,), found)
    for r, i in np.ndindex(rows, n_dst):
        assert (
            found[r, i]
            == 1 + sum(int(weight[i, j]) * int(x[r, j]) for j in range(n_src)) * 2**exponent
        )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_strided_projection_equals_the_naive_loops(data):
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple))
    src_strides = tuple(data.draw(st.integers(0, 5)) for _ in sizes)
    dst_strides, step = [], 1
    for n in sizes:  # nested, so that no two loops meet, in a random order below; 0 reduces
        reduced = data.draw(st.booleans())
        dst_strides.append(0 if reduced else step)
        step *= 1 if reduced else n + data.draw(st.integers(0, 1))
    order = data.draw(st.permutations(range(len(sizes))))
    sizes, src_strides, dst_strides = (
        tuple(v[i] for i in order) for v in (sizes, src_strides, dst_strides)
    )
    offsets = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    weight, exponent = data.draw(st.integers(-255, 255)), data.draw(st.integers(0, 7))
    n_src = offsets[0] + sum((n - 1) * k for n, k in zip(sizes, src_strides)) + 2
    n_dst = offsets[1] + sum((n - 1) * k for n, k in zip(sizes, dst_strides)) + 2
    x = np.random.default_rng(0).integers(-100, 100, (2, n_src)).astype(np.int32)
    p = c.Strided(
        name="s",
        src=Ref("x"),
        dst=Ref("y"),
        sizes=sizes,
        src_strides=src_strides,
        dst_strides=dst_strides,
        weight=weight,
        weight_exp=exponent,
        src_offset=offsets[0],
        dst_offset=offsets[1],
    )
    expected, found = np.full((2, n_dst), 5, np.int64), np.full((2, n_dst), 5, np.int32)
    for row, index in itertools.product(range(2), itertools.product(*map(range, sizes))):
        to = offsets[1] + sum(i * k for i, k in zip(index, dst_strides))
        expected[row, to] += (weight << exponent) * int(
            x[row, offsets[0] + sum(i * k for i, k in zip(index, src_strides))]
        )
    project(p, None, x, (n_src,), found)
    np.testing.assert_array_equal(found, expected)


# ---- whole circuits ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(networks(), st.integers(1, 4))
def test_samples_are_independent_whatever_the_number_of_threads(graph, steps):
    circuit = lower(graph, steps)
    x = encode(circuit, samples(graph, 5))
    whole = Emulator(1).open(circuit).run(x)
    for threads in (2, 3, 8):
        again = Emulator(threads).open(circuit).run(x)
        for name, values in whole.items():
            np.testing.assert_array_equal(again[name], values)
    for name, values in Emulator(2).open(circuit).run(x[::-1].copy()).items():
        np.testing.assert_array_equal(values[::-1], whole[name])


def test_a_subset_of_populations_is_recorded_as_it_is_in_the_whole_trace(
    digits_program, digits_data
):
    circuit = digits_program.circuit
    x = encode(circuit, digits_data.x[:3])
    with Emulator().open(circuit) as executor:
        whole = executor.run(x)
        for record in (
            [],
            [circuit.populations[0].name],
            [p.name for p in circuit.populations[5:9]],
        ):
            trace = executor.run(x, record)
            assert set(trace) == set(record)
            for name, values in trace.items():
                np.testing.assert_array_equal(values, whole[name])
    for p in circuit.populations:
        assert whole[p.name].shape == (3, circuit.steps, *p.shape)


def test_values_that_do_not_change_over_the_steps_are_given_for_every_step():
    builder = Builder()
    builder.population(c.HostInput, "x", (2, 2), "x", low=-9, high=9)
    builder.population(c.GradedRelu, "r", (4,), "r")
    builder.population(c.LIF, "s", (4,), "s", vth=9, reset=True)
    builder.drive("r", [strided("x", (4,), (1,), (1,))])
    builder.drive(
        "s",
        [
            strided("r", (4,), (1,), (1,)),
            strided(builder.always_on("s"), (4,), (0,), (1,), weight=2),
        ],
    )
    circuit = builder.finish("constant", 3)
    x = np.array([[[1, -2], [3, 8]]], np.int32)
    trace = Emulator().open(circuit).run(x)
    np.testing.assert_array_equal(trace["x"], np.repeat(x[:, None], 3, axis=1))
    np.testing.assert_array_equal(trace["r"], [[[1, 0, 3, 8]] * 3])
    # 3, 6, 9 | 2, 4, 6 | 5, 10 fires, 5 | 10 fires every time
    np.testing.assert_array_equal(trace["s"], [[[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]])


def test_the_host_encodes_by_rounding_to_its_range_and_decodes_the_mean_over_steps():
    host = c.HostInput(
        name="x", shape=(2, 1, 1), layer="x", low=-2, high=5, scale=0.5, source_axes=(1, 2, 0)
    )
    out = c.GradedRelay(name="y", shape=(2,), layer="y")
    readout = c.Readout(name="r", src=Ref("y"), scale=0.25, bias=TensorRef("b"))
    circuit = c.CircuitGraph(
        "host", 2, (host, out), (), (readout,), {"b": np.array([1, -1], np.int64)}
    )
    x = np.array([1.3, -9.0], np.float32).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(encode(circuit, x).ravel(), [3, -2])
    trace = {"y": np.array([[[1, 2], [4, 2]]], np.int32)}
    np.testing.assert_allclose(decode(circuit, trace), [[0.25 * 3.5, 0.25 * 1.0]])


def test_cycle_by_cycle_the_digits_model_gives_the_same_trace(digits_program, digits_data):
    circuit = digits_program.circuit
    x = encode(circuit, digits_data.x[:3])
    stepped = emulate_cycles(circuit, x)
    for name, values in Emulator().open(circuit).run(x).items():
        np.testing.assert_array_equal(stepped[name], values, err_msg=name)


@pytest.mark.parametrize("value", [16, -16, 1 << 20])
def test_integers_that_no_sample_becomes_are_refused(value):
    """They leave the fields that were proven for the range: backends would part."""
    circuit = prepared(rate_relu(1, 15, 8))
    with pytest.raises(NeurocompileError, match="NC1006.*from -15 to 15"):
        Emulator().open(circuit).run(np.array([[7], [value]], np.int32))
