"""Laws of packing and refinement on random hypergraphs: capacities hold, nothing gets worse, the
same seed gives the same result.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.mapping import Mapping, check_mapping, map_circuit
from neurocompile.mapping.grants import parts_used, times
from neurocompile.mapping.output_lists import OutputLists
from neurocompile.mapping.packing import Packed, in_order, pack, press
from neurocompile.mapping.placement import Matrix, anneal_places, symmetric
from neurocompile.mapping.refine import Hypergraph, km1, refine
from neurocompile.mapping.refine_turns import refine_in_turn
from neurocompile.mapping.relaxed import refine_relaxed
from neurocompile.mapping.seeds import repair
from neurocompile.mapping.squeeze import squeeze, squeeze_in_turn
from neurocompile.targets import load_target


@st.composite
def hypergraphs(draw) -> Hypergraph:
    """Up to 40 vertices that take of two resources, in up to 4 groups."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    vertices, nets = draw(st.integers(2, 40)), draw(st.integers(1, 60))
    held = [
        np.sort(rng.choice(vertices, size=rng.integers(1, min(6, vertices) + 1), replace=False))
        for _ in range(nets)
    ]
    return Hypergraph(
        np.concatenate([[0], np.cumsum([len(h) for h in held])]),
        np.concatenate(held).astype(np.int32),
        rng.random(nets) * 3,
        rng.integers(0, 10, (vertices, 2)),
        np.array([20, 15]),
        rng.integers(0, 4, vertices).astype(np.int32),
        3,
    )


@st.composite
def listed(draw) -> Hypergraph:
    """The same, with output lists that count in the second resource."""
    graph = draw(hypergraphs())
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    lists = int(rng.integers(1, 40))
    pins = [
        np.sort(
            rng.choice(
                graph.vertices, size=rng.integers(0, min(5, graph.vertices) + 1), replace=False
            )
        )
        for _ in range(lists)
    ]
    held = OutputLists(
        rng.integers(0, graph.vertices, lists),
        rng.integers(1, 3, lists),
        rng.integers(0, 2, lists),
        np.concatenate([[0], np.cumsum([len(p) for p in pins])]),
        np.concatenate(pins).astype(np.int64),
        int(rng.integers(1, 3)),
        np.array([1]),
    )
    limit = np.array([20, 15 + int(held.bound(graph.vertices).max())])
    return replace(graph, lists=held, limit=limit)


def held_entries(graph: Hypergraph, block: np.ndarray) -> np.ndarray:
    """Entries of each vertex, by definition."""
    lists, found = graph.lists, np.zeros(graph.vertices, dtype=np.int64)
    for e, owner in enumerate(lists.owner.tolist()):
        pins = lists.pins[lists.offsets[e] : lists.offsets[e + 1]]
        fan = len(set(block[pins].tolist())) + int(lists.extra[e])
        found[owner] += fan * int(lists.size[e]) if fan >= lists.least else 0
    return found


def holds(graph: Hypergraph, block: np.ndarray) -> bool:
    """Whether every block keeps every capacity."""
    used = np.zeros((int(block.max()) + 1, 2), dtype=np.int64)
    np.add.at(used, block, graph.takes)
    np.add.at(used[:, 1], block, held_entries(graph, block))
    groups = [len(np.unique(graph.group[block == b])) for b in range(len(used))]
    return bool((used <= graph.limit).all()) and max(groups) <= graph.groups


