"""Two convolutions without a neuron between them are one, exactly, where the second does not pad."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.compose_convolutions import ComposeConvolutions


def graph(
    first: dict, second: dict, tensors: dict[str, np.ndarray], shape: tuple[int, ...]
) -> s.SpikingGraph:
    nodes = (
        s.Input(name="x", shape=shape),
        s.Conv2d(name="a", x=Ref("x"), weight=TensorRef("wa"), **first),
        s.Conv2d(name="b", x=Ref("a"), weight=TensorRef("wb"), **second),
        s.TimeMean(name="t", x=Ref("b")),
        s.Output(name="o", x=Ref("t")),
    )
    return s.SpikingGraph("g", "imported", nodes, tensors)


def biased(name: str, there: bool) -> dict:
    return {"bias": TensorRef(name)} if there else {}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_product_computes_what_the_pair_computes(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    groups_a, groups_b = data.draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 4), (4, 4)]))
    ka, kb, pad = (data.draw(st.integers(*r)) for r in ((1, 3), (1, 3), (0, 2)))
    stride = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2)))
    bias_a, bias_b = data.draw(st.booleans()), data.draw(st.booleans())
    tensors = {
        "wa": rng.integers(-3, 4, (4, 4 // groups_a, ka, ka)).astype(np.float32),
        "wb": rng.integers(-3, 4, (4, 4 // groups_b, kb, kb)).astype(np.float32),
        "ba": rng.integers(-3, 4, 4).astype(np.float32),
        "bb": rng.integers(-3, 4, 4).astype(np.float32),
    }
    first = {"padding": (pad, pad), "groups": groups_a, **biased("ba", bias_a)}
    second = {"stride": stride, "groups": groups_b, **biased("bb", bias_b)}
    before = graph(first, second, tensors, (4, 6, 7))
    after = ComposeConvolutions()(before)
    assert [type(n).__name__ for n in after.nodes] == ["Input", "Conv2d", "TimeMean", "Output"]
    x = rng.integers(0, 3, (2, 4, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 1)["o"], evaluate(before, x, 1)["o"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"padding": (1, 1)}),
        ({"stride": (2, 2)}, {}),
        ({"dilation": (2, 2)}, {}),
        ({}, {"dilation": (2, 2)}),
    ],
)
def test_what_would_not_be_exact_stays_apart(first, second):
    tensors = {"wa": np.ones((2, 2, 2, 2), np.float32), "wb": np.ones((2, 2, 2, 2), np.float32)}
    before = graph(first, second, tensors, (2, 7, 7))
    assert ComposeConvolutions()(before).nodes == before.nodes


@pytest.mark.parametrize("groups", [(1, 1), (4, 1), (1, 2), (4, 4)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_a_normalization_before_a_padded_convolution_is_weights_and_a_bias_for_each_position(
    groups, stride
):
    rng = np.random.default_rng(0)
    tensors = {
        "wa": rng.integers(-3, 4, (4, 4 // groups[0], 1, 1)).astype(np.float32),
        "wb": rng.integers(-3, 4, (4, 4 // groups[1], 3, 2)).astype(np.float32),
        "ba": rng.integers(-3, 4, 4).astype(np.float32),
        "bb": rng.integers(-3, 4, 4).astype(np.float32),
    }
    first = {"groups": groups[0], **biased("ba", True)}
    second = {"groups": groups[1], "padding": (2, 1), "stride": stride, **biased("bb", True)}
    before = graph(first, second, tensors, (4, 6, 7))
    after = ComposeConvolutions("merge")(before)
    kinds = [type(n).__name__ for n in after.nodes]
    assert kinds == ["Input", "Conv2d", "Offset", "TimeMean", "Output"]
    x = rng.integers(0, 3, (2, 4, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 1)["o"], evaluate(before, x, 1)["o"])


@pytest.mark.parametrize("policy", ["auto", "merge", "factor"])
def test_sums_over_windows_behind_a_convolution_are_part_of_it(policy):
    """A 2x2 sum makes 3x3 kernels of 2x2 ones; one population is less than two whatever the
    kernels.
    """
    rng = np.random.default_rng(0)
    tensors = {
        "wa": rng.integers(-3, 4, (2, 2, 2, 2)).astype(np.float32),
        "wb": np.ones((2, 2, 2, 2), np.float32),
    }
    before = graph({}, {}, tensors, (2, 6, 6))
    pool = s.SumPool2d(name="b", x=Ref("a"), kernel=(2, 2), stride=(2, 2))
    before = before.replace(nodes=tuple(pool if n.name == "b" else n for n in before.nodes))
    after = ComposeConvolutions(policy)(before)
    assert len(after.nodes) == len(before.nodes) - (policy != "factor")
    x = rng.integers(0, 3, (2, 2, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 1)["o"], evaluate(before, x, 1)["o"])


@pytest.mark.parametrize(("channels", "side", "merged"), [(32, 16, True), (256, 2, False)])
def test_auto_merges_large_maps_and_keeps_the_factors_of_many_channels(channels, side, merged):
    """RepConv: the product has 4.5 times the weights, and every core of a small map holds kernels
    for few neurons.
    """
    rng = np.random.default_rng(0)
    tensors = {
        "wa": rng.normal(size=(channels, channels, 1, 1)),
        "wb": rng.normal(size=(channels, 1, 3, 3)),
    }
    before = graph({"padding": (1, 1)}, {"groups": channels}, tensors, (channels, side, side))
    assert (len(ComposeConvolutions()(before).nodes) < len(before.nodes)) == merged
    assert len(ComposeConvolutions("merge")(before).nodes) < len(before.nodes)


def test_another_policy_is_refused():
    with pytest.raises(
        NeurocompileError, match="NC1015 convolutions is 'never'; auto, merge, factor"
    ):
        ComposeConvolutions("never")


def test_a_product_with_too_many_weights_stays_apart():
    tensors = {"wa": np.ones((2, 2, 2, 2), np.float32), "wb": np.ones((2, 2, 1, 1), np.float32)}
    before = graph({}, {}, tensors, (2, 4, 4))
    assert len(ComposeConvolutions(largest=15)(before).nodes) == len(before.nodes)
    assert len(ComposeConvolutions(largest=16)(before).nodes) == len(before.nodes) - 1
