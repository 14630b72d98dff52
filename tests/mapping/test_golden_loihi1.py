"""Loihi 1's core, against the figures that are known of it (keys davies2018 and
nengo-loihi-nxsdk-threads of SOURCES.md).
"""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.errors import ViolationList
from neurocompile.ir.circuit import LIF, HostInput
from neurocompile.mapping import check_mapping, map_circuit
from neurocompile.mapping.cost import block_list
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import whole
from neurocompile.targets import load_target

LOIHI1 = load_target("loihi1")


def layer(builder, inputs: int, neurons: int):
    """One dense layer of spikes."""
    builder.populations.append(HostInput(name="x", shape=(inputs,), layer="x", low=0, high=1))
    builder.lif("y", (neurons,), 1)
    builder.dense("x", "y", neurons, inputs)
    return builder.build("dense")


@pytest.mark.parametrize(
    ("synapses", "bits", "words"),
    [
        (64, 8, 9),
        (1, 8, 2),
        (65, 8, 11),
        (128, 8, 18),
        (64, 4, 5),
        (64, 1, 2),
        (1024, 8, 144),
        (0, 8, 0),
    ],
)
def test_blocks_of_64_synapses_have_a_header_of_a_word(
    synapses: int, bits: int, words: int
) -> None:
    """64 weights of 8 bits take 576 bits."""
    assert block_list(synapses, bits, LOIHI1.cost, addressed=False) == words


def test_a_core_holds_116480_dense_weights_of_8_bits_and_not_a_block_more(builder) -> None:
    """1,820 blocks of 576 bits in 128 KiB."""
    counter = CostCounter(layer(builder, 1820, 64), LOIHI1)
    usage = counter.usage(whole(counter.on_chip[0]))
    assert usage == Usage(axon_in=1820, neuron_groups=1, neurons=64, synaptic_memory_words=16380)
    assert not usage.excess(LOIHI1)
    more = CostCounter(layer(type(builder)(), 1821, 64), LOIHI1)
    assert [name for name, _, _ in more.usage(whole(more.on_chip[0])).excess(LOIHI1)] == [
        "synaptic_memory_words"
    ]


def test_limits_of_a_core_are_the_published_ones() -> None:
    assert LOIHI1.capacity == {
        "axon_in": 4096,
        "neuron_groups": 8,
        "neurons": 1024,
        "synaptic_memory_words": 16384,
        "axon_memory": 4096,
    }
    assert (LOIHI1.cores, LOIHI1.mesh.columns.value * LOIHI1.mesh.rows.value) == (128, 32)


@pytest.mark.parametrize(
    ("inputs", "neurons", "cores"), [(64, 1024, 1), (64, 1025, 2), (4096, 64, 3), (1820, 64, 1)]
)
def test_dense_layers_take_the_cores_that_the_limits_say(
    builder, inputs: int, neurons: int, cores: int
) -> None:
    """4,096 inputs of 64 neurons: 36,864 words, three cores of at most 27 neurons (5 words an axon
    at 27 x 8 bits).
    """
    circuit = layer(builder, inputs, neurons)
    mapping = map_circuit(circuit, LOIHI1, {})
    assert mapping.cores_used == cores
    assert check_mapping(circuit, mapping, LOIHI1) == []


def test_kernels_are_not_shared_between_positions(builder) -> None:
    """A 3 x 3 convolution takes a list for each input neuron: 64 outputs of 9 positions, with
    addresses.
    """
    builder.populations.append(HostInput(name="x", shape=(3, 3, 1), layer="x", low=0, high=1))
    builder.lif("y", (3, 3, 4), 1)
    builder.conv("x", "y", (4, 3, 3, 1), padding=(1, 1))
    counter = CostCounter(builder.build("conv"), LOIHI1)
    usage = counter.usage(whole(counter.on_chip[0]))
    # corners reach 4 positions, edges 6, the middle 9, of 4 channels each
    lists = {16: 4, 24: 4, 36: 1}
    assert usage.axon_in == sum(lists.values())
    assert usage.synaptic_memory_words == sum(
        n * block_list(k, 8, LOIHI1.cost, addressed=True) for k, n in lists.items()
    )
    assert usage.neurons == 36


def test_every_output_axon_is_listed(builder) -> None:
    """A neuron has an entry for each destination core, the single one too."""
    circuit = layer(builder, 8, 16)
    populations = (*circuit.populations, LIF(name="z", shape=(16,), layer="z", depth=2, vth=1))
    builder.populations[:] = populations
    builder.dense("y", "z", 16, 16)
    mapping = map_circuit(builder.build("two"), LOIHI1, {})
    assert sum(core.used.axon_memory for core in mapping.cores) == 16


def test_graded_signals_are_refused_all_at_once(transformer) -> None:
    """Pixels of 0..255, sums and gates of sums: Loihi 1 sends spikes alone."""
    with pytest.raises(ViolationList) as caught:
        map_circuit(transformer(), LOIHI1, {})
    lines = [
        text
        for code, text in zip(caught.value.codes, caught.value.messages, strict=True)
        if code == "NC3110"
    ]
    assert {line.split("'")[1] for line in lines} == {"x", "b0kv", "b1kv"}
    assert all(
        "Take a target with graded messages" in line and "or use a model" in line for line in lines
    )
    assert np.unique([line.count("\n") for line in lines]).tolist() == [0]
