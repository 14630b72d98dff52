"""The published utilization tables of Intel's compiler (hw_targets/SOURCES.md,
lava-utilization-tables).
"""

from __future__ import annotations

import pytest
from mask_traffic import axon_lists

from neurocompile.ir.circuit import LIF, HostInput
from neurocompile.mapping.cost import convolution_row
from neurocompile.mapping.mapping import map_circuit
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile, whole
from neurocompile.mapping.traffic import home_cores
from neurocompile.targets import load_target

LOIHI2 = load_target("loihi2")

# (layer, inputs, neurons of each core, weight bits, words: published average or maximum of a core)
DENSE = [
    ("Oxford L2 uncut", 256, [200], 7, 16128),
    ("Oxford L1 uncut", 200, [256], 8, 16200),
    ("Oxford L2, 2 cores", 256, [102, 98], 7, 8064),
    ("Oxford L1, 3 cores", 200, [86, 85, 85], 8, 5400),
    ("PilotNet SDNN, 12 cores", 2560, [9] * 11 + [1], 4, 7253),
    ("PilotNet SNN, 12 cores", 2560, [9] * 11 + [1], 3, 7253),
    ("PilotNet SDNN 100 x 50", 100, [50], 6, 1500),
    ("PilotNet SNN 100 x 50", 100, [50], 4, 1300),
    ("PilotNet 50 x 10", 50, [10], 5, 150),
    ("PilotNet SDNN 10 x 1", 10, [1], 4, 10),
    ("PilotNet SNN 10 x 1", 10, [1], 6, 10),
    ("MNIST 64 x 10", 64, [10], 8, 256),
    ("MNIST 128 x 64", 128, [64], 8, 2688),
    ("MNIST 784 x 128, largest of 3 cores", 784, [50], 8, 12544),
]

# (layer, usage, published total in percent of 20,000)
TOTALS = [
    ("MNIST output", Usage(64, 1, 10, 256, 10, 0), 1.71),
    ("MNIST hidden", Usage(128, 1, 64, 2688, 64, 0), 14.72),
    ("MNIST input", Usage(784, 1, 50, 12544, 50, 0), 67.14),
    ("YOLO-KP 8 x 7 x 64", Usage(2, 1, 3585, 13824, 56, 28), 87.47),
    ("YOLO-KP 4 x 14 x 48", Usage(2, 2, 2689, 3072, 2688, 0), 42.26),
    ("YOLO-KP 2 x 7 x 256", Usage(2, 1, 3585, 10752, 14, 56), 72.04),
    ("YOLO-KP 8 x 28 x 16", Usage(2, 1, 3585, 54, 224, 112), 19.88),
]

# (kernel rows, channels of the tile, words of a row that the table shows, weight bits that give
# them)
CONVOLUTION = [
    (512, 48, 6, [7]),
    (2304, 64, 6, [5]),
    (512, 256, 21, [5]),
    (2304, 64, 5, [4]),
    (1152, 128, 11, [5]),
    (576, 128, 11, [5]),
    (288, 64, 6, [5]),
    (144, 32, 4, [6, 7]),
    (27, 16, 2, [4, 5, 6, 7]),
]


def dense_layer(builder, inputs: int, neurons: int, bits: int) -> CostCounter:
    builder.populations.append(HostInput(name="x", shape=(inputs,), layer="x", low=0, high=1))
    builder.lif("y", (neurons,), 1)
    builder.dense("x", "y", neurons, inputs, bits)
    return CostCounter(builder.build("layer"), LOIHI2)


@pytest.mark.parametrize(
    ("layer", "inputs", "cores", "bits", "words"), DENSE, ids=[case[0] for case in DENSE]
)
def test_dense_rows(
    builder, layer: str, inputs: int, cores: list[int], bits: int, words: int
) -> None:
    counter = dense_layer(builder, inputs, sum(cores), bits)
    found, start = [], 0
    for neurons in cores:
        usage = counter.usage(Tile("y", (start,), (start + neurons,)))
        assert (usage.axon_in, usage.neurons, usage.neuron_groups) == (inputs, neurons, 1)
        found.append(usage.synaptic_memory_words)
        start += neurons
    assert abs(sum(found) / len(found) - words) < 1


