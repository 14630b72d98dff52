"""Operators of neurons and circuits at a fold: exact, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from folded import MapMaker, assert_law
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.folding.policy import fold_graph
from neurocompile.folding.schedules import Fold
from neurocompile.ir import spiking as s

FEW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def headed(m: MapMaker, x: str) -> s.SpikingGraph:
    total = m.add(s.Sum, x=x, axes=(1, 2))
    m.add(s.Output, x=m.add(s.TimeMean, x=m.linear(total)), unit=0.5)
    return m.graph()


@settings(max_examples=2, **FEW)
@given(st.data(), st.sampled_from((1, 1024, 3000)), st.integers(1, 4))
def test_synaptic_currents_fold_exactly(data, current, steps):
    """The current lives within a window, as the membrane does; biases are closed beside it."""
    m = MapMaker(data.draw, (1, 4, 4))
    x = m.lif(m.spatial(m.x))
    bias = m.tensor(np.full((m.shape(x)[0], 1, 1), 200))
    y = m.add(s.IntegerLIF, x=m.pointwise(x), vth=9, dv=512, bias=bias, current=current)
    graph = headed(m, m.lif(m.pointwise(y)))
    assert_law(graph, fold_graph(graph, steps, Fold.parse("1x4")))


@settings(max_examples=2, **FEW)
@given(st.data(), st.sampled_from((2, 4)))
def test_several_heads_fold_exactly(data, heads):
    m = MapMaker(data.draw, (1, 4, 4))
    m.choose = lambda *options: heads if options[:1] == (1,) and heads in options else options[0]
    x = m.lif(m.add(s.Conv2d, x=m.x, weight=m.tensor(m.rng.integers(-9, 40, (4, 1, 1, 1)) * 2)))
    q, k, v = (m.lif(m.pointwise(x)) for _ in range(3))
    graph = headed(m, m.lif(m.attention(q, k, v)))
    for fold in ("1x4", "1x2s"):
        assert_law(graph, fold_graph(graph, 2, Fold.parse(fold)))


def soft_reset(m: MapMaker, x: str) -> str:
    return m.add(s.SoftIntegerLIF, "refused", x=x, threshold=5, reset=5, decay=2048)


def integrator(m: MapMaker, x: str) -> str:
    return m.lif(m.add(s.IntegerIntegrator, "refused", x=x, weight=64, largest=4000))


def a_slice(m: MapMaker, x: str) -> str:
    channels, height, width = m.shape(x)
    sizes, strides = (channels, height // 2, width), (height * width, width, 1)
    return m.lif(m.add(s.Rearrange, "refused", x=x, shape=sizes, sizes=sizes, strides=strides))


def sum_over_time(m: MapMaker, x: str) -> str:
    """What a softmax of mean scores reads."""
    return m.lif(m.add(s.TimeSum, "refused", x=x, steps=2))


def bias_by_position(m: MapMaker, x: str) -> str:
    bias = m.tensor(np.arange(np.prod(m.shape(x))).reshape(m.shape(x)))
    return m.add(s.IntegerLIF, "refused", x=x, vth=3, dv=0, bias=bias)


@pytest.mark.parametrize(
    "operator", [soft_reset, integrator, a_slice, sum_over_time, bias_by_position]
)
def test_what_does_not_fold_is_refused_by_name(operator):
    class Fixed:
        def __call__(self, strategy):  # no choice is left to hypothesis here
            return 7 if isinstance(strategy, type(st.integers(0, 9))) else False

    m = MapMaker(Fixed(), (1, 4, 4))
    weight = m.tensor(m.rng.integers(-20, 20, (2, 1, 1, 1)) * 2)
    x = m.add(s.IntegerLIF, x=m.add(s.Conv2d, x=m.x, weight=weight), vth=5, dv=0)
    y = operator(m, m.add(s.Conv2d, x=x, weight=m.tensor(np.full((2, 2, 1, 1), 2))))
    total = m.add(s.Sum, x=y, axes=(1, 2))
    linear = m.add(s.Linear, x=total, weight=m.tensor(np.full((2, 2), 2)))
    m.add(s.Output, x=m.add(s.TimeMean, x=linear), unit=0.5)
    with pytest.raises(NeurocompileError, match="NC3104.*'refused'"):
        fold_graph(m.graph(), 2, Fold.parse("1x4"))
