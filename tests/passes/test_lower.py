"""Each kind of layer, lowered, computes what its definition says; what has no integer form is
refused.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import Maker, assert_equal_to_definition, networks, samples

from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.lower import lower

SETTINGS = settings(max_examples=40, deadline=None)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


def check(graph: s.SpikingGraph, steps: int = 3) -> CircuitGraph:
    circuit = lower(graph, steps)
    assert_equal_to_definition(graph, circuit, samples(graph, 3))
    return circuit


def spikes(m: Maker) -> str:
    """A spiking layer of the input's shape that fires differently in each step."""
    reach = m.range(m.x).magnitude
    return m.add(s.IntegerLIF, x=m.x, vth=m.integer(0, 2 * reach), dv=m.choose(0, 1000))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_convolution_of_any_stride_padding_and_groups(data, shape):
    m = Maker(data.draw, shape)
    check(m.finish(m.lif(m.conv(m.x))))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_convolution_of_a_convolution_without_a_neuron_between(data, shape):
    m = Maker(data.draw, shape, low=0, high=3)
    check(m.finish(m.conv(m.conv(m.x))))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_linear_head_over_a_feature_map(data, shape):
    m = Maker(data.draw, shape)
    check(m.finish(m.lif(m.linear(m.flat(spikes(m))))))


@SETTINGS
@given(st.data(), SHAPES)
def test_sums_of_spikes_with_gain_and_bias(data, shape):
    m = Maker(data.draw, shape)
    a = spikes(m)
    total = m.add(s.Add, a=a, b=m.add(s.Add, a=spikes(m), b=a))
    check(m.finish(m.lif(total, m.choose(1, 2, 7, 64, 254))))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_sum_that_two_layers_read_is_relayed_once(data, shape):
    m = Maker(data.draw, shape)
    total = m.add(s.Add, a=spikes(m), b=spikes(m))
    second = m.add(s.Add, a=m.lif(total), b=total)
    circuit = check(m.finish(m.lif(second)))
    assert sum(type(p) is c.GradedRelay and p.name == total for p in circuit.populations) == 1


@SETTINGS
@given(st.data(), SHAPES, st.sampled_from([(0,), (1, 2), (0, 2), (1,)]))
def test_a_token_mask_is_an_or_that_gates_spikes(data, shape, axes):
    m = Maker(data.draw, shape)
    q, k = spikes(m), spikes(m)
    mask = m.add(s.Or, x=m.add(s.Sum, x=q, axes=axes, keepdims=True))
    a, b = m.choose((mask, k), (k, mask))
    check(m.finish(m.lif(m.add(s.Mul, a=a, b=b))))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_graded_value_times_spikes(data, shape):
    m = Maker(data.draw, shape)
    value = m.add(s.Sum, x=spikes(m), axes=m.choose((0,), (1, 2)), keepdims=True)
    a, b = m.choose((value, spikes(m)), (spikes(m), value))
    check(m.finish(m.lif(m.add(s.Mul, a=a, b=b), m.choose(1, 16))))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_value_of_either_sign_times_spikes(data, shape):
    m = Maker(data.draw, shape)
    channels, height, width = shape
    signed = m.choose(lambda: m.x, lambda: m.offset(m.conv(m.x)), lambda: m.shift(m.conv(m.x)))()
    if m.shape(signed) != shape:
        spiking = m.add(s.IntegerLIF, x=signed, vth=m.integer(0, 9), dv=0)
    else:
        spiking = spikes(m)
    axes = m.choose((), (0,), (1, 2))
    mask = m.add(s.Or, x=m.add(s.Sum, x=spiking, axes=axes, keepdims=True)) if axes else spiking
    a, b = m.choose((signed, mask), (mask, signed))
    check(m.finish(m.lif(m.add(s.Mul, a=a, b=b))))


