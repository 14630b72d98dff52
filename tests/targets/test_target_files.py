"""Shipped targets load and carry sources; bad names and bad files give one line of NC3001 or
NC3002.
"""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise

import msgspec
import pytest
import yaml

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.targets import list_targets, load_target
from neurocompile.targets.loader import SIZE_LIMIT, parse_target
from neurocompile.targets.schema import Slot

FILES = resources.files("neurocompile.hw_targets")
SMALL = FILES.joinpath("sim_small.yaml").read_text()


def failure(text: str | bytes) -> str:
    """The message of NC3002 that a file with this text gives; it must be one line."""
    with pytest.raises(NeurocompileError) as caught:
        parse_target(text if isinstance(text, bytes) else text.encode(), "t.yaml")
    assert caught.value.code == "NC3002"
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
    return caught.value.message


def edited(**changes: object) -> str:
    """sim_small with top-level fields changed; dots in keys as double underscores."""
    data = yaml.safe_load(SMALL)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = data
        for key in parents:
            place = place[key]
        place[last] = value
    return yaml.safe_dump(data)


def quantities(value: object) -> list[dict]:
    if isinstance(value, dict):
        return [value] if "source" in value else [q for v in value.values() for q in quantities(v)]
    return []


def test_shipped_targets_load() -> None:
    assert {"loihi2", "sim_small"} <= set(list_targets())
    for name in list_targets():
        assert load_target(name).name == name


def test_loihi2_has_the_recovered_capacities() -> None:
    target = load_target("loihi2")
    assert target.cores == 120
    assert target.capacity == {
        "axon_in": 16000,
        "neuron_groups": 8,
        "neurons": 4096,
        "synaptic_memory_words": 16000,
        "axon_map": 16000,
        "axon_memory": 16000,
        "total": 20000,
    }
    assert (target.delay.max_spike_delay.value, target.delay.graded_delay.value) == (62, False)
    assert target.energy == type(target.energy)()  # nobody published any


def test_every_number_has_a_known_source() -> None:
    keys = set(
        re.findall(r"^\| ([\w.-]+) \|", FILES.joinpath("SOURCES.md").read_text(), re.MULTILINE)
    ) - {"key"}
    found = quantities(yaml.safe_load(FILES.joinpath("loihi2.yaml").read_text()))
    assert len(found) > 20
    for quantity in found:
        known = any(key in quantity["source"] for key in keys)
        assert known or quantity["source"] in ("one chip", "untested upstream"), quantity


def test_made_up_target_says_so() -> None:
    assert "made-up" in load_target("sim_small").description.lower()
    assert {q["status"] for q in quantities(yaml.safe_load(SMALL))} == {"assumed"}


def test_a_file_loads_like_a_shipped_target(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL)
    assert load_target(path) == load_target(str(path)) == load_target("sim_small")


@pytest.mark.parametrize(
    "name", ["loihi", "/no/such/file.yaml", "", "nul\0.yaml", "/tmp", "x" * 5000]
)
def test_unknown_targets_name_the_shipped_ones(name: str) -> None:
    with pytest.raises(NeurocompileError) as caught:
        load_target(name)
    assert caught.value.code == "NC3001"
    assert len(str(caught.value).splitlines()) == 1


