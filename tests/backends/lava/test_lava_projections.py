"""Projections on Lava's Dense, Sparse, Conv and their delayed forms against plain integer sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lava_cases import check, circuit, lif, one_to_one, relay, source, weights

from neurocompile.backends.lava import network
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import Conv2d, Dense, GradedRelu, Strided
from neurocompile.ir.text import Ref, TensorRef

SIGNS = ("mixed", "excitatory", "inhibitory")


def behind(src_shape, dst_shape, projection, tensors, spiking, relu=False):
    """x -> (spiking LIF or graded relay) -> projection -> graded population."""
    n = int(np.prod(src_shape))
    middle = (
        lif("m", src_shape, 1, vth=0, dv=4095, reset=True) if spiking else relay("m", src_shape, 1)
    )
    end = relay("y", dst_shape, 1 + projection.delay, *([GradedRelu] if relu else []))
    return circuit(
        [source(*src_shape), middle, end], [one_to_one("x", "m", n), projection], tensors, steps=2
    )


def inputs(rng, shape, spiking):
    return rng.integers(-1, 2, (3, *shape)) if spiking else rng.integers(-5000, 5000, (3, *shape))


@settings(max_examples=60, deadline=None)
@given(
    sign=st.sampled_from(SIGNS),
    bits=st.integers(1, 8),
    exp=st.integers(0, 7),
    delay=st.integers(1, 5),
    spiking=st.booleans(),
    seed=st.integers(0, 999),
)
def test_dense(sign, bits, exp, delay, spiking, seed):
    rng = np.random.default_rng(seed)
    n_src, n_dst = rng.integers(1, 9, 2)
    w = weights(rng, sign, (n_dst, n_src), bits)
    p = Dense(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=delay,
        weight=TensorRef("w"),
        sign=sign,
        weight_bits=bits,
        weight_exp=exp,
    )
    check(behind((n_src,), (n_dst,), p, {"w": w}, spiking), inputs(rng, (n_src,), spiking))


@settings(max_examples=60, deadline=None)
@given(
    sign=st.sampled_from(SIGNS),
    bits=st.integers(2, 8),
    exp=st.integers(0, 2),
    delay=st.integers(1, 4),
    spiking=st.booleans(),
    groups=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 999),
    stride=st.tuples(*[st.integers(1, 3)] * 2),
    padding=st.tuples(*[st.integers(0, 2)] * 2),
    dilation=st.tuples(*[st.integers(1, 2)] * 2),
)
def test_conv(sign, bits, exp, delay, spiking, groups, seed, stride, padding, dilation):
    rng = np.random.default_rng(seed)
    size, kernel = rng.integers(3, 7, 2), rng.integers(1, 4, 2)
    spread = (size + 2 * np.array(padding) - np.array(dilation) * (kernel - 1) - 1) // stride + 1
    assume((spread >= 1).all())
    c_in, c_out = groups * rng.integers(1, 3), groups * rng.integers(1, 3)
    w = weights(rng, sign, (c_out, *kernel, c_in // groups), bits)
    p = Conv2d(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=delay,
        weight=TensorRef("w"),
        sign=sign,
        weight_bits=bits,
        weight_exp=exp,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    src, dst = (*map(int, size), int(c_in)), (*map(int, spread), int(c_out))
    check(behind(src, dst, p, {"w": w}, spiking, relu=True), inputs(rng, src, spiking))


@pytest.mark.parametrize("pairs", [0, 10**9])
def test_conv_process_and_unrolled_matrix_agree(monkeypatch, pairs):
    monkeypatch.setattr(network, "_CONV_PAIRS", pairs)
    rng = np.random.default_rng(1)
    p = Conv2d(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=1,
        weight=TensorRef("w"),
        padding=(1, 0),
        stride=(2, 1),
    )
    graph = behind((7, 5, 3), (4, 4, 6), p, {"w": weights(rng, "mixed", (6, 3, 2, 3))}, False)
    built = {type(q).__name__ for q in network.build(graph).processes}
    assert ("Conv" in built) == bool(pairs)
    check(graph, inputs(rng, (7, 5, 3), False))


def test_depthwise_beyond_int8_groups_is_unrolled():
    """Lava's Conv keeps ``groups`` in int8."""
    rng = np.random.default_rng(2)
    p = Conv2d(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=1,
        weight=TensorRef("w"),
        padding=(1, 1),
        groups=200,
    )
    graph = behind((3, 3, 200), (3, 3, 200), p, {"w": weights(rng, "mixed", (200, 3, 3, 1))}, True)
    check(graph, inputs(rng, (3, 3, 200), True))


