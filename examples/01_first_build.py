"""First build: a trained QKFormer to one Loihi 2 chip, executed by Lava, spike for spike.

    uv run --no-dev --extra lava --extra plot python examples/01_first_build.py [--output FOLDER]

Compiles the shipped model, runs its 360 held-out images on the emulator, checks every population,
sample and step against the quantized model's definition and against Lava's process models, and
draws a spike raster and the chip's cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import neurocompile
from neurocompile.report.core_grid import draw_core_grid
from neurocompile.report.figure import save_figure
from neurocompile.report.raster import draw_raster

ZOO = Path(__file__).resolve().parents[1] / "models" / "zoo" / "qkformer_digits"


def main() -> int:
    """Exit code 1 if any spike differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("out"), help="folder for the artifact and the plots"
    )
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(ZOO / "test.npz", allow_pickle=False) as data:
        x, y = data["x"], data["y"]

    program = neurocompile.compile(ZOO / "qkformer.onnx", target="loihi2", T=4, progress=True)
    program.save(folder / "qkformer.nca")
    summary = program.summary()
    print(
        f"compiled   {summary.layers} layers, {summary.neurons:,} neurons, {summary.synapses:,} synapses "
        f"onto {summary.cores} of {summary.cores_available} cores; depth {summary.depth} steps"
    )

    result = program.run(x, backend="emulator", progress=True)
    print(f"emulator   {result.accuracy(y):.2%} of {len(x)} images right ({result.banner})")

    report = program.parity(x, y, against=("emulator", "lava"), progress=True)
    for part in report.backends:
        print(
            f"{part.backend:<10} {part.differences} differences from {part.expected} in {part.values:,} values, "
            f"{part.seconds:.1f} s ({part.banner})"
        )
        if part.first is not None:
            print(f"           first: {part.first}")

    save_figure(draw_core_grid(program), folder / "cores.png")
    save_figure(draw_raster(program, x[0], "sample 0"), folder / "raster.png")
    print(
        f"look at    {folder / 'cores.png'} and {folder / 'raster.png'}; the program is {folder / 'qkformer.nca'}"
    )
    return 0 if report.exact else 1


if __name__ == "__main__":
    sys.exit(main())
