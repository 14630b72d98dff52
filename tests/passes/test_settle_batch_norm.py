"""SettleBatchNorm: factors of heads go into the layer before, other normalizations become
convolutions of their own.
"""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.settle_batch_norm import SettleBatchNorm

RNG = np.random.default_rng(0)
TENSORS = {
    f"{k}{n}": RNG.uniform(0.5, 2, n).astype(np.float32)
    for k in ("scale", "shift", "mean", "var")
    for n in (2, 4, 6)
}
TENSORS |= {"zero": np.zeros(2, np.float32), "k": RNG.normal(size=(4, 4, 1, 1)).astype(np.float32)}
LIF = "tau = 2.0, v_threshold = 0.5"


def norm(name: str, x: str, n: int, axis: int, pure: bool = False) -> str:
    shift, mean = ("zero", "zero") if pure else (f"shift{n}", f"mean{n}")
    return (
        f"%{name} = BatchNorm {{x = %{x}, scale = @scale{n}, shift = @{shift}, mean = @{mean}, var = @var{n}, eps = 0.25, "
        f"axis = {axis}}}"
    )


def graph(*lines: str, shape: str = "[4, 2, 3]") -> SpikingGraph:
    text = [
        f'spiking "g" {{stage = "imported"}}\n%x = Input {{shape = {shape}}}',
        *lines,
        "%out = Output {x = %y}\n",
    ]
    return SpikingGraph.parse("\n".join(text), TENSORS)


def settle(before: SpikingGraph) -> SpikingGraph:
    after = SettleBatchNorm()(before)
    x = RNG.normal(size=(5, *before.input.shape)).astype(np.float32)
    np.testing.assert_allclose(
        evaluate(after, x, 3)["out"], evaluate(before, x, 3)["out"], rtol=1e-4, atol=1e-5
    )
    assert not any(isinstance(n, s.BatchNorm) for n in after.nodes)
    return after


ATTENTION = (
    "%c = Conv2d {x = %x, weight = @k}",
    "%a = Rearrange {x = %c, shape = [2, 6, 2], sizes = [2, 6, 2], strides = [12, 1, 6]}",
    "%l = LIF {x = %x, " + LIF + "}",
    "%b = Rearrange {x = %l, shape = [2, 2, 6], sizes = [24], strides = [1]}",
)


def test_factors_of_heads_behind_a_product_go_into_the_convolution_of_its_real_factor() -> None:
    after = settle(
        graph(*ATTENTION, "%p = MatMul {a = %a, b = %b}", norm("y", "p", 2, 0, pure=True))
    )
    assert [type(n).__name__ for n in after.nodes].count("Conv2d") == 1


def test_the_real_factor_may_be_the_second() -> None:
    lines = (
        *ATTENTION[:1],
        *ATTENTION[2:],
        "%v = Rearrange {x = %c, shape = [2, 2, 6], sizes = [24], strides = [1]}",
        "%w = Rearrange {x = %b, shape = [2, 6, 2], sizes = [2, 6, 2], strides = [12, 1, 6]}",
    )
    after = settle(graph(*lines, "%p = MatMul {a = %w, b = %v}", norm("y", "p", 2, 0, pure=True)))
    assert [type(n).__name__ for n in after.nodes].count("Conv2d") == 1


def test_a_convolution_that_others_read_too_is_not_scaled() -> None:
    lines = (
        *ATTENTION,
        "%p = MatMul {a = %a, b = %b}",
        norm("q", "p", 2, 0, pure=True),
        "%s = Sum {x = %q, axes = [1, 2]}",
        "%t = Sum {x = %c, axes = [1, 2]}",
        "%u = Rearrange {x = %t, shape = [2], sizes = [2], strides = [2]}",
        "%y = Add {a = %s, b = %u}",
    )
    settle(graph(*lines))


@pytest.mark.parametrize(
    "lines",
    [
        ("%l = LIF {x = %x, " + LIF + "}", norm("y", "l", 4, 0)),
        ("%l = Add {a = %x, b = %x}", norm("y", "l", 4, 0)),
        ("%l = MaxPool2d {x = %x, kernel = [2, 2], stride = [1, 1]}", norm("y", "l", 4, 0)),
        (norm("y", "x", 4, 0),),
        (
            "%t = Rearrange {x = %x, shape = [6, 4], sizes = [6, 4], strides = [1, 6]}",
            norm("y", "t", 4, 1),
        ),
        (
            "%t = Rearrange {x = %x, shape = [4, 6], sizes = [24], strides = [1]}",
            norm("y", "t", 6, 1),
        ),
        (norm("n", "x", 4, 0), norm("y", "n", 4, 0)),
    ],
)
def test_a_normalization_of_what_no_layer_makes_is_a_convolution(lines: tuple[str, ...]) -> None:
    after = settle(graph(*lines))
    convolutions = [n for n in after.nodes if isinstance(n, s.Conv2d)]
    assert convolutions and all(n.groups == after.tensors[n.weight].shape[0] for n in convolutions)
