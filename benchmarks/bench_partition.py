"""Partitioning: packets between cores (connectivity, km1) of our mapper and of its peers, in one
run.

    OMP_NUM_THREADS=1 python benchmarks/bench_partition.py [--models FILE.onnx ...]

First the instance of 10,240 groups (655,360 neurons, benchmarks/instances.py) at 128 cores with 3%
imbalance: at most 43,400 in 5 s CPU. Then compiled models under every capacity of a Loihi 2 core:
packets an inference, against the best peer. Partitioners do not cut populations, so each peer is
run twice: on tiles cut only as far as a core demands, and on ours (whichever of the ways to cut
that ours tries is best for that peer). "A core a layer, halved until it fits" has its own. Cores
are as many as each peer needs, ours as many as ours needs; METIS and mt-KaHyPar get as many as
ours, or as the tiles need.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from baselines import creation_order, greedy_growth, kahypar, metis
from instances import transformer_groups

import neurocompile
from neurocompile.mapping import packing
from neurocompile.mapping.fit import ways_of
from neurocompile.mapping.output_lists import no_lists
from neurocompile.mapping.packing import hypergraph
from neurocompile.mapping.partition import Style, partition
from neurocompile.mapping.refine import Hypergraph, km1, refine
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, cut, whole
from neurocompile.mapping.tile_graph import make_tile_graph
from neurocompile.program import Program

CORES, LIMIT, LIMIT_SECONDS = 128, 43_400, 5.0
ZOO = Path(__file__).resolve().parents[1] / "models" / "zoo"


def main() -> int:
    """Exit code 1 if ours misses the limits of the instance, or is on some model not 20% below the
    best peer that has tiles of its own (the table says how far below the best peer that has
    ours)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[ZOO / "qkformer_digits" / "qkformer.onnx"]
    )
    parser.add_argument("--target", default="loihi2")
    arguments = parser.parse_args()
    good = instance()
    for path in arguments.models:
        good &= compare(neurocompile.compile(path, target=arguments.target, T=4))
    return 0 if good else 1


def instance() -> bool:
    """The 655k-neuron instance."""
    groups = transformer_groups()
    nets, weights = groups.net_lists()
    offsets = np.zeros(len(nets) + 1, dtype=np.int64)
    np.cumsum([len(n) for n in nets], out=offsets[1:])
    most = int(groups.vertices / CORES * 1.03)
    graph = Hypergraph(
        offsets,
        np.concatenate(nets).astype(np.int32),
        np.array(weights, dtype=np.float64),
        np.ones((groups.vertices, 1), dtype=np.int64),
        np.array([most], dtype=np.int64),
        np.zeros(groups.vertices, np.int32),
        1,
    )
    order = np.arange(groups.vertices) * CORES // groups.vertices

    def report(name: str, run: Callable[[], np.ndarray | None]) -> tuple[float, float]:
        start = time.process_time()
        block = run()
        seconds = time.process_time() - start
        if block is None:
            print(f"{name:<44} breaks the balance")
            return np.inf, seconds
        size = np.bincount(block, minlength=CORES)
        cost = km1(graph, block)
        print(
            f"{name:<44} km1 {cost:>9,.0f}   fullest {size.max() / size.mean():.3f}   {seconds:5.2f} s CPU",
            flush=True,
        )
        return cost if size.max() <= most and len(size) == CORES else np.inf, seconds

    def ours(steps: int, seed: int) -> np.ndarray:
        return refine(graph, order, CORES, steps=steps, hot=3.0, cold=0.1, seed=seed)

    print(
        f"{groups.vertices:,} groups of 64 neurons, {len(nets):,} nets onto {CORES} cores of at most {most} groups"
    )
    report("random", lambda: np.random.default_rng(0).permutation(order))
    report("creation order", lambda: order)
    report("greedy growth (nengo-loihi)", lambda: greedy_growth(graph))
    report("METIS, edge cut", lambda: metis(graph, CORES))
    report("mt-KaHyPar, deterministic, km1", lambda: kahypar(graph, CORES, imbalance=0.03))
    ours(1000, 0)  # compiled once
    found = [
        report(f"ours, from creation order, seed {seed}", lambda s=seed: ours(40_000_000, s))
        for seed in range(3)
    ]
    worst, slowest = max(c for c, _ in found), max(s for _, s in found)
    print(
        f"worst {worst:,.0f} (at most {LIMIT:,}), slowest {slowest:.2f} s (at most {LIMIT_SECONDS} s)"
    )
    return worst <= LIMIT and slowest <= LIMIT_SECONDS


