"""Fold in time: the trained digits model on fewer cores, and a model of CIFAR-10's size on one chip.

    uv run --no-dev --extra plot python examples/04_fold.py [--output FOLDER] [--cifar]
        [--model FILE.onnx] [--weight-bits N]

Lists the folds of the shipped digits model, folds it, checks every layer of its 360 held-out images
against the quantized model, and draws the schedule. With --cifar the shipped QKFormer-4-256 of
CIFAR-10 (4 bits; 1,511 cores unrolled) is folded until it fits one Loihi 2 chip, some minutes, and
checked on 8 pseudo-random images the same way; with --model another ONNX file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import neurocompile
from neurocompile.program import Program
from neurocompile.report.figure import save_figure
from neurocompile.report.schedule import draw_schedule

MODELS = Path(__file__).resolve().parents[1] / "models" / "zoo"
ZOO, CIFAR = MODELS / "qkformer_digits", MODELS / "cifar10" / "qkformer-4-256-4bit.onnx"


def show(program: Program, x: np.ndarray, folder: Path) -> int:
    """Print what a folded program needs, check it and draw it; its number of differences."""
    fold, cores = program.fold, program.mapping.cores_used
    print(
        f"{program.manifest.model}: fold {fold.fold}, {cores} of {program.target.cores} cores, "
        f"{fold.windows} windows, {fold.steps:,} steps a sample, answer after {fold.latency:,}"
    )
    (part,) = program.parity(x, against=("emulator",), progress=True).backends
    print(f"  {part.differences} differences from {part.expected} in {part.values:,} values")
    if program.circuit.windows > 1:
        save_figure(draw_schedule(program), folder / f"{program.manifest.model}.schedule.png")
    return part.differences


def main() -> int:
    """Exit code 1 if any spike differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for the pictures")
    parser.add_argument("--cifar", action="store_true", help="fold the shipped CIFAR-10 model too")
    parser.add_argument("--model", type=Path, help="an ONNX file to fold onto one chip")
    parser.add_argument("--weight-bits", type=int, default=8, help="of --model")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with np.load(ZOO / "test.npz", allow_pickle=False) as data:
        x, y = data["x"], data["y"]

    print("folds of the digits model on loihi2 (none: unrolled)")
    for fold in neurocompile.folds(ZOO / "qkformer.onnx", target="loihi2", T=4):
        print(
            f"  {fold.fold:>6}: at least {fold.cores_at_least} cores, {fold.steps:,} steps a sample"
        )
    program = neurocompile.compile(
        ZOO / "qkformer.onnx", target="loihi2", T=4, fold="2x8", progress=True
    )
    wrong = show(program, x, given.output)
    print(f"  {program.run(x).accuracy(y):.2%} of {len(x)} images right")
    others = [(CIFAR, 4)] if given.cifar else []
    others += [(given.model, given.weight_bits)] if given.model is not None else []
    for model, bits in others:
        big = neurocompile.compile(model, target="loihi2", T=4, weight_bits=bits, progress=True)
        random = np.random.default_rng(0).random((8, *big.input_shape), dtype=np.float32)
        wrong += show(big, random, given.output)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
