"""Laws of small functions of the mapping, each against its definition in other words."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neurocompile.mapping.advice import budget_needs_more_cores
from neurocompile.mapping.grants import granted, parts_used, times
from neurocompile.mapping.packing import BUDGET_PARTS, hypergraph
from neurocompile.mapping.placement import _borders
from neurocompile.mapping.refine import Hypergraph
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import whole
from neurocompile.mapping.tile_graph import make_tile_graph
from neurocompile.targets import load_target


def test_places_for_groups_are_counted_block_by_block() -> None:
    """Vertices of one group take one place of a block together: every assignment of five."""
    group, takes = np.array([0, 1, 2, 0, 2], np.int32), np.array([[1], [2], [1], [3], [1]])
    none = np.zeros(0, np.int32)
    graph = Hypergraph(np.zeros(1, np.int64), none, np.zeros(0), takes, np.array([5]), group, 2)
    for block in map(np.array, product(range(2), repeat=5)):
        held = [[v for v in range(5) if block[v] == b] for b in range(2)]
        right = all(len({int(group[v]) for v in h}) <= 2 for h in held) and all(
            sum(int(takes[v, 0]) for v in h) <= 5 for h in held
        )
        assert graph.fits(block) == right, block


@pytest.mark.parametrize("name", ["loihi2", "loihi1"])
def test_a_place_and_the_borders_are_as_far_apart_as_steps_lead_there(name: str) -> None:
    target = load_target(name)
    columns, rows = target.mesh.columns.value, target.mesh.rows.value
    local = np.array(list(product(range(columns), range(rows))))
    west, east, north, south = _borders(target, local)
    assert (west + east == columns - 1).all() and (north + south == rows - 1).all()
    assert (west == local[:, 0]).all() and (north == local[:, 1]).all()
    assert min(each.min() for each in (west, east, north, south)) == 0


@pytest.mark.parametrize(("by_layer", "most"), [(False, 37.0), (True, 37.0), (False, 0.4)])
def test_parts_of_a_budget_never_add_up_to_less_than_is_sent(
    transformer, by_layer: bool, most: float
) -> None:
    circuit, target = transformer(), load_target("loihi2")
    rates = {p.name: 0.013 + 0.0107 * (i % 5) for i, p in enumerate(circuit.populations)}
    counter = CostCounter(circuit, target)
    layers = sorted({p.layer for p in counter.on_chip})
    grants = {n: most + i for i, n in enumerate(layers[1:])} if by_layer else most
    tiles = [whole(p) for p in counter.on_chip]
    graph = make_tile_graph(counter, tiles, rates)
    found = hypergraph(graph, [counter.usage(tile) for tile in tiles], grants)
    exact = parts_used(circuit, [[tile] for tile in tiles], rates, grants)
    assert found.limit[-1] == BUDGET_PARTS
    parts = found.takes[:, -1]
    assert (parts >= exact * BUDGET_PARTS * (1 - 1e-12)).all() and (parts % 1 == 0).all()
    assert (parts <= exact * BUDGET_PARTS + 1).all() and parts.max() > 0
    free = [p.layer == layers[0] for p in counter.on_chip]
    assert not by_layer or (parts[np.array(free)] == 0).all()


def test_grants_of_layers() -> None:
    assert granted(None, "a") == granted({"b": 1.0}, "a") == np.inf
    assert granted(3.0, "a") == granted({"a": 3.0}, "a") == 3
    assert times({"a": 3.0, "b": 1.0}, 1.5) == {"a": 4.5, "b": 1.5} and times(2.0, 3) == 6


def test_a_budget_that_needs_more_cores_has_ways_out_that_are_some(transformer) -> None:
    circuit, target = transformer(), load_target("loihi2")
    counter, rates = CostCounter(circuit, target), {p.name: 0.1 for p in circuit.populations}
    text = budget_needs_more_cores(counter, 10, 6, rates, 20.0, 3.0)
    assert "grants a core 20 messages a step" in text and "needs 10 cores" in text
    assert "llow a core 3 times as many messages" in text
    assert "raise `max_cores` (to 10)" in text and "leave out `budget`" in text
    layer = counter.on_chip[-1].layer
    sent = sum(0.1 * p.size for p in counter.on_chip if p.layer == layer)
    text = budget_needs_more_cores(counter, 1000, 120, rates, {layer: 0.25}, None)
    assert f"0.25 of layer '{layer}' (which sends {sent:,.3g})" in text
    assert "max_cores" not in text and "leave out `budget`" in text
    fewer = budget_needs_more_cores(counter, 10**9, 120, rates, 20.0, None)
    assert "train for a lower rate" in fewer


@pytest.mark.parametrize("resource", ["neurons", "axon_in", "synaptic_memory_words"])
def test_the_largest_layer_is_that_of_the_largest_sum(transformer, resource: str) -> None:
    circuit = transformer()
    counter = CostCounter(circuit, load_target("loihi2"))
    sums: dict[str, int] = {}
    for p in counter.on_chip:
        used = getattr(counter.usage(whole(p)), resource)
        sums[p.layer] = sums.get(p.layer, 0) + used
    layer, most = counter.largest_layer(resource)
    assert most == max(sums.values()) == sums[layer]
    assert min(sums.values()) < most  # so that the least is another
