"""The mapping stage alone at scale: cores against the lower bound, packets, seconds and peak
memory.

    OMP_NUM_THREADS=1 python benchmarks/bench_mapping_scale.py MODEL --target hala_point [--T N]

MODEL is a file of `neurocompile.export_onnx`, or the name of a reference model (`qkformer-4-384`),
which a process of its own then exports with random weights: cores depend on them only in residuals
of real values, and every rate counts as 1 (the most packets that a step can have). Import,
quantization and lowering are not timed here. ``--images`` writes the images of all cores too;
``--first`` takes the first packing for that, neither annealed nor placed by traffic: images take as many
bytes and seconds. Each image is counted against what the mapper charged.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_models import child

from neurocompile.calibration import calibration_from_metadata, calibration_from_weights
from neurocompile.errors import NeurocompileError
from neurocompile.images.build import ImageBuilder
from neurocompile.images.file import save_images
from neurocompile.images.image import CoreImage
from neurocompile.images.size import image_usage
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping import Mapping, map_circuit
from neurocompile.mapping.fit import ROOM
from neurocompile.mapping.mapping import placed_on
from neurocompile.mapping.packing import hypergraph, in_order, pack, ready_order
from neurocompile.mapping.partition import Style, partition
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile_graph import make_tile_graph
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.quantize import Quantize
from neurocompile.pipeline import build_circuit, import_model
from neurocompile.targets import Target, load_target


def first_packing(circuit: CircuitGraph, target: Target) -> Mapping:
    """A mapping without any search: cut, packed in order, on places in order."""
    counter, style = CostCounter(circuit, target), Style(1.1, 1, None, room=ROOM)
    parts = partition(counter, {}, style)
    held = [item for tiles in parts.values() for item in tiles]
    graph = make_tile_graph(counter, [tile for tile, _ in held], {})
    packed = pack(hypergraph(graph, [used for _, used in held], None), ready_order(graph), ROOM)
    order = np.argsort(packed, kind="stable")
    core_of = in_order(packed[order])
    graph = make_tile_graph(counter, [held[i][0] for i in order], {})
    slots = target.slot_order(int(core_of[-1]) + 1)
    return placed_on(graph, core_of, slots, {}, seed=0, method="packed", spikes_per_core_step=None)


class CountedBuilder(ImageBuilder):
    """Counts the cores whose image takes other resources than the mapper charged."""

    wrong = 0

    def core(self, number: int) -> CoreImage:
        image = super().core(number)
        used = self.mapping.cores[number].used
        self.wrong += image_usage(image, self.counter.target) != used
        return image


def main() -> int:
    """Exit code 1 if cores exceed 1.15 of the bound or an image is not what was counted, 2 if the model does not fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--target", default="hala_point")
    parser.add_argument("--T", type=int, default=4)
    parser.add_argument("--images", action="store_true", help="write the images of all cores too")
    parser.add_argument("--first", action="store_true", help="take the first packing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(arguments.model)
        if file.suffix != ".onnx":
            file = Path(folder) / "model.onnx"
            child("export", arguments.model, file)
        loaded, imported = import_model(file, arguments.T)
    statistics = calibration_from_metadata(loaded.metadata) or calibration_from_weights(arguments.T)
    target = load_target(arguments.target)
    circuit = build_circuit(
        Quantize(arguments.T, statistics, 8)(canonicalize(imported.graph)), arguments.T, 8, target
    )
    neurons = sum(p.size for p in circuit.populations)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{circuit.name}: {neurons:,} neurons in {len(circuit.populations)} populations; {before:,} MiB so far",
        flush=True,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        mapping = (
            first_packing(circuit, target) if arguments.first else map_circuit(circuit, target, {})
        )
    except NeurocompileError as error:
        print(f"{time.perf_counter() - wall:.1f} s\n{error}")
        return 2
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ratio, chips = (
        mapping.cores_used / mapping.lower_bound,
        len({core.chip for core in mapping.cores}),
    )
    print(
        f"{mapping.cores_used:,} cores on {chips:,} chips, at least {mapping.lower_bound:,} ({ratio:.3f}); {mapping.method}"
    )
    t = mapping.traffic
    print(
        f"a step at rate 1: {t.packets:,.0f} packets, {t.chip_packets:,.0f} of them between chips, {t.local:,.0f} local"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{wall:.1f} s ({cpu:.1f} s CPU), peak {peak:,} MiB with the model")
    if arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            written = Path(folder) / "all.nci"
            builder = CountedBuilder(circuit, mapping, target)
            save_images(builder, written, progress=True)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            size = written.stat().st_size
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"images of all cores: {size:,} bytes in {wall:.1f} s ({cpu:.1f} s CPU), peak {after:,} MiB ({peak:,} before); "
            f"{builder.wrong} cores take other resources than counted"
        )
        if builder.wrong:
            return 1
    return int(ratio > 1.15)


if __name__ == "__main__":
    sys.exit(main())
