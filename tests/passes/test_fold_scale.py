"""FoldScale: constant factors end in weights, gains and the output's unit."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.fold_scale import FoldScale

RNG = np.random.default_rng(0)
TENSORS = {
    "w": (RNG.integers(-8, 8, (4, 4)) / 4).astype(np.float32),
    "b": np.array([0.5, 0.25, -1, 2], np.float32),
    "k": (RNG.integers(-8, 8, (1, 1, 2, 2)) / 4).astype(np.float32),
}
LIF = "tau = 2.0, v_threshold = 1.0, decay_input = false"


def graph(*lines: str, shape: str = "[4]") -> SpikingGraph:
    text = [
        f'spiking "g" {{stage = "imported"}}\n%x = Input {{shape = {shape}}}',
        *lines,
        "%out = Output {x = %y}\n",
    ]
    return SpikingGraph.parse("\n".join(text), TENSORS)


def fold(before: SpikingGraph) -> SpikingGraph:
    """The folded graph, after a check that outputs are equal: all numbers here are dyadic."""
    after = FoldScale()(before)
    x = (RNG.integers(-4, 12, (20, *before.input.shape)) / 4).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 4)["out"], evaluate(before, x, 4)["out"])
    assert not any(type(n).__name__ == "Scale" for n in after.nodes)
    return after


def test_weights_absorb_a_factor_before_a_layer_and_the_output_one_behind() -> None:
    after = fold(
        graph(
            "%s = Scale {x = %x, factor = 0.5}",
            "%h = Linear {x = %s, weight = @w, bias = @b}",
            "%y = Scale {x = %h, factor = 4.0}",
        )
    )
    assert (
        after.text()
        == """spiking "g" {stage = "imported"}
%x = Input {shape = [4]}
%h = Linear {x = %x, weight = @w.scaled, bias = @b}
%out = Output {x = %h, unit = 4.0}
@b : float32[4]
@w.scaled : float64[4, 4]
"""
    )


def test_a_lif_absorbs_the_product_of_all_factors_before_it() -> None:
    after = fold(
        graph(
            "%q = LIF {x = %x, " + LIF + "}",
            "%s = Scale {x = %q, factor = 0.5}",
            "%p = Mul {a = %s, b = %s}",
            "%u = Sum {x = %p, axes = [0], keepdims = true}",
            "%v = Scale {x = %u, factor = 0.25}",
            "%r = Rearrange {x = %v, shape = [1, 1], sizes = [1], strides = [1]}",
            "%y = LIF {x = %r, " + LIF + ", gain = 8.0}",
        )
    )
    assert (
        "%y = LIF {x = %r, tau = 2.0, v_threshold = 1.0, decay_input = false, gain = 0.5}"
        in after.text()
    )


def test_products_multiply_factors_and_sums_of_equal_factors_keep_them() -> None:
    after = fold(
        graph(
            "%s = Scale {x = %x, factor = -2.0}",
            "%a = Add {a = %s, b = %s}",
            "%m = MatMul {a = %a, b = %s}",
            "%y = TimeMean {x = %m}",
            shape="[2, 2]",
        )
    )
    assert "%out = Output {x = %y, unit = 4.0}" in after.text()


def test_a_convolution_and_a_pool_keep_a_positive_factor() -> None:
    after = fold(
        graph(
            "%s = Scale {x = %x, factor = 2.0}",
            "%p = MaxPool2d {x = %s, kernel = [2, 2], stride = [1, 1]}",
            "%y = Conv2d {x = %p, weight = @k}",
            shape="[1, 4, 4]",
        )
    )
    np.testing.assert_array_equal(after.tensors["k.scaled"], 2.0 * TENSORS["k"])


def test_a_bias_of_the_output_keeps_its_meaning() -> None:
    before = graph("%y = Scale {x = %x, factor = 4.0}")
    biased = SpikingGraph.parse(before.text().replace("%y}", "%y, unit = 2.0, bias = @b}"), TENSORS)
    assert "%out = Output {x = %x, unit = 8.0, bias = @b.scaled}" in fold(biased).text()


@pytest.mark.parametrize(
    "lines",
    [
        ("%s = Scale {x = %x, factor = 2.0}", "%y = Add {a = %s, b = %x}"),
        ("%s = Scale {x = %x, factor = 0.0}", "%y = Add {a = %s, b = %x}"),
        (
            "%s = Scale {x = %x, factor = -2.0}",
            "%y = MaxPool2d {x = %s, kernel = [2, 2], stride = [1, 1]}",
        ),
        ("%s = Scale {x = %x, factor = -1.0}", "%y = LIF {x = %s, " + LIF + "}"),
    ],
)
def test_a_factor_that_nothing_absorbs_becomes_a_convolution(lines: tuple[str, ...]) -> None:
    after = fold(graph(*lines, shape="[1, 4, 4]"))
    assert sum(type(n).__name__ == "Conv2d" for n in after.nodes) == 1


def test_a_sum_gives_a_factor_to_the_weights_of_a_layer_that_nothing_else_reads() -> None:
    after = fold(
        graph(
            "%h = Linear {x = %x, weight = @w, bias = @b}",
            "%s = Scale {x = %h, factor = 0.5}",
            "%t = Scale {x = %x, factor = 2.0}",
            "%y = Add {a = %t, b = %s}",
        )
    )
    assert "Conv2d" not in after.text()
    np.testing.assert_array_equal(after.tensors["w.scaled"], 0.25 * TENSORS["w"])
    np.testing.assert_array_equal(after.tensors["b.scaled"], 0.25 * TENSORS["b"])


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            ("%s = Scale {x = %x, factor = 0.0}", "%y = LIF {x = %s, " + LIF + "}"),
            "'y' reads a value scaled by 0",
        ),
        (("%y = Scale {x = %x, factor = 0.0}",), "'out' reads a value scaled by 0"),
    ],
)
def test_factors_without_a_place_are_refused(lines: tuple[str, ...], why: str) -> None:
    with pytest.raises(NeurocompileError, match=f"NC2001 .*{why}"):
        FoldScale()(graph(*lines, shape="[1, 4, 4]"))
