"""Populations of equal parameters are one neuron group of a core, and no others."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neurocompile
from neurocompile.ir.circuit import LIF, GradedRelay, GradedRelu, HostInput, Population
from neurocompile.ir.text import TensorRef
from neurocompile.mapping.mapping import check_mapping, map_circuit
from neurocompile.mapping.neuron_groups import group_form, side_by_side
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile
from neurocompile.targets import load_target

LOIHI2, LOIHI1, SMALL = (load_target(name) for name in ("loihi2", "loihi1", "sim_small"))
ONE = LIF(name="a", shape=(3, 2), layer="a", depth=1, vth=9, dv=7, bias=TensorRef("b"), reset=True)
PERIOD = 4


def form(population: Population, **changes: object) -> object:
    """Of a population with some fields changed."""
    return group_form(dataclasses.replace(population, **changes), PERIOD, True, False, False)


@pytest.mark.parametrize(
    "changes",
    [{"vth": 10}, {"dv": 8}, {"du": 0}, {"bias_exp": 1}, {"reset": False}, {"depth": 2}],
    ids=str,
)
def test_a_register_of_its_own_is_a_group_of_its_own(changes: dict[str, object]) -> None:
    assert form(ONE, **changes) != form(ONE)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "b", "layer": "b"},
        {"shape": (5,)},
        {"bias": TensorRef("c")},
        {"depth": 1 + 3 * PERIOD},  # the same step of the period before which it is reset
        {"slots": ((2, 1),)},
        {"largest": 9},
    ],
    ids=str,
)
def test_what_differs_from_neuron_to_neuron_is_no_group(changes: dict[str, object]) -> None:
    assert form(ONE, **changes) == form(ONE)


def test_every_field_of_a_neuron_is_a_register_or_named_here() -> None:
    """A field that a LIF gets one day has to be one of both."""
    own = {"name", "shape", "layer", "depth", "largest", "slots", "bias", "reset"}
    registers = set(type(form(ONE))._fields)
    assert {f.name for f in dataclasses.fields(LIF)} - own <= registers


def test_kinds_and_output_tables_are_groups_of_their_own() -> None:
    relay, relu = (kind(name="r", shape=(4,), layer="r") for kind in (GradedRelay, GradedRelu))
    assert form(relay) == form(relay, depth=9, shape=(1,)) != form(relu)
    ends = [(True, False, False), (False, True, False), (True, True, False), (True, False, True)]
    assert len({group_form(ONE, PERIOD, *end) for end in ends}) == 4


def test_biases_that_are_none_need_no_exponent() -> None:
    assert form(ONE, bias=None, bias_exp=3) == form(ONE, bias=None)


def lines(builder, thresholds: list[int]):
    """A population of four neurons for each threshold, all driven by the host."""
    builder.populations.append(HostInput(name="x", shape=(4,), layer="x", low=0, high=1))
    for i, vth in enumerate(thresholds):
        builder.lif(f"p{i}", (4,), 1)
        builder.populations[-1] = dataclasses.replace(builder.populations[-1], vth=vth)
        builder.strided("x", f"p{i}", (4,), (1,), (1,))
    return builder.build("lines")


@pytest.mark.parametrize("target", [LOIHI2, LOIHI1], ids=lambda t: t.name)
def test_a_core_holds_any_number_of_equal_populations(builder, target) -> None:
    """40 lines of one threshold are one group; 20 thresholds are three cores of 8 at least."""
    circuit = lines(builder, [7] * 40)
    mapping = map_circuit(circuit, target, {})
    assert [core.used.neuron_groups for core in mapping.cores] == [1]
    assert check_mapping(circuit, mapping, target) == []


def test_different_thresholds_bound_the_cores(builder) -> None:
    circuit = lines(builder, [7 + i % 20 for i in range(60)])
    counter = CostCounter(circuit, LOIHI2)
    assert counter.shortages()["neuron_groups"] == (20, 3)
    assert counter.largest_layer("neuron_groups") == ("p0", 1)
    mapping = map_circuit(circuit, LOIHI2, {})
    assert mapping.cores_used == mapping.lower_bound == 3
    assert max(core.used.neuron_groups for core in mapping.cores) <= 8


def test_a_target_that_does_not_say_so_shares_no_group(builder) -> None:
    """As artifacts of before, which carry their target."""
    circuit = lines(builder, [7] * 10)
    assert CostCounter(circuit, SMALL).shortages()["neuron_groups"] == (10, 3)
    alone = LOIHI2.core.__struct_fields__
    assert "shared_groups" in alone and SMALL.core.shared_groups is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=30))
def test_tiles_of_a_group_lie_side_by_side(drawn: list[tuple[int, int]]) -> None:
    tiles = [Tile(f"p{g}", (i,), (i + 1,)) for g, i in drawn]
    group_of = {f"p{g}": g // 2 for g in range(5)}
    found = side_by_side(tiles, group_of)
    groups = np.array([group_of[t.population] for t in found], dtype=int)
    runs = 1 + int(np.count_nonzero(np.diff(groups))) if tiles else 0
    assert runs == len(set(groups.tolist())) and found[:1] == tuple(tiles[:1])
    for group in set(groups.tolist()):  # in the order of before
        of_group = [t for t in tiles if group_of[t.population] == group]
        assert [t for t in found if group_of[t.population] == group] == of_group


@pytest.mark.slow
def test_lines_of_a_fine_fold_fill_few_cores() -> None:
    """The digits' Meta-SpikeFormer at `1x8` is 640 small populations, most of them
    relays: 81 cores where each is a group of its own. Core images equal the definition.
    """
    pytest.importorskip("sklearn")
    from neurocompile.models.zoo.digits.card import HERE, held_out

    program = neurocompile.compile(HERE / "meta_spikeformer.onnx", fold="1x8")
    circuit, target = program.circuit, program.target
    alone = msgspec.structs.replace(
        target, core=msgspec.structs.replace(target.core, shared_groups=None)
    )
    assert len(circuit.populations) > 600
    assert CostCounter(circuit, alone).shortages()["neuron_groups"][1] >= 80
    assert program.mapping.cores_used <= 14
    assert program.parity(held_out("meta_spikeformer")[0][:2], against=["cores"]).exact
