"""FoldBatchNorm: a BatchNorm becomes new weights and a bias of the layer before it."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.fold_batch_norm import FoldBatchNorm

RNG = np.random.default_rng(0)
NORM = "scale = @scale, shift = @shift, mean = @mean, var = @var, eps = 0.25"
TENSORS = {
    k: RNG.uniform(0.5, 2, 3).astype(np.float32) for k in ("b", "scale", "shift", "mean", "var")
}
TENSORS["k"] = RNG.normal(size=(3, 2, 1, 3)).astype(np.float32)
TENSORS["w"] = RNG.normal(size=(3, 3)).astype(np.float32)


def graph(shape: str, *lines: str) -> SpikingGraph:
    text = [
        f'spiking "g" {{stage = "imported"}}\n%x = Input {{shape = {shape}}}',
        *lines,
        "%out = Output {x = %n}\n",
    ]
    return SpikingGraph.parse("\n".join(text), TENSORS)


def check_same(before: SpikingGraph, after: SpikingGraph) -> None:
    x = RNG.normal(size=(4, *before.input.shape)).astype(np.float32)
    np.testing.assert_allclose(
        evaluate(after, x, 1)["out"], evaluate(before, x, 1)["out"], rtol=1e-4, atol=1e-5
    )


def test_the_norm_of_a_convolution_is_folded() -> None:
    before = graph(
        "[2, 4, 4]",
        "%c = Conv2d {x = %x, weight = @k, bias = @b, padding = [0, 1]}",
        f"%n = BatchNorm {{x = %c, {NORM}}}",
    )
    after = FoldBatchNorm()(before)
    assert (
        after.text()
        == """spiking "g" {stage = "imported"}
%x = Input {shape = [2, 4, 4]}
%c.bn = Conv2d {x = %x, weight = @k.bn, bias = @k.bn.bias, padding = [0, 1]}
%out = Output {x = %c.bn}
@k.bn : float64[3, 2, 1, 3]
@k.bn.bias : float64[3]
"""
    )
    check_same(before, after)


def test_the_norm_of_a_linear_layer_without_bias_is_folded() -> None:
    before = graph("[3]", "%c = Linear {x = %x, weight = @w}", f"%n = BatchNorm {{x = %c, {NORM}}}")
    after = FoldBatchNorm()(before)
    factor = TENSORS["scale"].astype(np.float64) / np.sqrt(TENSORS["var"].astype(np.float64) + 0.25)
    np.testing.assert_allclose(after.tensors["w.bn"], TENSORS["w"] * factor[:, None])
    np.testing.assert_allclose(
        after.tensors["w.bn.bias"], TENSORS["shift"] - factor * TENSORS["mean"]
    )
    check_same(before, after)


def test_two_norms_in_a_row_and_other_readers_of_the_layer_keep_their_meaning() -> None:
    before = graph(
        "[2, 4, 4]",
        "%c = Conv2d {x = %x, weight = @k, padding = [0, 1]}",
        f"%n1 = BatchNorm {{x = %c, {NORM}}}",
        f"%n2 = BatchNorm {{x = %n1, {NORM}}}",
        "%n = Add {a = %n2, b = %c}",
    )
    after = FoldBatchNorm()(before)
    assert [n.name for n in after.nodes] == ["x", "c", "c.bn.bn", "n", "out"]
    check_same(before, after)


def test_a_norm_over_the_tokens_of_a_linear_layer_is_left() -> None:
    """Axis 0 of (tokens, channels): as many tokens as channels, so no shape would tell."""
    before = graph(
        "[3, 3]", "%c = Linear {x = %x, weight = @w}", f"%n = BatchNorm {{x = %c, {NORM}}}"
    )
    assert FoldBatchNorm()(before).nodes == before.nodes
    over_channels = graph(
        "[3, 3]",
        "%c = Linear {x = %x, weight = @w}",
        f"%n = BatchNorm {{x = %c, {NORM}, axis = 1}}",
    )
    check_same(over_channels, FoldBatchNorm()(over_channels))


@pytest.mark.parametrize(
    "producer", ["%c = LIF {x = %x, tau = 2.0, v_threshold = 1.0}", "%c = Add {a = %x, b = %x}"]
)
def test_a_norm_without_a_linear_layer_before_it_is_left(producer: str) -> None:
    before = graph("[3]", producer, f"%n = BatchNorm {{x = %c, {NORM}}}")
    assert FoldBatchNorm()(before).nodes == before.nodes


def test_a_shift_in_front_of_neurons_makes_no_layer_twice() -> None:
    """The value that others read too keeps its layer; the shift goes to the neuron's bias."""
    ones = {k: np.ones(3, np.float32) for k in ("scale", "var")}
    before = SpikingGraph.parse(
        """spiking "g" {stage = "imported"}
%x = Input {shape = [2, 4, 4]}
%c = Conv2d {x = %x, weight = @k, padding = [0, 1]}
%n = BatchNorm {x = %c, scale = @scale, shift = @shift, mean = @mean, var = @var, eps = 0.0}
%a = LIF {x = %n, tau = 2.0, v_threshold = 1.0}
%d = Add {a = %c, b = %a}
%e = BatchNorm {x = %d, scale = @scale, shift = @shift, mean = @mean, var = @var, eps = 0.0}
%b = LIF {x = %e, tau = 2.0, v_threshold = 1.0}
%out = Output {x = %b}
""",
        {k: TENSORS[k] for k in ("k", "shift", "mean")} | ones,
    )
    after = FoldBatchNorm()(before)
    kinds = [type(node).__name__ for node in after.nodes]
    assert kinds == ["Input", "Conv2d", "Offset", "LIF", "Add", "Offset", "LIF", "Output"]
    check_same(before, after)