@given(listed(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_fewer_cores_keep_every_capacity_and_what_lists_hold_is_exact(
    graph: Hypergraph, seed: int
) -> None:
    start = pack(graph, np.arange(graph.vertices))
    cores = int(start.max()) + 1
    assert (graph.lists.entries(start) == held_entries(graph, start)).all()
    assert graph.fits(start) and holds(graph, start)
    for found in (
        squeeze(graph, start, cores, 1, seed),
        squeeze_in_turn(graph, start, cores, 1, together=3, seed=seed),
    ):
        assert holds(graph, found) and len(np.unique(found)) <= cores
    pressed = press(graph, Packed(start, cores, "packed", km1(graph, start)), 1, seed)
    assert holds(graph, pressed.core_of) and pressed.cores <= cores
    assert pressed.cores == len(np.unique(pressed.core_of))
    anywhere = np.arange(graph.vertices) % cores
    relaxed = refine_relaxed(
        graph, anywhere, cores, steps=2000, hot=1.0, cold=0.05, light=1.0, heavy=100.0, seed=seed
    )
    assert relaxed is None or holds(graph, relaxed)


@given(listed(), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_fewer_cores_are_found_alike_with_any_number_of_threads(
    graph: Hypergraph, seed: int
) -> None:
    start = pack(graph, np.arange(graph.vertices))
    cores, found = int(start.max()) + 1, []
    for processors in (1, 2, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.cpu_count", lambda processors=processors: processors)
            found.append(squeeze(graph, start, cores, 1, seed, steps=50, tries=4, ahead=True))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def connectivity(graph: Hypergraph, block: np.ndarray) -> float:
    """By definition."""
    nets = [graph.pins[a:b] for a, b in zip(graph.offsets[:-1], graph.offsets[1:], strict=True)]
    return sum(
        w * (len(set(block[pins].tolist())) - 1)
        for w, pins in zip(graph.weight.tolist(), nets, strict=True)
    )


@given(hypergraphs() | listed(), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_packing_and_refinement_keep_every_capacity(graph: Hypergraph, seed: int) -> None:
    start = pack(graph, np.arange(graph.vertices))
    cores = int(start.max()) + 1
    assert holds(graph, start) and sorted(set(start.tolist())) == list(range(cores))
    assert km1(graph, start) == pytest.approx(connectivity(graph, start))
    options = {"hot": 2.0, "cold": 0.02, "seed": seed}
    for run in (
        lambda: refine(graph, start, cores, steps=2000, **options),
        lambda: refine_in_turn(graph, start, cores, together=3, steps=50, **options),
    ):
        better = run()
        assert holds(graph, better)
        assert (
            connectivity(graph, better) <= connectivity(graph, start) * (1 + 1e-5) + 1e-5
        )  # weights are rounded to 2^-20
        assert (run() == better).all()
        numbered = in_order(better)
        assert len(set(zip(numbered.tolist(), better.tolist(), strict=True))) == len(
            set(better.tolist())
        )


@given(hypergraphs(), st.integers(0, 1 << 20))
@settings(max_examples=40, deadline=None)
def test_repair_keeps_every_capacity_or_says_none(graph: Hypergraph, seed: int) -> None:
    cores = int(pack(graph, np.arange(graph.vertices)).max()) + 2
    block = np.random.default_rng(seed).integers(0, cores, graph.vertices)
    fixed = repair(graph, block, cores)
    assert fixed is None or (holds(graph, fixed) and len(np.unique(fixed)) == cores)


@given(st.integers(2, 12), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_placements_are_permutations_that_no_swap_improves(things: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    traffic = np.triu(np.rint(rng.random((things, things)) * 9), 1)
    places = np.array([(x, y) for y in range(3) for x in range(4)])
    rows, columns = np.nonzero(traffic)
    pull = rng.random((things, 12)) if seed % 2 else None
    at = anneal_places(
        symmetric(rows, columns, traffic[rows, columns], things), places, things, pull, seed, 2000
    )
    assert len(set(at.tolist())) == things

    def cost(found: np.ndarray) -> float:
        apart = np.abs(places[found][:, None] - places[found]).sum(axis=2)
        return float(
            (traffic * apart).sum()
            + (pull[np.arange(things), found].sum() if pull is not None else 0)
        )

    for a in range(things):
        for there in range(12):
            other = np.where(at == there, at[a], at)
            other[a] = there
            assert cost(other) >= cost(at) - 1e-4


def test_maps_without_partitioners(transformer, monkeypatch) -> None:
    """The extra `mapping` is a start more, no need."""
    monkeypatch.setattr("neurocompile.mapping.seeds.find_spec", lambda name: None)
    circuit, target = transformer(), load_target("loihi2")
    mapping = map_circuit(circuit, target, {p.name: 0.1 for p in circuit.populations})
    assert check_mapping(circuit, mapping, target) == [] and "KaHyPar" not in mapping.method


@pytest.mark.parametrize("budget", [300.0, 60.0])
def test_a_budget_of_spikes_is_kept_by_every_core(transformer, budget: float) -> None:
    circuit, target = transformer(), load_target("kapoho_point")
    rates = {p.name: 0.05 + 0.01 * (i % 7) for i, p in enumerate(circuit.populations)}
    mapping = map_circuit(circuit, target, rates, spikes_per_core_step=budget)
    assert check_mapping(circuit, mapping, target) == [] and mapping.spikes_per_core_step == budget
    sent = [
        sum(rates[tile.population] * tile.size for tile in core.tiles) for core in mapping.cores
    ]
    assert max(sent) <= budget * (1 + 1e-9) and mapping.cores_used >= sum(sent) / budget


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 12))
def test_messages_both_ways_are_one_sum(seed: int, size: int) -> None:
    """However many flows a pair has, and in whatever order they are added."""
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, size, (2, 200))
    matrix = symmetric(source, target, 10.0 ** rng.uniform(-9, 9, 200), size)
    full = np.zeros((size, size), np.int64)
    row = np.repeat(np.arange(size), np.diff(matrix.offsets))
    full[row, matrix.columns] = matrix.weight
    assert np.array_equal(full, full.T) and not full.diagonal().any()


def test_other_matrices_are_refused() -> None:
    """Of these some swaps would help for ever."""
    one_way = Matrix(np.array([0, 1, 1]), np.array([1]), np.array([5]), 1.0)
    uneven = Matrix(np.array([0, 1, 2]), np.array([1, 0]), np.array([5, 6]), 1.0)
    for matrix in (one_way, uneven):
        with pytest.raises(NeurocompileError, match="symmetric") as caught:
            anneal_places(matrix, np.array([[0, 0], [1, 0]]), 2, None, 0, 10)
        assert caught.value.code == "NC9001"


def test_a_budget_of_layers_is_kept_by_every_core(transformer) -> None:
    """A layer that may send a third of what it sends comes to lie on three times the cores; one
    without a number is held to nothing.
    """
    circuit, target = transformer(), load_target("kapoho_point")
    rates = {p.name: 0.05 + 0.01 * (i % 7) for i, p in enumerate(circuit.populations)}
    layers = sorted({p.layer for p in circuit.populations if p.name in rates})
    grants = {layer: 60.0 + 90.0 * i for i, layer in enumerate(layers[::2])}
    mapping = map_circuit(circuit, target, rates, spikes_per_core_step=grants)
    assert check_mapping(circuit, mapping, target) == []
    assert Mapping.from_json(mapping.to_json()).spikes_per_core_step == grants
    layer = {p.name: p.layer for p in circuit.populations}
    part, least = [], dict.fromkeys(grants, 0.0)
    for core in mapping.cores:
        sent = dict.fromkeys(grants, 0.0)
        for tile in core.tiles:
            if layer[tile.population] in sent:
                sent[layer[tile.population]] += rates[tile.population] * tile.size
        part.append(sum(sent[k] / grants[k] for k in grants))
        least = {k: n + sent[k] / grants[k] for k, n in least.items()}
    assert max(part) <= 1 + 1e-9 and mapping.cores_used >= sum(least.values()) > 2
    assert np.allclose(
        parts_used(circuit, (core.tiles for core in mapping.cores), rates, grants), part
    )


def test_a_neuron_louder_than_its_layers_share_is_named_once_a_layer(transformer) -> None:
    circuit, target = transformer(), load_target("kapoho_point")
    layer = circuit.populations[-1].layer
    with pytest.raises(ViolationList, match="may send 0.5 of it") as caught:
        map_circuit(circuit, target, {}, spikes_per_core_step={layer: 0.5})
    assert caught.value.codes == ("NC3111",)
    (detail,) = caught.value.details
    assert detail["messages_times"] >= 2
    enough = times({layer: 0.5}, detail["messages_times"])
    assert map_circuit(circuit, target, {}, spikes_per_core_step=enough).cores_used