@pytest.mark.parametrize(("layer", "usage", "percent"), TOTALS, ids=[case[0] for case in TOTALS])
def test_totals(layer: str, usage: Usage, percent: float) -> None:
    limit = LOIHI2.capacity["total"]
    assert abs(100 * usage.total / limit - percent) < 0.011


@pytest.mark.parametrize(("rows", "channels", "words", "bits"), CONVOLUTION)
def test_convolution_rows(rows: int, channels: int, words: int, bits: list[int]) -> None:
    assert [b for b in range(1, 9) if convolution_row(channels, b, LOIHI2.cost) == words] == bits


def test_mnist_network_reproduces_its_three_rows(builder) -> None:
    """784 -> 128 on three cores of 50, 50 and 28, 64 and 10 on one core each: every column of the
    published table.
    """
    builder.populations.append(HostInput(name="x", shape=(784,), layer="x", low=0, high=1, depth=0))
    for i, (name, size, src, inputs) in enumerate(
        [("a", 128, "x", 784), ("b", 64, "a", 128), ("c", 10, "b", 64)]
    ):
        builder.lif(name, (size,), i + 1)
        builder.dense(src, name, size, inputs)
    counter = CostCounter(builder.build("mnist"), LOIHI2)
    cores = [[Tile("a", (0,), (50,))], [Tile("a", (50,), (100,))], [Tile("a", (100,), (128,))]]
    cores += [[whole(counter.circuit.population[name])] for name in "bc"]
    homes = home_cores(cores)
    rows = []
    for (tile,) in cores:
        entries = axon_lists(counter, tile.population, homes).entries(tile)
        rows.append((*counter.usage(tile).values()[:-1], entries))
    assert rows[0] == rows[1] == TOTALS[2][1].values()
    assert rows[3] == TOTALS[1][1].values()
    assert rows[4] == TOTALS[0][1].values()
    # A uncut layer exceeds the memory, so the mapper cuts it too: into 3, as published.
    mapping = map_circuit(counter.circuit, LOIHI2, {})
    assert sum(any(tile.population == "a" for tile in core.tiles) for core in mapping.cores) == 3


@pytest.mark.parametrize(
    ("shape", "inputs", "kernel", "bits", "published"),
    [
        ((8, 7, 64), 256, 3, 5, TOTALS[3][1]),
        ((4, 14, 48), 512, 1, 7, TOTALS[4][1]),
        ((2, 7, 256), 512, 1, 5, TOTALS[5][1]),
        ((8, 28, 16), 3, 3, 5, TOTALS[6][1]),
    ],
)
def test_convolution_tiles(
    builder, shape, inputs: int, kernel: int, bits: int, published: Usage
) -> None:
    """Neurons, memory and axon map as published; input axons are our bound (positions seen) of the
    published 2.
    """
    pad = kernel // 2
    builder.populations.append(
        HostInput(name="x", shape=(*shape[:2], inputs), layer="x", low=0, high=1)
    )
    builder.populations.append(LIF(name="y", shape=shape, layer="y", vth=1))
    builder.conv("x", "y", (shape[2], kernel, kernel, inputs), padding=(pad, pad), weight_bits=bits)
    to_neurons = published.axon_map == shape[0] * shape[1] * shape[2]
    builder.populations.append(LIF(name="z", shape=(1,) if to_neurons else shape, layer="z", vth=1))
    if to_neurons:
        builder.dense("y", "z", 1, shape[0] * shape[1] * shape[2])
    else:
        builder.conv("y", "z", (shape[2], 1, 1, shape[2]))
    counter = CostCounter(builder.build("yolo"), LOIHI2)
    usage = counter.usage(whole(counter.circuit.population["y"]))
    assert usage.neurons == published.neurons
    assert usage.synaptic_memory_words == published.synaptic_memory_words
    assert usage.axon_map == published.axon_map
    assert published.axon_in <= usage.axon_in <= shape[0] * shape[1]
