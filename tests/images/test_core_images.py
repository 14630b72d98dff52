"""Core images: their sizes are what the mapper charges, and executing them is executing the circuit."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from folding.folded import folds, maps
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from images.placed import placed
from spiking_cases import networks, samples

import neurocompile
from neurocompile.artifact.verify import verify
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.energy.activity import measured_activity
from neurocompile.energy.core_counts import counted_tables
from neurocompile.energy.counts import COLUMNS, count
from neurocompile.errors import NeurocompileError
from neurocompile.folding.policy import fold_graph
from neurocompile.folding.schedules import Fold
from neurocompile.images import build_images, load_images
from neurocompile.images.build import ImageBuilder
from neurocompile.images.check import check_images
from neurocompile.images.compare import differences
from neurocompile.images.file import _index_bytes, write_images
from neurocompile.images.image import GROUP_FIELDS, HOST_CORE, NO_AXON, columns
from neurocompile.images.machine import CoreMachine
from neurocompile.images.names import Names
from neurocompile.images.size import image_usage
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping.mapping import check_mapping
from neurocompile.passes.lower import lower
from neurocompile.passes.schedule import schedule
from neurocompile.targets import load_target

LOIHI2, LOIHI1 = load_target("loihi2"), load_target("loihi1")
ALONE = msgspec.structs.replace(
    LOIHI2, core=msgspec.structs.replace(LOIHI2.core, shared_groups=None)
)
"""Each population in a neuron group of its own."""
NOT_COUNTED = ("effective_acs", "effective_macs")


def scheduled(graph, steps: int) -> CircuitGraph:
    return schedule(lower(graph, steps), max_spike_delay=62, power_of_two_period=True)


def check(circuit: CircuitGraph, x: np.ndarray, target, seed: int) -> None:
    """Sizes, every value of every population, and every count but those of effective operations."""
    mapping = placed(circuit, target, seed)
    images = build_images(circuit, mapping, target)
    assert check_images(images) == []
    for core, image in zip(mapping.cores, images.cores, strict=True):
        assert image_usage(image, target) == core.used
    machine, integers = CoreMachine(images, threads=2), encode(circuit, x)
    found, expected = machine.run(integers), Emulator().open(circuit).run(integers)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    populations, cores = counted_tables(machine, machine.count(integers), target)
    formula = count(circuit, mapping, target, measured_activity(circuit, x))
    for i, name in enumerate(COLUMNS):
        if name == "active" and circuit.period > circuit.steps:
            continue  # what idle steps leave in a gate is in no trace
        if name not in NOT_COUNTED:
            times = 1 if name == "neurons" else len(x)
            rows = [
                row
                for row, p in enumerate(circuit.populations)
                if not (name == "updates" and p in circuit.inputs)
            ]
            np.testing.assert_allclose(
                populations[rows, i], formula.populations[rows, i] * times, rtol=1e-9, err_msg=name
            )
            np.testing.assert_allclose(
                cores[:, i], formula.cores[:, i] * times, rtol=1e-9, err_msg=name
            )


@settings(max_examples=12, deadline=None)
@given(
    networks(), st.integers(1, 5), st.integers(0, 1 << 30), st.sampled_from((LOIHI2, LOIHI1, ALONE))
)
def test_images_are_the_circuit(graph, steps: int, seed: int, target) -> None:
    check(scheduled(graph, steps), samples(graph, 3), target, seed)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_images_of_folded_circuits(data) -> None:
    graph = data.draw(maps(layers=2))
    fold = data.draw(folds(graph.input.shape))
    try:
        circuit = fold_graph(graph, data.draw(st.sampled_from((1, 2, 4))), Fold.parse(fold))
    except NeurocompileError as error:
        assert error.code == "NC3104", error
        assume(False)
    check(circuit, samples(graph, 2), LOIHI2, data.draw(st.integers(0, 1 << 30)))


def listed(builder: ImageBuilder, population: str, positional: bool) -> dict[int, dict[int, int]]:
    """By definition: of each neuron or position the cores that read it, and its first axon there."""
    found: dict[int, dict[int, int]] = {}
    for port in builder.layout.consumers[population]:
        if port.positional == positional:
            for axon, source in enumerate(builder.layout.sources(port).tolist(), port.axon):
                found.setdefault(source, {}).setdefault(port.core, axon)
    return found


@settings(max_examples=15, deadline=None)
@given(networks(), st.integers(0, 1 << 30), st.sampled_from((LOIHI2, LOIHI1)))
def test_output_lists_are_who_reads_each_neuron(graph, seed: int, target) -> None:
    """Of tiles by chance, in any order of cores; what the host reads is told first."""
    circuit = scheduled(graph, 2)
    mapping = placed(circuit, target, seed, cores=9)
    builder = ImageBuilder(circuit, mapping, target)
    for number in np.random.default_rng(seed).permutation(len(mapping.cores)).tolist():
        expected: list[list[tuple[int, int]]] = []
        for positional in (False, True):
            names = builder.counter.positional if positional else builder.counter.neuronal
            for tile in builder.layout.held[number]:
                if tile.population not in names:
                    continue
                lists = listed(builder, tile.population, positional)
                shape = circuit.population[tile.population].shape
                numbers = np.arange(int(np.prod(shape))).reshape(shape)[tile.slices]
                if positional:
                    numbers = numbers[..., 0] // shape[-1]
                host = not positional and tile.population in builder.counter.to_host
                first = [(HOST_CORE, NO_AXON)] if host else []
                expected += [first + sorted(lists.get(n, {}).items()) for n in numbers.ravel()]
        out = builder.core(number).outputs
        entries = list(zip(out.entry_core.tolist(), out.entry_axon.tolist(), strict=True))
        begins = [0, *out.map_ends.tolist()]
        assert [entries[a:b] for a, b in pairwise(begins)] == expected


@pytest.fixture(scope="module")
def digits_images(digits_program):
    return digits_program.with_images().images


def test_threads_change_nothing(digits_program, digits_images, digits_data) -> None:
    images = digits_images
    x = encode(digits_program.circuit, digits_data.x[:5])
    one, three = (CoreMachine(images, threads=n).run(x) for n in (1, 3))
    assert all(np.array_equal(one[name], three[name]) for name in one)


def test_a_file_is_its_images_byte_for_byte(digits_program, tmp_path) -> None:
    paths = [tmp_path / name for name in ("a.nci", "b.nci")]
    digits_program.save_images(paths[0])
    images = load_images(paths[0])
    with paths[1].open("wb") as file:
        write_images(file, images)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    builder = ImageBuilder(digits_program.circuit, digits_program.mapping, digits_program.target)
    assert list(differences(images, builder)) == []


def test_the_index_of_a_hundred_thousand_cores_is_written(digits_images) -> None:
    """msgspec's own sorting of as many sorted names overran the stack (a crash, at 63,619 cores)."""
    members = {f"cores/{i:06d}.safetensors": f"{i:064x}" for i in range(100_000)}
    data = _index_bytes(digits_images.names, {"host.safetensors": "0" * 64, **members})
    index = msgspec.json.decode(data)
    assert list(index["members"]) == [*members, "host.safetensors"]
    assert msgspec.convert(index["names"], Names) == digits_images.names