@SETTINGS
@given(st.data(), SHAPES, st.booleans())
def test_a_matrix_product_of_real_values_and_spikes(data, shape, real_first):
    """SpikingResformer's attention: A (m, d) real times X (d, n) spikes, and the like."""
    m = Maker(data.draw, shape)
    channels, height, width = shape
    tokens, heads = height * width, m.choose(*(h for h in (1, 2) if channels % h == 0))
    depth = channels // heads
    conv = m.add(s.Conv2d, x=m.x, weight=m.weight(channels, channels, 1, 1))
    signed = m.choose(m.offset, m.shift, lambda x: x)(conv)
    split = (heads, depth, tokens)
    real = m.rearrange(signed, split, (0, 2, 1), (heads, tokens, depth))
    spiking = m.rearrange(spikes(m), split, (0, 1, 2), split)
    if not real_first:
        real, spiking = (
            m.rearrange(i, shape, (0, 2, 1), shape[:1] + shape[:0:-1])
            for i, shape in ((spiking, split), (real, (heads, tokens, depth)))
        )
    check(m.finish(m.lif(m.add(s.MatMul, a=real, b=spiking))))


@SETTINGS
@given(st.data(), SHAPES, st.booleans())
def test_sums_over_windows_of_spikes_and_of_weighted_sums(data, shape, weighted):
    m = Maker(data.draw, shape)
    check(m.finish(m.lif(m.sum_pool(m.conv(spikes(m)) if weighted else spikes(m)))))


@SETTINGS
@given(st.data(), SHAPES)
def test_offsets_and_shifts_of_graded_values(data, shape):
    m = Maker(data.draw, shape)
    x = m.choose(lambda: m.x, lambda: m.conv(m.x), lambda: m.add(s.Add, a=spikes(m), b=m.x))()
    y = m.choose(lambda: m.offset(x), lambda: m.shift(x), lambda: m.shift(m.offset(x)))()
    z = m.choose(lambda: m.lif(y), lambda: m.lif(m.conv(y)), lambda: m.lif(m.pool(y)))()
    check(m.finish(z))


