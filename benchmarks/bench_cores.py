"""Backend ``cores`` beside the emulator: processor time of the same samples in the same process, in turn.

    NUMBA_NUM_THREADS=1 python benchmarks/bench_cores.py OUT.nca --input X.npz [--samples 64]

One thread each. ``all``: every population is recorded, as `parity` does; ``last``: the output alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import neurocompile
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.images.build import build_images
from neurocompile.images.machine import CoreMachine


def spent(work: Callable[[], Any]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program")
    parser.add_argument("--input", required=True, help="npz with x (samples, *input shape)")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    program = neurocompile.load(arguments.program)
    with np.load(arguments.input) as held:
        x = encode(program.circuit, held["x"][: arguments.samples])
    images = build_images(program.circuit, program.mapping, program.target)
    machine = CoreMachine(images, threads=1)
    counted = machine.count(x)
    print(
        f"{len(images.cores)} cores, {len(x)} samples; {counted.sent[1].sum():,} messages, "
        f"{counted.operations[1].sum():,} synapses met"
    )
    last = [program.circuit.populations[-1].name]
    with Emulator().open(program.circuit) as emulator:
        for name, record in (("all", None), ("last", last)):
            expected, found = emulator.run(x, record), machine.run(x, record)
            assert all(np.array_equal(found[key], expected[key]) for key in expected)
            pairs = [
                (
                    spent(lambda r=record: emulator.run(x, r)),
                    spent(lambda r=record: machine.run(x, r)),
                )
                for _ in range(arguments.rounds)
            ]
            ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(
                f"{name:>4}: emulator {ours:.4f} s, cores {theirs:.4f} s, {theirs / ours:.1f} times"
            )


if __name__ == "__main__":
    main()
