"""Reassociate: attention's products in the order with fewer gates, the result unchanged to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.reassociate import Reassociate

RNG = np.random.default_rng(0)


def attention(n: int, k: int, m: int, p: int, left_first: bool, real: bool = False) -> SpikingGraph:
    """(n, k) @ (k, m) @ (m, p) of spikes cut from one layer."""
    sizes = [n * k, k * m, m * p]
    total, offset = sum(sizes), 0
    text = [
        'spiking "g" {stage = "imported"}',
        f"%x = Input {{shape = [{total}]}}",
        "%l = LIF {x = %x, tau = 2.0, v_threshold = 0.5}",
    ]
    for name, (a, b), size in zip("abc", ((n, k), (k, m), (m, p)), sizes):
        source = "x" if real and name == "b" else "l"
        text.append(
            f"%{name} = Rearrange {{x = %{source}, shape = [{a}, {b}], sizes = [{size}], strides = [1], offset = {offset}}}"
        )
        offset += size
    if left_first:
        text += ["%i = MatMul {a = %a, b = %b}", "%y = MatMul {a = %i, b = %c}"]
    else:
        text += ["%i = MatMul {a = %b, b = %c}", "%y = MatMul {a = %a, b = %i}"]
    return SpikingGraph.parse("\n".join([*text, "%out = Output {x = %y}\n"]), {})


def gates(graph: SpikingGraph) -> int:
    from neurocompile.ir.analysis import shapes

    size = shapes(graph)
    return sum(
        int(np.prod(size[n.a])) * size[n.b][-1] for n in graph.nodes if isinstance(n, s.MatMul)
    )


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 6)] * 4, st.booleans())
def test_the_cheaper_of_both_orders_is_taken(
    n: int, k: int, m: int, p: int, left_first: bool
) -> None:
    before, other = attention(n, k, m, p, left_first), attention(n, k, m, p, not left_first)
    after = Reassociate()(before)
    assert gates(after) == min(gates(before), gates(other))
    x = RNG.normal(size=(3, *before.input.shape)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 3)["out"], evaluate(before, x, 3)["out"])


def test_equal_costs_keep_the_models_order() -> None:
    before = attention(3, 3, 3, 3, True)
    assert Reassociate()(before).text() == before.text()


@pytest.mark.parametrize("left_first", [True, False])
def test_products_with_a_real_factor_stay_as_they_are(left_first: bool) -> None:
    """Sums of reals depend on their order, and a real value should meet as few gates as its author
    chose.
    """
    before = attention(6, 2, 6, 2, left_first, real=True)
    assert Reassociate()(before).text() == before.text()