@SETTINGS
@given(st.data(), SHAPES)
def test_slices_of_spikes_and_of_layers(data, shape):
    m = Maker(data.draw, shape)
    x = m.choose(lambda: spikes(m), lambda: m.conv(m.x))()
    channels, height, width = m.shape(x)
    axis = m.choose(0, 1, 2)
    n = (channels, height, width)[axis]
    length = m.choose(*(k for k in range(1, n + 1) if n % k == 0))
    start = length * m.integer(0, n // length - 1)
    cut = tuple(length if k == axis else size for k, size in enumerate((channels, height, width)))
    strides = (height * width, width, 1)
    y = m.add(s.Rearrange, x=x, shape=cut, sizes=cut, strides=strides, offset=start * strides[axis])
    check(m.finish(m.lif(m.choose(lambda: y, lambda: m.conv(y))())))


@SETTINGS
@given(st.data(), SHAPES)
def test_two_factors_that_broadcast_each_other_make_an_outer_product(data, shape):
    m = Maker(data.draw, shape)
    row = m.add(s.Or, x=m.add(s.Sum, x=spikes(m), axes=(1, 2), keepdims=True))
    column = m.add(s.Sum, x=spikes(m), axes=(0,), keepdims=True)
    check(m.finish(m.lif(m.add(s.Mul, a=row, b=column))))


@SETTINGS
@given(st.data(), SHAPES)
def test_attention_in_both_association_orders(data, shape):
    m = Maker(data.draw, shape)
    check(m.finish(m.lif(m.attention(spikes(m), spikes(m), spikes(m)), m.choose(1, 8))))


@SETTINGS
@given(
    st.data(), SHAPES, st.sampled_from([(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)]), st.booleans()
)
def test_a_sum_over_axes(data, shape, axes, keepdims):
    m = Maker(data.draw, shape)
    check(
        m.finish(
            m.lif(
                m.add(s.Sum, x=m.add(s.Add, a=spikes(m), b=spikes(m)), axes=axes, keepdims=keepdims)
            )
        )
    )


@SETTINGS
@given(st.data(), SHAPES, st.booleans())
def test_max_pooling_of_integers_and_of_weighted_sums(data, shape, weighted):
    m = Maker(data.draw, shape)
    value = m.conv(spikes(m)) if weighted else m.add(s.Add, a=spikes(m), b=spikes(m))
    check(m.finish(m.lif(m.pool(value))))


@settings(max_examples=5, deadline=None)
@given(st.data(), SHAPES, st.permutations(range(3)))
def test_a_softmax_of_numbers_of_spikes_in_rows_that_lie_anyhow(data, shape, order):
    """Along the last axis of three: rows of any shape, of values that were transposed before."""
    m = Maker(data.draw, shape)
    strides = (shape[1] * shape[2], shape[2], 1)
    sizes = tuple(shape[i] for i in order)
    view = {"shape": sizes, "sizes": sizes, "strides": tuple(strides[i] for i in order)}
    fired = m.add(s.TimeSum, x=m.add(s.Rearrange, x=spikes(m), **view), steps=3)
    span = 3
    thresholds = m.tensor(1 + np.sort(m.rng.permutation(span)[: m.integer(1, span)]), np.int32)
    rates = m.add(s.RateSoftmax, x=fired, thresholds=thresholds, span=span)
    check(m.finish(m.lif(rates)))


@SETTINGS
@given(st.data(), SHAPES)
def test_rearranged_values_are_read_where_they_lie(data, shape):
    m = Maker(data.draw, shape)
    (channels, height, width), x = shape, spikes(m)
    order = m.draw(st.permutations(range(3)))
    y = m.rearrange(x, shape, tuple(order), tuple(shape[i] for i in order))
    z = m.lif(m.conv(y))
    tokens = m.rearrange(x, (channels, height * width), (1, 0), (height * width, channels))
    merged = m.add(s.Add, a=m.flat(tokens), b=m.flat(m.lif(tokens)))
    m.lif(merged)
    check(m.finish(m.choose(z, m.lif(merged), y)))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_rearranged_convolution_is_added_to_tokens(data, shape):
    m = Maker(data.draw, shape)
    channels, height, width = shape
    conv = m.add(s.Conv2d, x=m.x, weight=m.weight(channels, channels, 1, 1))
    tokens = (channels, height * width)
    a, b = (m.rearrange(i, shape, (0, 1, 2), tokens) for i in (spikes(m), conv))
    a, b = m.choose((a, b), (b, a))
    check(m.finish(m.lif(m.add(s.Add, a=a, b=b))))


@SETTINGS
@given(st.data(), SHAPES)
def test_a_convolution_whose_axes_are_renamed_keeps_its_map(data, shape):
    m = Maker(data.draw, shape)
    y = m.conv(m.x)
    channels, height, width = m.shape(y)
    check(
        m.finish(
            m.lif(
                m.rearrange(y, (channels, height, width), (0, 1, 2), (channels, height * width, 1))
            )
        )
    )


@SETTINGS
@given(st.data(), SHAPES)
def test_logits_come_in_the_models_order_however_they_lie(data, shape):
    m = Maker(data.draw, shape)
    bias = m.tensor(m.rng.integers(-9, 9, int(np.prod(shape))))
    logits = m.flat(m.choose(spikes, lambda m: m.conv(m.x), lambda m: m.x)(m))
    bias = bias if m.shape(logits) == m.tensors[bias].shape else None
    m.add(s.Output, x=m.add(s.TimeMean, x=logits), unit=0.25, bias=bias)
    check(m.graph())


@settings(max_examples=100, deadline=None)
@given(networks(layers=5), st.integers(1, 5))
def test_whole_networks_at_any_number_of_steps(graph, steps):
    check(graph, steps)


# ---- what has no integer form --------------------------------------------------------------------


def refused(code: str, match: str, build) -> None:
    """``build(m, p, q)``, with two spiking layers of shape (2, 2, 3), cannot be lowered."""

    m = Maker(lambda strategy: 0, (2, 2, 3))  # nothing is drawn but the seed
    p, q = (m.add(s.IntegerLIF, x=m.x, vth=v, dv=0) for v in (0, 5))
    y = build(m, p, q)
    m.add(s.Output, x=m.add(s.TimeMean, x=m.flat(y)))
    with pytest.raises(NeurocompileError, match=match) as error:
        lower(m.graph(), 2)
    assert error.value.code == code


def test_a_product_of_two_signed_values_is_refused():
    def build(m, p, q):
        weight = m.tensor(np.array([[[[2]], [[-2]]], [[[-2]], [[2]]]]))
        y = m.add(s.Conv2d, x=p, weight=weight)
        return m.add(s.Mul, a=y, b=y)

    refused("NC2001", r"-2\.\.2 by -2\.\.2; .*numbers of spikes up to 16", build)


@SETTINGS
@given(st.data(), SHAPES, st.sampled_from([(1, 2), (3, 4), (2, 16)]))
def test_a_product_of_numbers_of_spikes(data, shape, counts):
    m = Maker(data.draw, shape)

    def number(k):
        total = spikes(m)
        for _ in range(k - 1):
            total = m.add(s.Add, a=total, b=spikes(m))
        return total

    a, b = (number(k) for k in counts)
    if m.draw(st.booleans()):  # of either sign
        shift = m.tensor(np.full(m.shape(b), -1))
        m.tensors[shift] = m.tensors[shift].astype(np.int64)
        b = m.add(s.Offset, x=b, offset=shift)
    check(m.finish(m.lif(m.add(s.Mul, a=a, b=b))))


def test_spikes_times_a_value_beyond_a_gates_weight_are_refused():
    def build(m, p, q):
        return m.add(
            s.Mul, a=p, b=m.add(s.Conv2d, x=q, weight=m.tensor(np.full((2, 2, 1, 1), 254)))
        )

    def large(m, p, q):
        wide = m.tensor(np.full((2, 2, 1, 1), 254))
        return m.add(
            s.Mul, a=p, b=m.add(s.Conv2d, x=m.add(s.Conv2d, x=q, weight=wide), weight=wide)
        )

    with pytest.raises(pytest.fail.Exception):  # 508 fits
        refused("NC2002", "gates values", build)
    refused("NC2002", "gates values up to 258,064; the limit is 130,560", large)


def test_a_linear_layer_over_tokens_is_refused_with_what_to_write_instead():
    def build(m, p, q):
        return m.add(s.Linear, x=p, weight=m.tensor(np.ones((4, 3)) * 2))

    refused("NC2001", "use a 1x1 Conv", build)


def test_a_sum_that_broadcasts_is_refused():
    def build(m, p, q):
        return m.add(s.Add, a=p, b=m.add(s.Sum, x=q, axes=(0,), keepdims=True))

    refused("NC2001", "equal shapes are supported", build)


def test_a_matrix_product_that_broadcasts_heads_is_refused():
    def build(m, p, q):
        return m.add(
            s.MatMul, a=p, b=m.rearrange(m.add(s.Sum, x=q, axes=(0,)), (2, 3), (1, 0), (3, 2))
        )

    refused("NC2001", "equal heads are supported", build)


def test_a_sum_of_layouts_that_do_not_nest_is_refused():
    def build(m, p, q):
        return m.add(
            s.Add, a=m.rearrange(p, (4, 3), (1, 0), (12,)), b=m.rearrange(q, (2, 6), (1, 0), (12,))
        )

    refused("NC2001", "do not nest", build)


# ---- the text ------------------------------------------------------------------------------------

GOLDEN = """\
circuit "small" {steps = 2}
%x = HostInput {shape = [2, 2, 1], layer = "x", low = 0, high = 15, scale = 0.5, source_axes = [1, 2, 0]}
%lif = LIF {shape = [2, 2, 2], layer = "lif", vth = 30, dv = 2048, bias = @b, bias_exp = 1, reset = true}
%mask = LIF {shape = [2, 2, 1], layer = "mask", vth = 0}
%gated = LIF {shape = [2, 2, 2], layer = "out", vth = 1, dv = 4095}
%out = GradedRelay {shape = [2], layer = "out"}
%x>lif = Conv2d {src = %x, dst = %lif, weight = @w}
%lif>mask = Strided {src = %lif, dst = %mask, sign = "excitatory", sizes = [2, 4], src_strides = [1, 2], dst_strides = [0, 1]}
%mask>gated = Strided {src = %mask, dst = %gated, sign = "excitatory", sizes = [2, 4], src_strides = [0, 1], dst_strides = [1, 2]}
%lif>gated = Strided {src = %lif, dst = %gated, sign = "excitatory", sizes = [2, 4], src_strides = [1, 2], dst_strides = [1, 2]}
%gated>out = Dense {src = %gated, dst = %out, weight = @h}
%readout = Readout {src = %out, scale = 0.25}
%view.lif = View {layer = "lif", src = %lif, shape = [2, 2, 2], sizes = [2, 2, 2], strides = [1, 4, 2]}
%view.mask = View {layer = "mask", src = %mask, shape = [1, 2, 2], sizes = [2, 2], strides = [2, 1]}
@b : int16[2]
@h : int16[2, 8]
@w : int16[2, 1, 1, 1]
"""  # noqa: E501

SMALL = """\
spiking "small" {stage = "quantized"}
%x = Input {shape = [1, 2, 2], unit = 0.5, low = 0, high = 15}
%conv = Conv2d {x = %x, weight = @w}
%lif = IntegerLIF {x = %conv, vth = 30, dv = 2048, bias = @b, bias_exp = 1}
%sum = Sum {x = %lif, axes = [0], keepdims = true}
%mask = Or {x = %sum}
%gated = Mul {a = %mask, b = %lif}
%flat = Rearrange {x = %gated, shape = [8], sizes = [8], strides = [1]}
%head = Linear {x = %flat, weight = @h}
%mean = TimeMean {x = %head}
%out = Output {x = %mean, unit = 0.25}
"""


def test_a_small_graph_lowers_to_this_text():
    tensors = {
        "w": np.array([4, -6], np.int16).reshape(2, 1, 1, 1),
        "b": np.array([1, 2], np.int16).reshape(2, 1, 1),
        "h": (2 * np.arange(16).reshape(2, 8)).astype(np.int16),
    }
    circuit = check(s.SpikingGraph.parse(SMALL, tensors), 2)
    assert circuit.text() == GOLDEN
    # the head's columns follow the memory, (H, W, C), not the model's (C, H, W)
    np.testing.assert_array_equal(circuit.tensors["h"][0], 2 * np.arange(8).reshape(2, 4).T.ravel())
    assert circuit.text() == CircuitGraph.parse(GOLDEN, circuit.tensors).text()


def test_a_channel_bias_of_a_cube_follows_the_channels_wherever_they_lie():
    # (3, 3, 3) gates lie row-major, where a feature map would lie channels last: only the layout
    # tells them apart
    nodes = (
        s.Input(name="x", shape=(3, 3, 3), unit=1.0, low=0, high=1),
        s.IntegerLIF(name="a", x=Ref("x"), vth=0, dv=0),
        s.Sum(name="rows", x=Ref("a"), axes=(1, 2), keepdims=True),
        s.Or(name="row", x=Ref("rows")),
        s.Sum(name="column", x=Ref("a"), axes=(0,), keepdims=True),
        s.Mul(name="outer", a=Ref("row"), b=Ref("column")),
        s.IntegerLIF(name="out", x=Ref("outer"), vth=1, dv=0, bias=TensorRef("bias")),
        s.Sum(name="sum", x=Ref("out"), axes=(1, 2)),
        s.TimeMean(name="mean", x=Ref("sum")),
        s.Output(name="logits", x=Ref("mean")),
    )
    bias = np.array([-100, 0, 100], np.int16).reshape(3, 1, 1)
    check(s.SpikingGraph("cube", "quantized", nodes, {"bias": bias}))
