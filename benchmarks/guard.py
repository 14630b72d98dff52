"""Guards the compiled kernels: how many times faster each is than plain numpy doing the same work, in
one process and taking turns, so that a slow or shared machine slows both.

    python benchmarks/guard.py [--repeats 5]

Prints one JSON object; ends with 1 where a ratio is below its limit, which is a third to a half of
what was measured: a kernel that stopped being compiled, vectorized or event-driven falls far below
it, a busy machine does not. Times are processor times of one thread, the least of the repeats.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LIMITS = {"emulator": 1.0, "folded": 0.16, "quick": 0.8, "annealing": 1.0, "atoms": 1.0}
"""Least ratio of each; ``folded`` is the unfolded run's time over the folded one's."""


def least(pair: tuple[Callable[[], Any], Callable[[], Any]], repeats: int) -> tuple[float, float]:
    """Least processor time of both, taking turns."""
    found = [float("inf")] * 2
    for call in pair:
        call()  # compiled and in the cache
    for _ in range(repeats):
        for i, call in enumerate(pair):
            start = time.thread_time()
            call()
            found[i] = min(found[i], time.thread_time() - start)
    return found[0], found[1]


def emulator() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A layer of LIF neurons that 512 inputs reach, 10 % of them in a step: numpy adds the rows."""
    from neurocompile.backends.emulator import Emulator
    from neurocompile.ir import circuit as c
    from neurocompile.ir.text import Ref, TensorRef

    rng, n, steps = np.random.default_rng(0), 512, 100
    weight = (2 * rng.integers(-60, 61, (n, n))).astype(np.int16)
    circuit = c.CircuitGraph(
        "guard",
        steps,
        (
            c.HostInput(name="x", shape=(n,), layer="x", low=0, high=1, stepwise=True),
            c.LIF(name="y", shape=(n,), layer="y", vth=2000, dv=2048, reset=True),
        ),
        (c.Dense(name="x>y", src=Ref("x"), dst=Ref("y"), weight=TensorRef("w")),),
        (),
        {"w": weight},
    )
    x = (rng.random((1, steps, n)) < 0.1).astype(np.int32)
    executor = Emulator(1).open(circuit)
    rows = np.ascontiguousarray(weight.T, np.int32)

    def plain() -> None:
        voltage = np.zeros(n, np.int32)
        for step in x[0]:
            voltage = voltage // 2 + rows[np.flatnonzero(step)].sum(axis=0)
            voltage[voltage > 2000] = 0

    return lambda: executor.run(x, ["y"]), plain


def digits() -> Any:
    """The smallest QKFormer of the zoo, as a quantized graph and what was before."""
    from pathlib import Path

    import neurocompile.models.zoo as zoo

    import neurocompile

    path = Path(zoo.__file__).parent / "qkformer_digits" / "qkformer.onnx"
    return neurocompile.open(str(path), target="loihi2").canonical()


def folded() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The folded run of a model, beside its unfolded one."""
    from neurocompile.backends.emulator import Emulator

    quantized = digits().quantize()
    runs = []
    for fold in ("1x4", "none"):
        circuit = quantized.lower(fold=fold).circuit
        host = circuit.inputs[0]
        x = np.random.default_rng(1).integers(host.low, host.high + 1, (20, *circuit.input_shape))
        x = x.astype(np.int32)
        executor, out = Emulator(1).open(circuit), [circuit.readouts[0].src]
        runs.append(lambda e=executor, x=x, out=out: e.run(x, out))
    return runs[0], runs[1]


def quick() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The float evaluation of calibration beside the definition's."""
    from neurocompile.ir.evaluate import evaluate
    from neurocompile.ir.quick import for_samples

    graph = digits().graph
    x = np.random.default_rng(1).random((16, *graph.input.sample_shape)).astype(np.float32)
    names = [n.name for n in graph.spiking_layers]

    def ours() -> None:
        list(for_samples(graph, x, 4, names, lambda found: None, threads=1))

    return ours, lambda: evaluate(graph, x, 4, names)


def annealing() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Swaps of places on a mesh, beside as many sums of distances by numpy."""
    from neurocompile.mapping.placement import Matrix, anneal_places

    n, swaps = 100, 20_000
    places = np.array([(i % 10, i // 10) for i in range(n)])
    apart = np.array([-44, -33, -17, -10, 10, 17, 33, 44])  # each with its opposite: symmetric
    columns = np.sort((np.arange(n)[:, None] + apart) % n, axis=1)
    offsets = np.arange(n + 1) * 8
    matrix = Matrix(offsets, columns.ravel(), np.ones(8 * n, np.int64), 1.0)

    def plain() -> None:
        at = np.arange(n)
        for swap in range(swaps // 10):
            a, b = swap % n, (7 * swap + 3) % n
            for core in (a, b):
                np.abs(places[at[columns[core]]] - places[at[core]]).sum()
            at[a], at[b] = at[b], at[a]

    return lambda: anneal_places(matrix, places, n, None, 0, swaps), plain


def atoms() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Which neurons of tiles have the same consumers, beside numpy on every neuron."""
    from itertools import product

    from neurocompile.mapping.atoms import make_atoms
    from neurocompile.mapping.tile import Tile

    size, channels = 32, 64
    shape, halves = (
        (size, size, channels),
        (slice(0, channels // 2), slice(channels // 2, channels)),
    )
    reads = []
    for i, j, half in product(range(0, size, 4), range(0, size, 4), halves):
        rows, columns = (np.arange(max(a - 1, 0), min(a + 5, size)) for a in (i, j))
        reads.append((rows, columns, np.arange(channels)[half]))
    reaches = [
        (number, {(axis,): index for axis, index in enumerate(read)})
        for number, read in enumerate(reads)
    ]
    tiles = [Tile("p", (i, 0, 0), (i + 2, size, channels)) for i in range(0, size, 2)]
    words = np.random.default_rng(0).integers(0, 1 << 62, len(reads))

    def plain() -> None:
        held = np.zeros(shape, np.int64)
        for read, word in zip(reads, words, strict=True):
            held[np.ix_(*read)] ^= word
        for tile in tiles:
            np.unique(held[tile.slices], return_counts=True)

    return lambda: make_atoms(shape, reaches).inside(tiles, keep=False), plain


SUBJECTS = {
    "emulator": emulator,
    "folded": folded,
    "quick": quick,
    "annealing": annealing,
    "atoms": atoms,
}


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Ratio and limit of each."""
    found = {}
    for name, make in SUBJECTS.items():
        ours, plain = least(make(), repeats)
        found[name] = {"ratio": plain / ours, "limit": LIMITS[name]}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    found = measure(parser.parse_args().repeats)
    print(json.dumps(found, indent=1))
    if any(one["ratio"] < one["limit"] for one in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