@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize("loop", [True, False])
def test_the_norm_of_a_sum_that_feeds_back_goes_into_each_of_its_layers(
    kind: str, loop: bool
) -> None:
    """By the axis of the channels, first of maps and last of rows; without a loop it stays behind."""
    shape = (3, 4, 4) if kind == "conv" else (3,)
    weights = {
        name: RNG.normal(size=(3, 3, 1, 1) if kind == "conv" else (3, 3)).astype(np.float32)
        for name in ("in", "back")
    }

    def layer(name: str, x: str) -> s.Conv2d | s.Linear:
        made = s.Conv2d if kind == "conv" else s.Linear
        return made(name=name, x=Ref(x), weight=TensorRef(name))

    fields = {name: TensorRef(name) for name in ("scale", "shift", "mean", "var")}
    nodes = (
        s.Input(name="x", shape=shape),
        s.Previous(name="before", of="n", shape=shape),
        layer("in", "x"),
        layer("back", "before" if loop else "x"),
        s.Add(name="sum", a=Ref("in"), b=Ref("back")),
        s.BatchNorm(name="norm", x=Ref("sum"), eps=0.25, axis=0, **fields),
        s.LIF(name="n", x=Ref("norm"), tau=2.0, v_threshold=0.7),
        s.TimeMean(name="m", x=Ref("n")),
        s.Output(name="out", x=Ref("m")),
    )
    nodes = nodes if loop else tuple(n for n in nodes if not isinstance(n, s.Previous))
    before = s.SpikingGraph("g", "imported", nodes, TENSORS | weights)
    after = FoldBatchNorm()(before)
    kinds = [type(node).__name__ for node in after.nodes]
    assert ("BatchNorm" in kinds) == (not loop)
    assert ("Previous" in kinds) == loop
    if loop:  # nothing stands between the sum and its neuron
        assert after.node["n"].x == "sum" and len(kinds) == len(nodes) - 1
    x = RNG.normal(size=(4, *shape)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 4)["out"], evaluate(before, x, 4)["out"])
