"""Laws of small functions of the theory, each against its definition in other words."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.theory.bounds.margin import epsilon_for_accuracy
from neurocompile.theory.bounds.ramp import ramp_values
from neurocompile.theory.bounds.shares import layer_size, shares


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_shares_of_a_budget_do_not_depend_on_the_logits_unit(factor: float) -> None:
    """Parts of the whole go by D^2 n d, whatever D is measured in, and add up to it."""
    views = [
        SimpleNamespace(layer=name, shape=shape)
        for name, shape in (("a", (4, 2, 3)), ("b", (6, 5)), ("c", ()))
    ]
    circuit = SimpleNamespace(views=views)
    depends = {"a": 2.0 * factor, "b": 0.5 * factor, "c": 0.0}
    found = shares(circuit, 120.0, depends, {"a": 7.0})
    weights = [depends[v.layer] ** 2 * np.prod(layer_size(v.shape)) for v in views]
    assert [f.layer for f in found] == ["a", "b", "c"]
    parts = np.array(weights) / sum(weights)
    assert [f.share for f in found] == pytest.approx(parts)
    assert [f.spikes for f in found] == pytest.approx(120 * parts)
    assert [f.expected for f in found] == [7.0, 0.0, 0.0]
    with pytest.raises(NeurocompileError, match="NC8003"):
        shares(circuit, 120.0, dict.fromkeys("abc", 0.0), {})


def test_an_accuracy_that_a_model_lacks_is_told_by_the_one_that_it_has() -> None:
    logits = np.array([[3.0, 0], [0.25, 0], [0, 1], [1, 0]])
    with pytest.raises(NeurocompileError, match=r"right on 75\.00%.*accuracy 100\.00%"):
        epsilon_for_accuracy(logits, np.array([0, 0, 1, 1]), 1.0)
    assert epsilon_for_accuracy(logits, np.array([0, 0, 1, 1]), 0.75) == 0.25 / np.sqrt(2)


@pytest.mark.parametrize("exponent", [0, 3])
def test_a_ramps_bias_is_in_units_of_the_neurons_input(exponent: int) -> None:
    """Of an integer neuron mantissa 2^e / 64: as that much more input; of a float one itself."""
    bias = np.array([64, -128, 512])
    x = np.linspace(-300, 900, 60).reshape(20, 1, 3)
    graph = SimpleNamespace(tensors={"b": bias})
    plain = s.IntegerLIF(name="y", x=Ref("x"), vth=200, dv=1024)
    biased = s.IntegerLIF(
        name="y", x=Ref("x"), vth=200, dv=1024, bias=TensorRef("b"), bias_exp=exponent
    )
    moved = ramp_values(graph, plain, x + bias * 2**exponent / 64)
    np.testing.assert_allclose(ramp_values(graph, biased, x), moved)
    assert np.ptp(moved) > 0
    one = s.LIF(name="y", x=Ref("x"), tau=2.0, v_threshold=100.0, bias=TensorRef("b"))
    two = s.LIF(name="y", x=Ref("x"), tau=2.0, v_threshold=100.0)
    np.testing.assert_allclose(ramp_values(graph, one, x), ramp_values(graph, two, x + bias))