def compare(program: Program) -> bool:
    """A compiled model."""
    counter, rates, T = (
        CostCounter(program.circuit, program.target),
        program.manifest.rates,
        program.manifest.options.T,
    )
    print(
        f"\n{program.circuit.name} on {program.target.name}: packets an inference ({T} steps), cores"
    )
    own = program.mapping.cores_used
    to_fit: dict[str, tuple[float, int]] = {}
    finer: dict[str, tuple[float, int]] = {}
    alike: list[tuple[float, int]] = []
    ways = ways_of(counter)
    for fineness, pairs in ways:
        parts = partition(counter, rates, Style(1.1, fineness, None, pairs))
        graph = make_tile_graph(
            counter, [tile for found in parts.values() for tile, _ in found], rates
        )
        problem = hypergraph(graph, [usage for found in parts.values() for _, usage in found], None)
        problem = bounded(problem)
        ordered = creation_order(problem)
        for name, block in (
            ("creation order", ordered),
            ("greedy growth (nengo-loihi)", greedy_growth(problem)),
            ("METIS, edge cut, repaired", first(lambda n, p=problem: metis(p, n), own, ordered)),
            ("mt-KaHyPar km1, repaired", first(lambda n, p=problem: kahypar(p, n), own, ordered)),
        ):
            if block is None:
                continue
            cores = int(block.max()) + 1
            packets = graph.flows(block, cores).between * T
            if name.startswith("greedy"):  # its cores, which are more than ours, refined by us
                steps = min(packing.MOST_STEPS, packing.STEPS * problem.vertices)
                found = refine(
                    problem, block, cores, steps=steps, hot=packing.HOT, cold=packing.COLD, seed=0
                )
                alike.append((graph.flows(found, cores).between * T, cores))
            if (fineness, pairs) == ways[0]:
                to_fit[name] = packets, cores
            finer[name] = min(finer.get(name, (np.inf, 0)), (packets, cores))
    tiles = halved(counter)
    graph = make_tile_graph(counter, tiles, rates)
    alone = "a core a layer, halved until it fits"
    to_fit[alone] = finer[alone] = (
        graph.flows(np.arange(len(tiles)), len(tiles)).between * T,
        len(tiles),
    )
    none = np.inf, 0
    print(f"{'':<40} {'tiles cut to fit':>22} {'our tiles':>22}")
    for name in finer:
        cells = [
            f"{packets:>13,.0f} {cores:>8,}" if cores else "breaks a limit"
            for packets, cores in (to_fit.get(name, none), finer[name])
        ]
        print(f"{name:<40} {cells[0]:>22} {cells[1]:>22}")
    mine = program.mapping.traffic.packets * T
    print(
        f"{'ours: ' + program.mapping.method:<63} {mine:>13,.0f} {own:>8,} (at least {program.mapping.lower_bound:,}), "
        f"{program.seconds['map']:.1f} s"
    )
    packets, cores = min(alike)
    print(f"{'ours, with the cores of greedy growth':<63} {packets:>13,.0f} {cores:>8,}")
    best, level = (min(packets for packets, _ in peers.values()) for peers in (to_fit, finer))
    print(
        f"{1 - mine / best:.0%} below the best peer on tiles cut to fit, {1 - mine / level:.0%} below the best on our tiles "
        f"({1 - packets / level:.0%} with the cores of greedy growth)"
    )
    return mine <= 0.8 * best


def bounded(problem: Hypergraph) -> Hypergraph:
    """With output lists as if every consumer had a core of its own: peers know fixed weights alone."""
    takes = problem.takes.copy()
    takes[:, problem.lists.columns] += problem.lists.bound(problem.vertices)[:, None]
    return replace(problem, takes=takes, lists=no_lists())


def first(
    run: Callable[[int], np.ndarray | None], own: int, ordered: np.ndarray
) -> np.ndarray | None:
    """The peer's assignment to as many cores as ours, or else to as many as creation order needs."""
    found = run(own)
    return run(int(ordered.max()) + 1) if found is None else found


def halved(counter: CostCounter) -> list[Tile]:
    """Every population alone on a core, cut in two along its longest axis until each part fits
    (output lists left out).
    """
    tiles = []
    for population in counter.on_chip:
        todo = [whole(population)]
        while todo:
            tile = todo.pop()
            if not counter.usage(tile).excess(counter.target) or tile.size == 1:
                tiles.append(tile)
                continue
            axis = int(np.argmax(tile.shape))
            for a, b in cut(tile.shape[axis], 2):
                start, stop = list(tile.start), list(tile.stop)
                start[axis], stop[axis] = tile.start[axis] + a, tile.start[axis] + b
                todo.append(Tile(tile.population, tuple(start), tuple(stop)))
    return tiles


if __name__ == "__main__":
    sys.exit(main())