def test_an_artifact_keeps_and_runs_its_images(digits_program, digits_data, tmp_path) -> None:
    digits_program.with_images().save(tmp_path / "a.nca")
    loaded = neurocompile.load(tmp_path / "a.nca")
    assert loaded.images is not None
    assert loaded.parity(digits_data.x[:2], against=["cores"]).exact
    assert verify(tmp_path / "a.nca").images == digits_program.mapping.cores_used


def test_images_of_another_program_are_refused(digits_program, digits_images, tmp_path) -> None:
    names = msgspec.structs.replace(digits_images.names, steps=3)
    for wrong in (
        dataclasses.replace(digits_images, names=names),
        dataclasses.replace(
            digits_images, cores=(*digits_images.cores[:-1], digits_images.cores[0])
        ),
    ):
        dataclasses.replace(digits_program, images=wrong).save(tmp_path / "a.nca")
        with pytest.raises(NeurocompileError) as caught:
            neurocompile.load(tmp_path / "a.nca")
        assert caught.value.code in ("NC5001", "NC5004")


def spoilt(program, number: int, **changes):
    """The program with other tables on one core."""
    images = program.with_images().images
    cores = list(images.cores)
    cores[number] = dataclasses.replace(cores[number], **changes)
    return dataclasses.replace(program, images=dataclasses.replace(images, cores=tuple(cores)))


