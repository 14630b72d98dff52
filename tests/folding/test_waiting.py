"""What waits long: real values as bits, residuals of many layers as digits, pauses and splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from folded import MapMaker, assert_law
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.folding.policy import Folder, fold_graph
from neurocompile.folding.schedules import Fold
from neurocompile.folding.waiting import _width
from neurocompile.ir import spiking as s

FEW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def finished(m: MapMaker, x: str) -> s.SpikingGraph:
    total = m.add(s.Sum, x=x, axes=(1, 2))
    m.add(s.Output, x=m.add(s.TimeMean, x=m.linear(total)), unit=0.5)
    return m.graph()


@settings(max_examples=2, **FEW)
@given(st.data(), st.sampled_from((0, -40)))
def test_real_values_wait_as_bits(data, low):
    """A membrane shortcut that waits for a mask over all positions, of one sign and of both."""
    m = MapMaker(data.draw, (1, 8, 8))
    x = m.lif(m.spatial(m.x))
    weight = m.rng.integers(low, 40, (2, m.shape(x)[0], 1, 1)) // 2 * 2
    real = m.add(s.Conv2d, x=x, weight=m.tensor(weight))
    more = m.add(s.Conv2d, x=x, weight=m.tensor(np.abs(weight)))
    real = m.add(s.Add, a=real, b=more)  # one convolution alone would be computed twice
    masked = m.channel_mask(m.lif(real))
    graph = finished(m, m.lif(m.add(s.Add, a=real, b=m.pointwise(masked))))
    circuit = fold_graph(graph, 3, Fold.parse("1x8"))
    names = [p.name for p in circuit.populations]
    assert any(n.endswith(".bit0") for n in names)
    assert any(n.endswith(".sign") for n in names) == (weight.min() < 0)
    assert_law(graph, circuit)


@settings(max_examples=2, **FEW)
@given(st.data())
def test_a_residual_of_many_layers_waits_as_digits(data):
    m = MapMaker(data.draw, (1, 4, 4))
    x = m.lif(m.pointwise(m.x))
    for _ in range(3):
        x = m.add(s.Add, a=x, b=m.lif(m.pointwise(m.channel_mask(x))))
        x = m.add(s.Add, a=x, b=m.lif(m.pointwise(x)))
    graph = finished(m, x)
    folder = Folder(graph, 2)
    for saved in (1, 2):
        made = folder._attempt(Fold.parse("1x4+1"), {}, saved).graph
        assert any(".digit" in p.name for p in made.populations)
        assert_law(graph, made)


@settings(max_examples=2, **FEW)
@given(st.data(), st.sampled_from((0, -1)))
def test_values_wider_than_a_neuron_wait_in_two_parts(data, low):
    m = MapMaker(data.draw, (1, 8, 8), low=low * 1200, high=1200)
    weight = m.rng.integers(64, 128, (1, 1, 1, 1)) * 2 - 2
    wide = m.add(s.Conv2d, x=m.x, weight=m.tensor(weight))
    masked = m.channel_mask(m.lif(m.add(s.Shift, x=wide, bits=4)))
    both = m.add(s.Add, a=wide, b=m.pointwise(masked))
    graph = finished(m, m.lif(m.add(s.Shift, x=both, bits=4)))
    circuit = fold_graph(graph, 3, Fold.parse("1x2"))
    assert any(p.name.endswith(".lower") for p in circuit.populations)
    assert_law(graph, circuit)


@pytest.mark.parametrize(
    "bounds, bits", [((0, 1), 1), ((0, 255), 8), ((0, 256), 9), ((-256, 255), 8), ((-257, 3), 9)]
)
def test_bits_hold_their_bounds(bounds, bits):
    assert _width(bounds) == bits


@settings(max_examples=1, **FEW)
@given(st.data())
def test_longer_pauses_are_offered_only_where_they_save_neurons(data):
    m = MapMaker(data.draw, (1, 8, 8))
    graph = finished(m, m.lif(m.pointwise(m.token_mask(m.lif(m.spatial(m.x))))))
    folder, fold = Folder(graph, 2), Fold.parse("1x8")
    circuit = folder.fold(fold)
    size = sum(p.size for p in circuit.populations)
    for longer in folder.longer_pauses(fold):
        made = folder.fold(longer)
        assert made.windows > circuit.windows and sum(p.size for p in made.populations) < size
    assert not folder.longer_pauses(replace(fold, pause=2))
