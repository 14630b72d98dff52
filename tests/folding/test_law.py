"""The law of folding, on random networks: the same integers everywhere, streamed or depth-free."""

from __future__ import annotations

from dataclasses import replace

import pytest
from folded import MapMaker, assert_law, folds, maps
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from spiking_cases import networks, on_frames

from neurocompile.errors import NeurocompileError
from neurocompile.folding.policy import fold_graph
from neurocompile.folding.schedules import Fold
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.targets.fields import LOIHI2

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def folded(graph, steps: int, fold: str, **options):  # type: ignore[no-untyped-def]
    """The circuit; examples that folding refuses are passed over."""
    try:
        return fold_graph(graph, steps, Fold.parse(fold), **options)
    except NeurocompileError as error:
        assert error.code == "NC3104", error
        assume(False)


STEPS = (1, 2, 3, 4, 5, 7, 8)


def law(data: st.DataObject) -> None:
    """One network, its T and its fold."""
    graph = data.draw(maps())
    fold = data.draw(folds(graph.input.shape))
    assert_law(graph, folded(graph, data.draw(st.sampled_from(STEPS)), fold))


@settings(deadline=None, max_examples=6, suppress_health_check=SLOW)
@given(st.data())
def test_folded_networks_equal_their_definition(data):
    law(data)


@pytest.mark.nightly
@pytest.mark.parametrize("count", [400])
def test_many_folded_networks_equal_their_definition(count):
    settings(deadline=None, max_examples=count, suppress_health_check=SLOW)(given(st.data())(law))()


@settings(deadline=None, max_examples=2, suppress_health_check=SLOW)
@given(st.data())
def test_frames_of_events_fold(data):
    steps = data.draw(st.sampled_from(STEPS))
    graph = on_frames(data.draw(maps(layers=2)), steps)
    assert_law(graph, folded(graph, steps, data.draw(folds(graph.input.shape))))


@settings(deadline=None, max_examples=2, suppress_health_check=SLOW)
@given(st.data())
def test_graded_delays_fold(data):
    graph = data.draw(maps())
    fold = data.draw(folds(graph.input.shape))
    assert_law(
        graph, folded(graph, 4, fold, fields=replace(LOIHI2, graded_delay=LOIHI2.max_spike_delay))
    )


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(st.data())
def test_folds_are_made_for_a_narrower_chip(data):
    """Constants over synapses of 5 bits and exponents to 4, waits of 5 steps: the same integers."""
    graph = data.draw(maps())
    fold = data.draw(folds(graph.input.shape))
    narrow = replace(LOIHI2, weight_bits=5, weight_exponent=4, max_spike_delay=5)
    circuit = folded(graph, 2, fold, fields=narrow)
    assert max(q.delay for q in circuit.projections) <= 5
    assert max(q.weight_exp for q in circuit.projections if isinstance(q, c.Strided)) <= 4
    assert_law(graph, circuit)


@settings(deadline=None, max_examples=4, suppress_health_check=SLOW)
@given(networks(), st.integers(1, 3))
def test_any_network_folds_exactly_or_is_refused_by_name(graph, steps):
    _, height, width = graph.input.shape
    try:
        circuit = fold_graph(graph, steps, Fold.parse(f"1x{width}"))
    except NeurocompileError as error:
        assert error.code == "NC3104"
        assert any(f"'{node.name}'" in str(error) for node in graph.nodes) or "divide" in str(error)
        return
    assert_law(graph, circuit)
    assert height == circuit.inputs[0].sample_shape[0]


@pytest.mark.parametrize("text", ["0x4", "4", "1x4x4", "axb", "auto", "1x-4", ""])
def test_what_is_no_fold_is_refused(text):
    with pytest.raises(NeurocompileError, match="NC1015"):
        Fold.parse(text)


@settings(deadline=None, max_examples=3, suppress_health_check=SLOW)
@given(st.data())
def test_hidden_linear_layers_fold(data):
    """Of a sum over positions, of neurons behind it, and of both."""
    m = MapMaker(data.draw, (1, 4, 4))
    x = m.add(s.Sum, x=m.lif(m.spatial(m.x)), axes=(1, 2))
    for _ in range(m.integer(1, 2)):
        x = m.lif_of(m.linear(x))
    m.add(s.Output, x=m.add(s.TimeMean, x=m.linear(x)), unit=0.5)
    assert_law(m.graph(), folded(m.graph(), data.draw(st.sampled_from(STEPS)), "1x2"))


@settings(deadline=None, max_examples=1, suppress_health_check=SLOW)
@given(st.data())
def test_a_linear_layer_with_weights_for_each_position_is_refused(data):
    m = MapMaker(data.draw, (1, 4, 4))
    hidden = m.lif_of(m.linear(m.flat(m.lif(m.spatial(m.x)))))
    m.add(s.Output, x=m.add(s.TimeMean, x=m.linear(hidden)))
    with pytest.raises(NeurocompileError, match="NC3104 .*each position"):
        fold_graph(m.graph(), 2, Fold.parse("1x4"))