def test_a_misspelt_target_gets_a_suggestion() -> None:
    with pytest.raises(NeurocompileError, match="Did you mean 'loihi2'"):
        load_target("lohi2")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"core__neurons__value": "many"}, "$.core.neurons.value"),
        ({"core__neurons__value": 1.5}, "$.core.neurons.value"),
        ({"core__neurons__value": True}, "$.core.neurons.value"),
        ({"core__neurons__value": -1}, "$.core.neurons.value"),
        ({"core__neurons__value": 1 << 80}, "$.core.neurons.value"),
        ({"core__neurons__value": float("nan")}, "$.core.neurons.value"),
        ({"core__neurons__status": "certain"}, "$.core.neurons.status"),
        ({"core__neurons": {"value": 3, "status": "assumed"}}, "source"),
        ({"core__neurons__source": ""}, "$.core.neurons.source"),
        ({"core__speed": 3}, "speed"),
        (
            {"energy": {"packet": {"value": float("nan"), "source": "s", "status": "assumed"}}},
            "$.energy.packet",
        ),
        (
            {"energy": {"packet": {"value": float("inf"), "source": "s", "status": "assumed"}}},
            "$.energy.packet",
        ),
        ({"neuron__threshold__value": [5, 1]}, "$.neuron.threshold"),
        ({"neuron__threshold__value": [5]}, "$.neuron.threshold.value"),
        ({"mesh__cores_usable__value": 17}, "$.mesh"),
        ({"mesh__cores_usable__value": 0}, "$.mesh"),
        ({"cost__word_bits__value": 0}, "$.cost"),
        ({"cost__stored_weight_bits__value": [1, 2]}, "stored_weight_bits"),
        ({"chips__value": 0}, "chips"),
        ({"name": "Not A Name"}, "$.name"),
    ],
)
def test_wrong_fields_are_named(change: dict, where: str) -> None:
    assert where in failure(edited(**change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "[]",
        "a: [",
        "a: 1\na: 2",
        "name: !!python/object/apply:os.system ['true']",
        "a: &x [1, 1]\nb: *x",
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        "[" * 20000,
        "a: " + "9" * 6000,
        "a: 2020-99-99",
        "? [1, 2]\n: 3",
        "? {a: b}\n: 3",
        'name: "\\0\\x1b[31m"',
        b"\xff\xfe\xff",
        b"\0",
        b"#" * (SIZE_LIMIT + 1),
    ],
)
def test_hostile_files_are_refused_in_short_printable_lines(text: str | bytes) -> None:
    with pytest.raises(NeurocompileError) as caught:
        parse_target(text if isinstance(text, bytes) else text.encode(), "t.yaml")
    assert caught.value.code == "NC3002"
    for line in str(caught.value).split("\n"):
        assert (
            line.startswith("NC3002 target file 't.yaml'")
            and line.isprintable()
            and len(line) < 500
        )


def test_slots_are_usable_and_distinct_and_neighbours_are_near() -> None:
    target = load_target("loihi2")
    slots = target.slot_order(1000)
    assert len(set(slots)) == len(slots) == target.cores
    assert all(map(target.usable, slots))
    places = [target.tile_position(slot) for slot in slots]
    assert all(abs(a - c) + abs(b - d) <= 3 for (a, b), (c, d) in pairwise(places))
    assert not target.usable(Slot(0, 7, 3, 3))
    assert not target.usable(Slot(1, 0, 0, 0))
    assert not target.usable(Slot(0, -1, 0, 0))


def test_boards_of_several_chips_have_one_mesh() -> None:
    board = parse_target(edited(chips__value=4, chip_columns__value=2).encode(), "board.yaml")
    assert board.cores == 64
    slots = board.slot_order(board.cores)
    assert len({(*board.tile_position(slot), slot.core) for slot in slots}) == 64
    assert board.tile_position(Slot(3, 1, 1, 0)) == (3, 3)
    assert len(board.slot_order(20)) == 20


def test_schema_round_trips() -> None:
    target = load_target("loihi2")
    assert msgspec.convert(msgspec.to_builtins(target), type(target)) == target


def test_all_that_is_wrong_is_listed_with_path_and_value() -> None:
    changes = {
        "core__neurons__value": 0,
        "core__speed": 3,
        "synapse__weight_bits__value": [4, 2],
        "neuron__state_bits__value": "many",
        "delay__max_spike_delay__value": 0,
        "chips__status": "rumour",
    }
    with pytest.raises(ViolationList) as caught:
        parse_target(edited(**changes).encode(), "t.yaml")
    lines = caught.value.messages
    assert len(lines) == len(changes) and caught.value.code == "NC3002"
    for path, shown in (
        ("$.core.neurons.value", "0"),
        ("$.core.speed", "unknown"),
        ("$.synapse.weight_bits", "4..2"),
        ("$.neuron.state_bits.value", "'many'"),
        ("$.delay.max_spike_delay.value", "0"),
        ("$.chips.status", "'rumour'"),
    ):
        assert sum(path in line and shown in line for line in lines) == 1, (path, lines)


@pytest.mark.parametrize(
    "field",
    [
        "neurons",
        "neuron_groups",
        "synaptic_memory_words",
        "axon_in",
        "axon_map",
        "axon_memory",
        "total",
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_core_without_room_is_refused(field: str, value: int) -> None:
    assert f"$.core.{field}.value is {value}" in failure(edited(**{f"core__{field}__value": value}))
