"""MoveBias: biases of linear layers end in the LIF or the output that reads them."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.move_bias import MoveBias

RNG = np.random.default_rng(0)


def dyadic(*shape: int) -> np.ndarray:
    return (RNG.integers(-8, 9, shape) / 8).astype(np.float32)


TENSORS = {
    "k": dyadic(2, 1, 3, 3),
    "k2": dyadic(2, 2, 3, 3),
    "map": dyadic(2, 4, 4),
    "one": dyadic(3, 2, 1, 1),
    "w": dyadic(4, 4),
    "b": dyadic(4),
    "b2": dyadic(2),
    "b3": dyadic(3),
}
LIF = "tau = 2.0, v_threshold = 1.0, decay_input = false"


def graph(*lines: str, shape: str = "[1, 6, 6]") -> SpikingGraph:
    text = [
        f'spiking "g" {{stage = "imported"}}\n%x = Input {{shape = {shape}}}',
        *lines,
        "%out = Output {x = %y}\n",
    ]
    return SpikingGraph.parse("\n".join(text), TENSORS)


def move(before: SpikingGraph) -> SpikingGraph:
    after = MoveBias()(before)
    x = (RNG.integers(-4, 12, (10, *before.input.shape)) / 4).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 4)["out"], evaluate(before, x, 4)["out"])
    assert not any(
        getattr(n, "bias", None) for n in after.nodes if type(n).__name__ in ("Linear", "Conv2d")
    )
    return after


def test_a_lif_takes_the_bias_of_the_convolution_before_it_times_its_gain() -> None:
    after = move(
        graph(
            "%c = Conv2d {x = %x, weight = @k, bias = @b2}",
            "%y = LIF {x = %c, " + LIF + ", gain = 0.5}",
        )
    )
    assert (
        after.text()
        == """spiking "g" {stage = "imported"}