def cut_list(program, number: int):
    """Without the entries of one core's lists that lead to another core."""
    out = program.with_images().images.cores[number].outputs
    keep = np.ones(len(out.entry_core), bool)
    away = np.flatnonzero((out.entry_core >= 0) & (out.entry_core != number))
    keep[away[:: max(1, len(away) // 50)]] = False
    ends = np.concatenate([[0], np.cumsum(keep)])[out.map_ends]
    lists = {n: getattr(out, n)[keep] for n in ("entry_core", "entry_axon", "entry_set")}
    return spoilt(program, number, outputs=dataclasses.replace(out, map_ends=ends, **lists))


def no_weights(program, number: int):
    """With one port whose weights are gone: a tile without one of its inputs."""
    core = program.with_images().images.cores[number]
    weights = core.weights.copy()
    weights[: len(weights) // 2] = 0
    return spoilt(program, number, weights=weights)


def swapped(program, number: int):
    """Two tiles of one core in each other's place."""
    core = program.with_images().images.cores[number]
    groups, boxes = core.groups.copy(), core.boxes.copy()
    sizes = groups[:, columns(GROUP_FIELDS)["count"]]
    kinds = groups[:, columns(GROUP_FIELDS)["kind"]]
    for i in range(len(groups)):
        for j in range(i):
            if sizes[i] == sizes[j] and kinds[i] == kinds[j] and (boxes[i] != boxes[j]).any():
                boxes[[i, j]] = boxes[[j, i]]
                groups[[i, j], 0] = groups[[j, i], 0]
                return spoilt(program, number, groups=groups, boxes=boxes)
    return None


def test_wrong_images_are_named(digits_program, digits_data) -> None:
    """Of each kind of mutation on each core: exact only where no sample comes by; otherwise core,
    neuron, step, and what differs there.
    """
    seen = {mutate: 0 for mutate in (cut_list, no_weights, swapped)}
    for number in range(0, digits_program.mapping.cores_used, 5):
        for mutate in seen:
            wrong = mutate(digits_program, number)
            if wrong is None or check_images(wrong.images):
                continue
            first = wrong.parity(digits_data.x[:2], against=["cores"]).backends[0].first
            if first is not None:
                assert "core " in first.where and "neuron" in first.where
                assert any(w in first.where for w in ("axon", "group", "list", "port")), first
                seen[mutate] += 1
    assert all(seen.values()), seen


def remapped(program, change):
    """The program with other tiles on a core, and no images of its own."""
    cores = list(program.mapping.cores)
    change(cores)
    mapping = msgspec.structs.replace(program.mapping, cores=tuple(cores))
    return dataclasses.replace(program, mapping=mapping)


def retiled(core, tiles):
    return msgspec.structs.replace(core, tiles=tuple(tiles))


def test_wrong_mappings_are_named(digits_program, digits_data) -> None:
    """A tile dropped, and one that lies on two cores: core, neuron, step, and the axon whose source is
    missing or twice. Two tiles in each other's place are another mapping, which runs; its cores are no
    longer what was counted.
    """

    def drop(cores):
        cores[2] = retiled(cores[2], cores[2].tiles[1:])

    def twice(cores):
        cores[3] = retiled(cores[3], (*cores[3].tiles, cores[2].tiles[0]))

    def swap(cores):
        one, other = cores[2].tiles[0], cores[5].tiles[0]
        cores[2] = retiled(cores[2], (other, *cores[2].tiles[1:]))
        cores[5] = retiled(cores[5], (one, *cores[5].tiles[1:]))

    x, target = digits_data.x[:1], digits_program.target
    for change, times in ((drop, 0), (twice, 2)):
        wrong = remapped(digits_program, change)
        first = wrong.parity(x, against=["cores"]).backends[0].first
        assert first is not None and f"lies on {times} cores" in first.where, first
        assert "core " in first.where and "axon " in first.where and first.step >= 0
        assert check_mapping(wrong.circuit, wrong.mapping, target) != []
    other = remapped(digits_program, swap)
    assert other.parity(x, against=["cores"]).exact
    assert "counted are" in check_mapping(other.circuit, other.mapping, target)[0]
    stale = dataclasses.replace(other, images=digits_program.with_images().images)
    builder = ImageBuilder(other.circuit, other.mapping, target)
    assert any(line.startswith("core 2: ") for line in differences(stale.images, builder))


def test_damage_is_found(digits_program, tmp_path) -> None:
    path = tmp_path / "a.nci"
    digits_program.save_images(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(NeurocompileError) as caught:
        load_images(path)
    assert caught.value.code in ("NC5001", "NC5002")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_table_leads_a_kernel_astray(digits_program, digits_images, data) -> None:
    """Any value anywhere: refused by the check, or harmless to run."""
    images = digits_images
    number = data.draw(st.integers(0, len(images.cores) - 1))
    arrays = images.cores[number].arrays()
    name = data.draw(st.sampled_from(sorted(n for n, a in arrays.items() if a.size)))
    changed = arrays[name].copy()
    flat = changed.reshape(-1)
    info = np.iinfo(flat.dtype)
    value = data.draw(st.one_of(st.integers(-3, 300), st.sampled_from((info.min, info.max))))
    flat[data.draw(st.integers(0, flat.size - 1))] = np.clip(value, info.min, info.max)
    core = images.cores[number]
    if hasattr(core, name):
        core = dataclasses.replace(core, **{name: changed})
    else:
        outputs = dataclasses.replace(core.outputs, **{name: changed})
        core = dataclasses.replace(core, outputs=outputs)
    cores = (*images.cores[:number], core, *images.cores[number + 1 :])
    wrong = dataclasses.replace(images, cores=cores)
    if not check_images(wrong):
        host = digits_program.circuit.inputs[0]
        x = np.full((1, *digits_program.circuit.input_shape), host.high, np.int32)
        CoreMachine(wrong, threads=1).run(x, [])


def test_energy_is_counted_on_core_images(digits_program, digits_data) -> None:
    x = digits_data.x[:3]
    counted = digits_program.energy(x, on_cores=True)
    measured = digits_program.energy(x)
    assert counted.basis == "counted" and "core images" in counted.banner
    assert counted.counts == pytest.approx(measured.counts, rel=1e-9)
