"""Laws of whole mappings: coverage, limits, recount, determinism, traffic; and the errors."""

from __future__ import annotations

import re
import time
from dataclasses import replace as changed
from math import prod

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.errors import ViolationList
from neurocompile.ir.circuit import LIF, CircuitGraph, GradedRelay, HostInput, Readout
from neurocompile.ir.text import Ref
from neurocompile.mapping import Mapping, check_mapping, lower_bound_cores, map_circuit
from neurocompile.mapping.estimate import estimate
from neurocompile.mapping.partition import Style, partition
from neurocompile.mapping.placement import hop_matrix, place
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile_graph import Flows
from neurocompile.targets import load_target
from neurocompile.targets.schema import RESOURCES, Target

LOIHI2, SMALL = load_target("loihi2"), load_target("sim_small")
replace = msgspec.structs.replace


def with_limits(target: Target, **limits: int) -> Target:
    """A target with other capacities of a core."""
    core = replace(
        target.core, **{k: replace(getattr(target.core, k), value=v) for k, v in limits.items()}
    )
    return replace(target, core=core)


def with_cores(target: Target, columns: int, rows: int) -> Target:
    """A target with another mesh, all usable."""
    mesh, cores = target.mesh, columns * rows * target.mesh.cores_per_tile.value
    value = {"columns": columns, "rows": rows, "cores_usable": cores}
    return replace(
        target,
        mesh=replace(mesh, **{k: replace(getattr(mesh, k), value=v) for k, v in value.items()}),
    )


BIG_SMALL = with_cores(SMALL, 12, 10)
"""sim_small's cores, 480 of them."""


def check_all(circuit: CircuitGraph, target: Target, mapping: Mapping) -> None:
    """The laws, counted here and not with the mapper's code where that is possible."""
    assert check_mapping(circuit, mapping, target) == []
    held = {p.name: np.zeros(p.shape, dtype=int) for p in circuit.populations}
    for core in mapping.cores:
        for tile in core.tiles:
            held[tile.population][tile.slices] += 1
        for resource in RESOURCES:
            assert getattr(core.used, resource) <= target.capacity[resource]
        assert core.used.total <= target.capacity["total"]
    for population in circuit.populations:
        assert (held[population.name] == (0 if isinstance(population, HostInput) else 1)).all()
    assert len({core.slot for core in mapping.cores}) == mapping.cores_used <= target.cores
    assert lower_bound_cores(circuit, target) <= mapping.cores_used


@pytest.mark.slow
@pytest.mark.parametrize("target", [LOIHI2, BIG_SMALL], ids=["loihi2", "small"])
def test_transformer_maps(transformer, target: Target) -> None:
    circuit = transformer()
    mapping = map_circuit(circuit, target, {p.name: 0.1 for p in circuit.populations})
    check_all(circuit, target, mapping)
    fullest = mapping.fullest(target)
    assert fullest is not None
    assert fullest.used == getattr(mapping.cores[fullest.core].used, fullest.resource)
    assert 0.5 < fullest.used / fullest.limit <= 1


def test_eighty_populations_take_hardly_more_cores_than_the_bound(transformer) -> None:
    circuit = transformer(side=8, dim=32, blocks=8)
    assert len(circuit.populations) > 65
    assert sum(p.size for p in circuit.populations) > 50_000
    mapping = map_circuit(circuit, LOIHI2, {p.name: 0.1 for p in circuit.populations})
    assert (
        mapping.lower_bound
        == lower_bound_cores(circuit, LOIHI2)
        <= mapping.cores_used
        <= 1.15 * mapping.lower_bound
    )