STRIDED = {
    "one to one": dict(sizes=(24,), src_strides=(1,), dst_strides=(1,)),
    "broadcast a channel over tokens": dict(
        sizes=(6, 4), src_strides=(0, 1), dst_strides=(4, 1), src_offset=20
    ),
    "reduce tokens": dict(sizes=(6, 4), src_strides=(4, 1), dst_strides=(0, 1), dst_offset=3),
    "transpose": dict(sizes=(6, 4), src_strides=(4, 1), dst_strides=(1, 6)),
    "windows": dict(sizes=(2, 3, 2, 2), src_strides=(8, 2, 4, 1), dst_strides=(3, 1, 0, 0)),
    "backwards": dict(sizes=(24,), src_strides=(-1,), dst_strides=(1,), src_offset=23),
    "one": dict(sizes=(), src_strides=(), dst_strides=(), src_offset=5, dst_offset=7),
}


@pytest.mark.parametrize("delay", [1, 2, 5])
@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("pattern", STRIDED)
def test_strided(pattern, spiking, delay):
    rng = np.random.default_rng(3)
    for sign, weight in (("mixed", -6), ("excitatory", 255), ("inhibitory", -255)):
        p = Strided(
            name="p",
            src=Ref("m"),
            dst=Ref("y"),
            delay=delay,
            weight=weight,
            sign=sign,
            weight_exp=delay % 3,
            **STRIDED[pattern],
        )
        check(behind((6, 4), (24,), p, {}, spiking), inputs(rng, (6, 4), spiking))


def test_strided_that_leaves_its_population_is_refused():
    p = Strided(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=1,
        sizes=(25,),
        src_strides=(1,),
        dst_strides=(1,),
    )
    with pytest.raises(NeurocompileError, match="NC9001.*'p'"):
        network.build(behind((6, 4), (24,), p, {}, True))


def test_delay_beyond_six_bits_is_refused():
    for delay, fits in ((63, True), (64, False)):
        graph = behind((2,), (2,), one_to_one("m", "y", 2, delay=delay), {}, True)
        if fits:
            check(graph, np.ones((2, 2), int))
        else:
            with pytest.raises(
                NeurocompileError, match="NC3103 projection 'm>y' has a delay of 64"
            ):
                network.build(graph)


def test_all_zero_weights_and_unconnected_populations():
    p = Dense(name="p", src=Ref("m"), dst=Ref("y"), delay=2, weight=TensorRef("w"))
    graph = behind(
        (4,), (3,), p, {"w": np.zeros((3, 4), np.int16), "b": np.ones(1, np.int16)}, True
    )
    alone = lif("always", (2, 2), 0, vth=0, dv=4095, bias=TensorRef("b"), bias_exp=7)
    check(graph.replace(populations=(*graph.populations, alone)), np.ones((2, 4), int))


@pytest.mark.parametrize(
    ("sign", "bits", "values", "shift"),
    [
        ("excitatory", 1, [0, 1], 7),
        ("excitatory", 8, [255, 3], 0),
        ("inhibitory", 2, [-3, 0], 6),
        ("mixed", 8, [254, -256], 0),
        ("mixed", 8, [3], 1),
        ("mixed", 2, [-4, 2], 6),
        ("excitatory", 4, [16, 240], 0),
        ("mixed", 8, [0, 0], 0),
    ],
)
def test_weights_are_aligned_to_the_bits_that_lava_keeps(sign, bits, values, shift):
    p = Dense(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=1,
        weight=TensorRef("w"),
        sign=sign,
        weight_bits=bits,
        weight_exp=1,
    )
    aligned, exp = network.aligned_weights(np.array(values, np.int16), p)
    assert exp == 1 - shift and (aligned == np.array(values) << shift).all()


@pytest.mark.parametrize(
    ("sign", "bits", "values"),
    [
        ("excitatory", 2, [1, 4]),
        ("mixed", 8, [3, 200]),
        ("excitatory", 8, [-1]),
        ("inhibitory", 8, [1]),
        ("mixed", 8, [256]),
    ],
)
def test_weights_that_do_not_fit_are_refused(sign, bits, values):
    p = Dense(
        name="p",
        src=Ref("m"),
        dst=Ref("y"),
        delay=1,
        weight=TensorRef("w"),
        sign=sign,
        weight_bits=bits,
    )
    with pytest.raises(NeurocompileError, match="do not fit"):
        network.aligned_weights(np.array(values, np.int16), p)
