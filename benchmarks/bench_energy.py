"""Time of counting at 10^7 neurons: a stack of 3x3 convolutions, cut into tiles of rows, one tile a
core.

Run with ``uv run python benchmarks/bench_energy.py [layers]``: counting alone, no emulation.
"""

from __future__ import annotations

import resource
import sys
import time

import msgspec
import numpy as np

from neurocompile.energy.activity import modelled_activity
from neurocompile.energy.counts import count
from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, HostInput
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.mapping import Mapping
from neurocompile.mapping.mapping import CoreUse
from neurocompile.mapping.resources import Usage
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.traffic import Traffic
from neurocompile.targets import load_target

SIDE, CHANNELS = 56, 128


def main(layers: int) -> None:
    """Count and print."""
    shape = (SIDE, SIDE, CHANNELS)
    populations = [HostInput(name="l0", shape=shape, layer="l0", low=0, high=1)]
    populations += [
        LIF(name=f"l{i}", shape=shape, layer=f"l{i}", vth=9, depth=i) for i in range(1, layers + 1)
    ]
    projections = tuple(
        Conv2d(
            name=f"p{i}",
            src=Ref(f"l{i - 1}"),
            dst=Ref(f"l{i}"),
            weight=TensorRef("w"),
            padding=(1, 1),
            delay=1,
        )
        for i in range(1, layers + 1)
    )
    weight = (
        np.random.default_rng(0).integers(-60, 60, (CHANNELS, 3, 3, CHANNELS)).astype(np.int16) * 2
    )
    circuit = CircuitGraph("bench", 4, tuple(populations), projections, (), {"w": weight}, period=4)
    chip = load_target("loihi2")
    board = msgspec.structs.replace(
        chip,
        name="board",
        chips=msgspec.structs.replace(chip.chips, value=1152),
        chip_columns=msgspec.structs.replace(chip.chip_columns, value=36),
    )
    tiles = [
        Tile(f"l{i}", (y, x, 0), (y + 7, x + 7, CHANNELS // 2))
        for i in range(1, layers + 1)
        for y in range(0, SIDE, 7)
        for x in range(0, SIDE, 7)
    ]
    tiles += [
        Tile(t.population, (*t.start[:2], CHANNELS // 2), (*t.stop[:2], CHANNELS)) for t in tiles
    ]
    cores = tuple(
        CoreUse(chip=s.chip, x=s.x, y=s.y, core=s.core, tiles=(t,), used=Usage())
        for s, t in zip(board.slot_order(len(tiles)), tiles, strict=True)
    )
    mapping = Mapping(
        circuit="bench",
        target="board",
        seed=0,
        cores=cores,
        traffic=Traffic(packets=0, local=0, from_host=0, to_host=0, hops=0),
    )
    rates = {p.name: 0.15 for p in populations}
    start = time.perf_counter()
    counts = count(circuit, mapping, board, modelled_activity(circuit, rates, "bench"))
    seconds, peak = (
        time.perf_counter() - start,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )
    neurons = layers * SIDE * SIDE * CHANNELS
    synapses = neurons * 9 * CHANNELS
    print(
        f"{neurons:,} neurons, about {synapses:,} synapses, {len(cores):,} cores: {seconds:.1f} s, {peak:.2f} GiB"
    )
    print(
        f"{counts.total('acs') + counts.total('macs'):,.0f} operations, {counts.total('packets'):,.0f} packets"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