@st.composite
def random_circuits(draw, builder_type: type) -> CircuitGraph:
    """Layered circuits with every kind of projection and shapes that must be cut on a small core."""
    b, depth = builder_type(), 0
    h, w, c = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 24))
    b.populations.append(HostInput(name="p0", shape=(h, w, c), layer="p0", low=0, high=1, depth=0))
    last = "p0"
    for i in range(1, draw(st.integers(2, 6))):
        name, depth = f"p{i}", depth + 1
        kind = draw(st.sampled_from(["conv", "copy", "pool", "dense", "gate"]))
        if kind == "conv":
            out = draw(st.integers(1, 24))
            b.lif(name, (h, w, out), depth)
            b.conv(
                last,
                name,
                (out, 3, 3, c),
                padding=(1, 1),
                weight_bits=draw(st.sampled_from([2, 4, 8])),
            )
        elif kind == "pool":
            b.lif(name, (-(-h // 2), -(-w // 2), c), depth)
            b.conv(last, name, (c, 1, 1, c), stride=(2, 2))
        elif kind == "dense":
            out = draw(st.integers(1, 12))
            b.lif(name, (1, 1, out), depth)
            b.dense(last, name, out, h * w * c)
        else:
            b.lif(name, (h, w, c), depth)
            b.strided(last, name, (h * w * c,), (1,), (1,))
            if kind == "gate":  # and the sum over all tokens, handed to each of them
                b.strided(last, name, (h * w, h * w, c), (0, c, 1), (c, 0, 1), tag=".sum")
        h, w, c = b.populations[-1].shape
        last = name
    return b.build("random", (Readout(name="r", src=Ref(last), scale=1.0),))


@given(st.data(), st.integers(0, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_laws_on_random_circuits(builder_type: type, data: st.DataObject, seed: int) -> None:
    circuit = data.draw(random_circuits(builder_type))
    rates = {p.name: 0.25 for p in circuit.populations[::2]}
    target = with_limits(
        with_cores(SMALL, 16, 16), axon_in=2500, synaptic_memory_words=2500, total=6000
    )
    try:
        mapping = map_circuit(circuit, target, rates, seed=seed)
    except ViolationList as error:
        assert error.code in ("NC3101", "NC3102")
        return
    check_all(circuit, target, mapping)
    again = map_circuit(circuit, target, rates, seed=seed)
    assert mapping.to_json() == again.to_json()
    assert Mapping.from_json(mapping.to_json()) == mapping


def test_traffic_counts_distinct_destination_cores(builder) -> None:
    """One source of 8 neurons, consumers on two cores: each of its spikes is two packets, or one
    and a local one.
    """
    builder.populations.append(HostInput(name="x", shape=(8,), layer="x", low=0, high=1, depth=0))
    builder.lif("a", (8,), 1)
    builder.strided("x", "a", (8,), (1,), (1,))
    for name in "bc":
        builder.lif(name, (150,), 2)
        builder.dense("a", name, 150, 8)
    circuit = builder.build("fan", (Readout(name="r", src=Ref("b"), scale=1.0),))
    mapping = map_circuit(circuit, SMALL, {"x": 0.5, "a": 0.25, "b": 0.1})
    assert mapping.cores_used == 2  # a and b share a core
    assert mapping.traffic.packets == 8 * 0.25
    assert mapping.traffic.local == 8 * 0.25
    assert mapping.traffic.from_host == 8 * 0.5
    assert mapping.traffic.to_host == pytest.approx(150 * 0.1)
    assert mapping.traffic.hops == 0  # both on one tile
    # a's neurons have two destinations: 16 entries of output axon lists.
    assert sum(core.used.axon_memory for core in mapping.cores) == 16


def flows_of(between: np.ndarray) -> Flows:
    """Packets from row to column."""
    source, target = np.nonzero(between)
    return Flows(source, target, between[source, target], 0.0)


def test_placement_beats_the_snake_and_counts_hops() -> None:
    generator = np.random.default_rng(5)
    order = generator.permutation(40)
    between = np.zeros((40, 40))
    between[order[:-1], order[1:]] = 1.0  # a chain in random order
    slots = place(LOIHI2, flows_of(between), 40, seed=0)
    assert slots == place(LOIHI2, flows_of(between), 40, seed=0)
    assert len(set(slots)) == 40
    assert all(map(LOIHI2.usable, slots))
    cost = float((between * hop_matrix(LOIHI2, slots)).sum())
    snake = float((between * hop_matrix(LOIHI2, LOIHI2.slot_order(40))).sum())
    best = 9  # ten tiles of four in a row
    assert best <= cost < 0.35 * snake


def test_swap_costs_are_exact() -> None:
    """A local optimum has no better swap: each is tried here by recounting."""
    generator = np.random.default_rng(1)
    between = np.rint(generator.random((7, 7)) * 100)
    slots = place(SMALL, flows_of(between), 7, seed=3)

    def cost(placed: list) -> float:
        return float((between * hop_matrix(SMALL, placed)).sum())

    free = [slot for slot in SMALL.slot_order(16) if slot not in slots]
    for i in range(7):
        for j in range(i):
            swapped = list(slots)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            assert cost(swapped) >= cost(slots)
        for slot in free:
            assert cost([*slots[:i], slot, *slots[i + 1 :]]) >= cost(slots)


def test_populations_share_cores_within_the_neuron_groups(builder) -> None:
    builder.populations.append(HostInput(name="x", shape=(4,), layer="x", low=0, high=1))
    for i in range(10):
        builder.lif(f"p{i}", (4,), 1)
        builder.strided("x", f"p{i}", (4,), (1,), (1,))
    mapping = map_circuit(builder.build("groups"), SMALL, {})
    assert [core.used.neuron_groups for core in mapping.cores] == [4, 4, 2]


def test_tiles_do_not_waste_half_a_core(builder) -> None:
    """Rows of 2,048 neurons and one more for the convolution: two no longer fit a core, so channels
    are cut too.
    """
    builder.populations.append(HostInput(name="x", shape=(32, 32, 3), layer="x", low=0, high=1))
    builder.lif("c", (32, 32, 64), 1)
    builder.conv("x", "c", (64, 3, 3, 3), padding=(1, 1))
    circuit = builder.build("rows")
    mapping = map_circuit(circuit, LOIHI2, {})
    check_all(circuit, LOIHI2, mapping)
    assert lower_bound_cores(circuit, LOIHI2) == 17
    assert mapping.cores_used <= 21


@pytest.mark.slow
def test_more_cores_are_taken_for_fewer_packets_only_where_they_are_allowed(
    transformer, monkeypatch
) -> None:
    """Where cores are not given up by themselves, the mapping with fewest packets takes more than the
    tightest; a limit between them is kept.
    """
    monkeypatch.setattr("neurocompile.mapping.fit.TIGHT", 10.0)
    circuit = transformer(dim=64, blocks=2)
    loose = map_circuit(circuit, LOIHI2, {})
    tight = map_circuit(circuit, LOIHI2, {}, max_cores=loose.lower_bound)
    assert loose.lower_bound == tight.cores_used < loose.cores_used
    assert loose.traffic.packets < tight.traffic.packets
    check_all(circuit, LOIHI2, tight)


@pytest.mark.parametrize(
    ("pairs", "room"), [(False, 0.0), (True, 0.0), (False, 0.015), (False, 0.2)]
)
def test_tiles_cover_every_population_once_and_fit(transformer, pairs: bool, room: float) -> None:
    """Whatever the way to cut; with pairs, sums lie beside their terms: their messages need no
    packet; with room, terms leave it, and sums fit beside the fullest of them."""
    circuit = transformer(side=16, dim=64, blocks=1)
    counter = CostCounter(circuit, LOIHI2)
    parts = partition(counter, {}, Style(1.1, 1 if room else 4, None, pairs, room))
    for population in counter.on_chip:
        held = np.zeros(population.shape, dtype=int)
        for tile, usage in parts[population.name]:
            held[tile.slices] += 1
            assert not usage.excess(LOIHI2)
        assert (held == 1).all()
    terms, sums = parts["b0kv"], parts["b0sum"]
    if pairs:
        assert len(terms) == len(sums)
        for (tile, _), (total, _) in zip(terms, sums, strict=True):
            reached = counter.sources(next(q for q in circuit.incoming["b0sum"]), total)
            assert reached[tile.slices].all() and int(reached.sum()) == tile.size
    if room:
        fullest = max((usage for _, usage in terms), key=lambda usage: usage.total)
        assert 0.7 * 4096 < fullest.neurons <= (1 - room) * 4096
        assert not any((usage + fullest).excess(LOIHI2) for _, usage in sums)


def test_the_way_of_very_large_models_keeps_every_law(transformer, monkeypatch) -> None:
    """Boxes of terms, sums that fill, chips that trade cores in turn: what no model of a test's
    size would get.
    """
    circuit, board = transformer(side=16, dim=64, blocks=2), load_target("kapoho_point")
    few = msgspec.structs.replace(
        board.mesh, cores_usable=msgspec.structs.replace(board.mesh.cores_usable, value=12)
    )
    target = msgspec.structs.replace(board, mesh=few)
    monkeypatch.setattr("neurocompile.mapping.fit.WAYS", ((0, ()),))
    monkeypatch.setattr("neurocompile.mapping.placement.TABLE_LIMIT", 0)
    mapping = map_circuit(circuit, target, {})
    check_all(circuit, target, mapping)
    assert (
        mapping.cores_used <= 1.25 * mapping.lower_bound
        and len({core.chip for core in mapping.cores}) > 1
    )
    assert mapping.to_json() == map_circuit(circuit, target, {}).to_json()


def test_cores_are_traded_between_chips_for_fewer_packets_across(monkeypatch) -> None:
    """Three chips of which every core talks to one far away in the order: afterwards hardly any
    message crosses.
    """
    target, cores = load_target("kapoho_point"), 360
    partner = np.arange(cores).reshape(60, 6).T.ravel()
    source, size = np.arange(cores), target.mesh.cores_usable.value
    flows = Flows(partner[source], partner[(source // 2 * 2) + 1 - source % 2], np.ones(cores), 0.0)
    for limit in (1 << 27, 0):
        monkeypatch.setattr("neurocompile.mapping.placement.TABLE_LIMIT", limit)
        chip = np.array([slot.chip for slot in place(target, flows, cores, seed=0)])
        assert np.bincount(chip).max() <= size
        crossing = int((chip[flows.source] != chip[flows.target]).sum())
        flat = int((flows.source // size != flows.target // size).sum())
        assert crossing <= flat // 4, (limit, crossing, flat)


def test_a_target_without_some_resource_still_maps_what_does_not_need_it(builder) -> None:
    builder.populations.append(HostInput(name="x", shape=(4,), layer="x", low=0, high=1))
    builder.lif("y", (4,), 1)
    builder.strided("x", "y", (4,), (1,), (1,))
    assert map_circuit(builder.build("none"), with_limits(SMALL, axon_memory=0), {}).cores_used == 1


def test_a_circuit_of_inputs_alone_needs_no_core() -> None:
    host = HostInput(name="x", shape=(4,), layer="x", low=0, high=1)
    circuit = CircuitGraph(
        name="none", steps=1, populations=(host,), projections=(), readouts=(), tensors={}
    )
    mapping = map_circuit(circuit, LOIHI2, {})
    assert (
        mapping.cores_used,
        mapping.fullest(LOIHI2),
        check_mapping(circuit, mapping, LOIHI2),
    ) == (0, None, [])


def test_populations_without_axes_map(builder) -> None:
    builder.populations.append(GradedRelay(name="one", shape=(), layer="one"))
    circuit = builder.build("scalar")
    check_all(circuit, LOIHI2, map_circuit(circuit, LOIHI2, {}))


# --- errors
# -----------------------------------------------------------------------------------------------------------


def test_all_layers_that_do_not_fit_are_named(builder) -> None:
    """600 inputs a neuron against 512 input axons, twice, with the largest part and two ways out
    each.
    """
    builder.populations.append(HostInput(name="x", shape=(600,), layer="x", low=0, high=1))
    for name in ("fc1", "fine", "fc2.sum"):
        builder.lif(name, (30,), 1)
        if name == "fine":
            builder.strided("x", name, (30,), (1,), (1,))
        else:
            builder.dense("x", name, 30, 600)
    with pytest.raises(ViolationList) as caught:
        map_circuit(builder.build("wide"), SMALL, {})
    assert caught.value.code == "NC3102"
    assert str(caught.value).count("NC3102") == 2
    first, second = caught.value.messages
    assert first == (
        "layer 'fc1' needs 600 input axons on a core for one neuron, sim_small has 512. Largest part: 600 x 1 weights "
        "at 8 bits of 'x>fc1'. Reduce its fan-in, or take a target with larger cores (`target='loihi2'`)."
    )
    assert "layer 'fc2' (population 'fc2.sum')" in second


def test_fewer_bits_are_advised_only_where_they_help(builder) -> None:
    builder.populations.append(HostInput(name="x", shape=(1, 1, 200), layer="x", low=0, high=1))
    builder.lif("y", (1, 1, 8), 1)
    builder.conv("x", "y", (8, 3, 3, 200), padding=(1, 1))
    with pytest.raises(ViolationList, match="1,800 words of synaptic memory") as caught:
        map_circuit(builder.build("kernel"), SMALL, {})
    assert "`weight_bits" not in str(caught.value)
    assert "3 x 3 x 200 kernels" in str(caught.value)


def test_a_model_larger_than_the_target_names_every_short_resource(transformer) -> None:
    start = time.process_time()
    with pytest.raises(ViolationList) as caught:
        map_circuit(transformer(side=16, dim=64, blocks=12), LOIHI2, {})
    assert time.process_time() - start < 1.0
    assert caught.value.code == "NC3101"
    assert "needs 1,167,432 neurons, so at least 286 cores" in str(caught.value)
    for message in caught.value.messages:
        assert "loihi2 has 120 with" in message
        assert "Largest: layer 'b" in message
        assert "Take a larger target (`target='kapoho_point'`), or use a smaller model" in message


def test_max_cores_is_a_limit_that_can_be_raised(builder) -> None:
    circuit, target = half_cores(builder)
    needed = map_circuit(circuit, target, {}).cores_used
    assert map_circuit(circuit, target, {}, max_cores=needed).cores_used == needed
    text = rf"needs {needed} cores; `max_cores` allows {needed - 1} of sim_small"
    with pytest.raises(ViolationList, match=text) as caught:
        map_circuit(circuit, target, {}, max_cores=needed - 1)
    assert caught.value.code == "NC3101"
    assert "Raise `max_cores` (up to 64)" in str(caught.value)
    assert "`target" not in str(caught.value)  # which max_cores would bind too
    assert "Largest layers: 'fc" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["held", "wide"])
def test_output_lists_of_a_loop_are_packed_for(builder, first: str) -> None:
    """Every neuron of one population sends to all cores of another, which closes the loop: whichever
    is cut first does not know the cores of the other.
    """
    size, times = 3000, 30
    shapes = {"held": (size,), "wide": (size * times,)}
    builder.populations.append(HostInput(name="x", shape=(8,), layer="x", low=0, high=1))
    for name in sorted(shapes, key=lambda name: name != first):
        builder.lif(name, shapes[name], 1)
    builder.dense("x", "held", size, 8)
    builder.strided("held", "wide", (times, size), (0, 1), (size, 1))
    builder.strided("wide", "held", (size,), (1,), (1,))
    loop = [changed(q, recurrent=q.src != "x") for q in builder.projections]
    builder.projections[:] = loop
    circuit = builder.build("loop")
    mapping = map_circuit(circuit, LOIHI2, {})
    check_all(circuit, LOIHI2, mapping)
    assert mapping.cores_used <= 1.12 * mapping.lower_bound


def half_cores(builder) -> tuple[CircuitGraph, Target]:
    """30 populations that take more than half a core each, and can hardly be cut."""
    builder.populations.append(HostInput(name="x", shape=(200,), layer="x", low=0, high=1))
    for i in range(30):
        builder.lif(f"fc{i}", (16,), 1)
        builder.dense("x", f"fc{i}", 16, 200)
    target = with_limits(with_cores(SMALL, 4, 4), synaptic_memory_words=2500, total=2500)
    return builder.build("bits"), target


@pytest.mark.parametrize(
    ("max_cores", "text"), [(15, "so at least 18 cores"), (26, "needs 30 cores")]
)
def test_fewer_bits_are_advised_for_a_model_that_then_fits(
    builder, max_cores: int, text: str
) -> None:
    """Both before anything is cut and after packing; and the advice is right."""
    circuit, target = half_cores(builder)
    with pytest.raises(ViolationList, match=text) as caught:
        map_circuit(circuit, target, {}, max_cores=max_cores)
    assert caught.value.code == "NC3101"
    assert "4-bit weights (`weight_bits=4`)" in str(caught.value)
    narrow = circuit.replace(
        projections=tuple(changed(p, weight_bits=4) for p in circuit.projections)
    )
    assert map_circuit(narrow, target, {}, max_cores=max_cores).cores_used == 15


# --- check_mapping refuses what was changed
# ---------------------------------------------------------------------------


@pytest.fixture(name="small_mapping")
def small_mapping_fixture(transformer):
    circuit = transformer(blocks=1)
    return circuit, map_circuit(circuit, LOIHI2, {})


def edit(mapping: Mapping, index: int, **changes: object) -> Mapping:
    """The mapping with one core changed."""
    cores = list(mapping.cores)
    cores[index] = replace(cores[index], **changes)
    return replace(mapping, cores=tuple(cores))


def test_changed_mappings_are_found_out(small_mapping) -> None:
    circuit, mapping = small_mapping
    first = mapping.cores[0]
    tile = first.tiles[0]
    cases = {
        "for target": replace(mapping, target="other"),
        "records": edit(mapping, 0, used=replace(first.used, neurons=first.used.neurons - 1)),
        "lie on no core": edit(mapping, 0, tiles=first.tiles[1:]),
        "overlaps": edit(mapping, 1, tiles=(*mapping.cores[1].tiles, tile)),
        "no population on the chip": edit(mapping, 0, tiles=(replace(tile, population="x"),)),
        "number of axes": edit(mapping, 0, tiles=(replace(tile, start=(0,)),)),
        "leaves": edit(mapping, 0, tiles=(replace(tile, stop=tuple(n + 1 for n in tile.stop)),)),
        "is empty": edit(mapping, 0, tiles=(replace(tile, stop=tile.start),)),
        "no usable core": edit(mapping, 0, x=8),
        "same place": edit(
            mapping, 0, **{k: getattr(mapping.cores[1], k) for k in ("chip", "x", "y", "core")}
        ),
        "holds no tile": replace(mapping, cores=(*mapping.cores, replace(first, x=5, tiles=()))),
        "traffic": replace(mapping, traffic=replace(mapping.traffic, hops=float("nan"))),
    }
    for expected, bad in cases.items():
        problems = check_mapping(circuit, bad, LOIHI2)
        assert any(expected in problem for problem in problems), (expected, problems)


def test_limits_are_checked_against_the_target_given(small_mapping) -> None:
    circuit, mapping = small_mapping
    problems = check_mapping(circuit, mapping, with_limits(LOIHI2, neurons=1000))
    assert problems
    assert all("neurons, loihi2 has 1,000" in problem for problem in problems)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"circuit": 3}', b"[" * 5000])
def test_damaged_json_raises_msgspec_errors(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
        Mapping.from_json(data)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_recount_depends_on_the_circuit(transformer, data: st.DataObject) -> None:
    """Another layer size, same mapping: never accepted."""
    circuit = transformer(blocks=1)
    mapping = map_circuit(circuit, LOIHI2, {})
    index = data.draw(st.integers(1, len(circuit.populations) - 1))
    population = circuit.populations[index]
    other = changed(population, shape=(*population.shape[:-1], population.shape[-1] + 1))
    if isinstance(other, LIF) and prod(other.shape):
        populations = (*circuit.populations[:index], other, *circuit.populations[index + 1 :])
        assert check_mapping(circuit.replace(populations=populations), mapping, LOIHI2)


def test_counter_orders_populations_by_depth(transformer) -> None:
    depths = [p.depth for p in CostCounter(transformer(), LOIHI2).on_chip]
    assert depths == sorted(depths)


@pytest.mark.slow
def test_a_budget_that_needs_too_many_cores_is_named_as_the_cause(transformer) -> None:
    """By how much, with ways out that are some: the multiple of the budget that it names fits."""
    circuit, target = transformer(), load_target("loihi2")
    rates = {p.name: 0.1 for p in circuit.populations}
    with pytest.raises(ViolationList) as caught:
        map_circuit(circuit, target, rates, max_cores=6, spikes_per_core_step=20.0)
    text = str(caught.value)
    assert (
        caught.value.code == "NC3114"
        and "grants a core 20 messages a step" in text
        and "the budget is the cause" in text
    )
    factor = float(re.search(r"[Aa]llow a core ([\d.]+) times", text).group(1))
    assert (
        map_circuit(
            circuit, target, rates, max_cores=6, spikes_per_core_step=20.0 * factor
        ).cores_used
        <= 6
    )
    needed = int(re.search(r"needs (\d+) cores", text).group(1))
    assert (
        map_circuit(circuit, target, rates, max_cores=needed, spikes_per_core_step=20.0).cores_used
        <= needed
    )


def test_only_targets_with_cores_enough_are_named(transformer) -> None:
    circuit = transformer(side=64, dim=128, blocks=2)
    for name in ("loihi2", "sim_small"):
        for code, text in estimate(circuit, load_target(name), max_cores=None).violations:
            for named in re.findall(r"`target='(\w+)'`", text):
                found = {c for c, _ in estimate(circuit, load_target(named)).violations}
                assert code != "NC3101" or code not in found, (text, found)


def test_a_search_of_many_cores_says_how_much_is_done(transformer, monkeypatch) -> None:
    """Not only cutting, the lesser part of a large mapping."""
    for name, value in (("fit.SMALL", 0), ("fit.TOGETHER", 2), ("packing.TOGETHER", 2)):
        monkeypatch.setattr(f"neurocompile.mapping.{name}", value)
    seen: list[tuple[int, int]] = []
    circuit, target = transformer(blocks=1), load_target("hala_point")
    mapping = map_circuit(circuit, target, {}, done=lambda now, of: seen.append((now, of)))
    assert mapping.cores_used > 2
    now, of = zip(*seen, strict=True)
    assert len(set(of)) == 1 and list(now) == sorted(now) and now[-1] < of[0]
    assert now[-1] > of[0] // 2
