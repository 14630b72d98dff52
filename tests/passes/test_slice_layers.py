"""SliceLayers: pieces of a convolution's channels become convolutions; what is no such piece stays."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.slice_layers import SliceLayers

RNG = np.random.default_rng(0)
TENSORS = {
    "k": RNG.integers(-3, 4, (8, 2, 1, 1)).astype(np.float32),
    "b": RNG.integers(-3, 4, 8).astype(np.float32),
}


def graph(*lines: str) -> SpikingGraph:
    head = 'spiking "g" {stage = "imported"}\n%x = Input {shape = [2, 2, 3]}\n%c = Conv2d {x = %x, weight = @k, bias = @b}'
    return SpikingGraph.parse("\n".join([head, *lines, "%out = Output {x = %y}\n"]), TENSORS)


def cut(before: SpikingGraph) -> SpikingGraph:
    after = SliceLayers()(before)
    x = RNG.integers(-4, 5, (3, 2, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 1)["out"], evaluate(before, x, 1)["out"])
    return after


def test_the_halves_of_every_head_become_two_convolutions() -> None:
    """SpikingResformer: y.unflatten(channels, (heads, -1)).chunk(2), then products of both halves."""
    after = cut(
        graph(
            "%v = Rearrange {x = %c, shape = [2, 4, 6], sizes = [48], strides = [1]}",
            "%p = Rearrange {x = %v, shape = [2, 2, 6], sizes = [2, 2, 6], strides = [24, 6, 1]}",
            "%q = Rearrange {x = %v, shape = [2, 2, 6], sizes = [2, 2, 6], strides = [24, 6, 1], offset = 12}",
            "%y = Mul {a = %p, b = %q}",
        )
    )
    weights = [after.tensors[n.weight] for n in after.nodes if isinstance(n, s.Conv2d)]
    np.testing.assert_array_equal(weights[0], TENSORS["k"][[0, 1, 4, 5]])
    np.testing.assert_array_equal(weights[1], TENSORS["k"][[2, 3, 6, 7]])
    assert all(n.offset == 0 for n in after.nodes if isinstance(n, s.Rearrange))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 7), st.integers(1, 8), st.booleans())
def test_any_run_of_channels_has_a_layer_of_its_own_whatever_its_axis_order(
    start: int, length: int, turned: bool
) -> None:
    length = min(length, 8 - start)
    sizes, strides = ([3, 2, length], [1, 3, 6]) if turned else ([length, 2, 3], [6, 3, 1])
    after = cut(
        graph(
            f"%y = Rearrange {{x = %c, shape = {sizes}, sizes = {sizes}, strides = {strides}, offset = {6 * start}}}"
        )
    )
    (conv,) = (n for n in after.nodes if isinstance(n, s.Conv2d))
    assert len(after.tensors[conv.weight]) == length


def test_a_slice_of_positions_stays() -> None:
    before = graph(
        "%y = Rearrange {x = %c, shape = [8, 1, 3], sizes = [8, 3], strides = [6, 1], offset = 3}"
    )
    assert cut(before).text() == before.text()