%x = Input {shape = [1, 6, 6]}
%c = Conv2d {x = %x, weight = @k}
%y = LIF {x = %c, tau = 2.0, v_threshold = 1.0, decay_input = false, gain = 0.5, bias = @y.bias}
%out = Output {x = %y}
@k : float32[2, 1, 3, 3]
@y.bias : float64[2, 1, 1]
"""
    )
    np.testing.assert_array_equal(after.tensors["y.bias"].ravel(), 0.5 * TENSORS["b2"])


def test_a_bias_passes_a_pool_a_sum_of_values_and_another_convolution() -> None:
    move(
        graph(
            "%c = Conv2d {x = %x, weight = @k, bias = @b2}",
            "%p = MaxPool2d {x = %c, kernel = [2, 2], stride = [2, 2]}",
            "%a = Add {a = %p, b = %p}",
            "%d = Conv2d {x = %a, weight = @one, bias = @b3}",
            "%y = LIF {x = %d, " + LIF + "}",
        )
    )


def test_a_bias_passes_views_linear_layers_sums_and_the_mean_to_the_output() -> None:
    after = move(
        graph(
            "%h = Linear {x = %x, weight = @w, bias = @b}",
            "%t = Rearrange {x = %h, shape = [4, 3], sizes = [4, 3], strides = [1, 4]}",
            "%b = Rearrange {x = %t, shape = [3, 4], sizes = [3, 4], strides = [1, 3]}",
            "%l = Linear {x = %b, weight = @w, bias = @b}",
            "%s = Sum {x = %l, axes = [0]}",
            "%y = TimeMean {x = %s}",
            shape="[3, 4]",
        )
    )
    assert after.tensors["out.bias"].shape == (4,)


def test_a_linear_layer_over_the_width_of_a_biased_convolution_sees_the_bias_everywhere() -> None:
    move(
        graph(
            "%c = Conv2d {x = %x, weight = @k, bias = @b2}",
            "%h = Linear {x = %c, weight = @w}",
            "%y = LIF {x = %h, " + LIF + "}",
        )
    )


def test_a_lif_and_an_output_add_it_to_the_bias_that_they_have() -> None:
    after = move(
        graph(
            "%h = Linear {x = %x, weight = @w, bias = @b}",
            "%y = LIF {x = %h, " + LIF + ", bias = @b}",
            shape="[4]",
        )
    )
    np.testing.assert_array_equal(after.tensors["y.bias"], 2 * TENSORS["b"])
    before = graph("%y = Linear {x = %x, weight = @w, bias = @b}", shape="[4]")
    after = move(
        SpikingGraph.parse(before.text().replace("%y}", "%y, unit = 2.0, bias = @b}"), TENSORS)
    )
    np.testing.assert_array_equal(after.tensors["out.bias"], 2 * TENSORS["b"])


CONV = "%c = Conv2d {x = %x, weight = @k, bias = @b2}"


@pytest.mark.parametrize(
    "lines",
    [
        (CONV, "%y = Conv2d {x = %c, weight = @one, padding = [1, 1]}"),
        (CONV, "%y = Mul {a = %c, b = %c}"),
        (CONV, "%y = SumPool2d {x = %c, kernel = [2, 2], stride = [1, 1], padding = [1, 0]}"),
        (
            CONV,
            "%v = Rearrange {x = %c, shape = [1, 8, 4], sizes = [32], strides = [1]}",
            "%y = MaxPool2d {x = %v, kernel = [2, 2], stride = [1, 1]}",
        ),
        (
            CONV,
            "%v = Rearrange {x = %c, shape = [2, 4, 4], sizes = [2, 16], strides = [16, 1]}",
            "%t = Rearrange {x = %v, shape = [2, 4, 4], sizes = [2, 4, 4], strides = [16, 1, 4]}",
            "%y = MatMul {a = %v, b = %t}",
        ),
    ],
)
def test_what_needs_its_operand_with_the_bias_gets_an_offset(lines: tuple[str, ...]) -> None:
    after = move(graph(*lines))
    assert any(isinstance(n, s.Offset) for n in after.nodes)


def test_a_product_gets_the_offset_behind_the_layer_and_not_behind_its_views() -> None:
    after = move(
        graph(
            CONV,
            "%v = Rearrange {x = %c, shape = [2, 4, 4], sizes = [2, 16], strides = [16, 1]}",
            "%y = Mul {a = %v, b = %v}",
        )
    )
    (offset,) = (n for n in after.nodes if isinstance(n, s.Offset))
    assert offset.x == "c" and after.tensors[offset.offset].shape == (2, 1, 1)


def test_offsets_of_the_file_move_into_neurons_and_the_output() -> None:
    after = move(
        graph("%o = Offset {x = %x, offset = @b}", "%y = LIF {x = %o, " + LIF + "}", shape="[4]")
    )
    assert not any(isinstance(n, s.Offset) for n in after.nodes)
    np.testing.assert_array_equal(after.tensors["y.bias"], TENSORS["b"])


def test_a_sum_over_windows_multiplies_the_bias() -> None:
    after = move(
        graph(
            CONV,
            "%p = SumPool2d {x = %c, kernel = [2, 2], stride = [2, 2]}",
            "%y = LIF {x = %p, " + LIF + "}",
        )
    )
    assert not any(isinstance(n, s.Offset) for n in after.nodes)


def test_a_layer_that_no_bias_passes_is_named() -> None:
    with pytest.raises(NeurocompileError, match="NC2001 layer 'y'.*put a LIF between"):
        MoveBias()(graph(CONV, "%y = Or {x = %c}"))


def test_a_bias_by_position_passes_padded_convolutions_and_sums_over_windows() -> None:
    """``w * (x + b) = w * x + w * b``, with the border where both are 0."""
    after = move(
        graph(
            "%c = Conv2d {x = %x, weight = @k}",
            "%o = Offset {x = %c, offset = @map}",
            "%p = SumPool2d {x = %o, kernel = [3, 3], stride = [1, 1], padding = [1, 1]}",
            "%d = Conv2d {x = %p, weight = @k2, padding = [1, 1], stride = [2, 1]}",
            "%y = LIF {x = %d, " + LIF + "}",
        )
    )
    assert not any(isinstance(n, s.Offset) for n in after.nodes)
    assert after.tensors[after.node["y"].bias].shape == (2, 2, 4)


def test_a_bias_by_position_is_added_in_front_of_a_maximum_and_a_product() -> None:
    after = move(
        graph(
            "%c = Conv2d {x = %x, weight = @k}",
            "%o = Offset {x = %c, offset = @map}",
            "%p = MaxPool2d {x = %o, kernel = [2, 2], stride = [2, 2]}",
            "%m = Mul {a = %p, b = %p}",
            "%y = LIF {x = %m, " + LIF + "}",
        )
    )
    assert sum(isinstance(n, s.Offset) for n in after.nodes) == 1
