"""Perplexity of the shipped SpikeGPT on characters of SST-2's dev set, float beside compiled.

    python -m neurocompile.models.zoo.characters.compare FOLDER [--digits N ...] [--samples N]

FOLDER has ``train.tsv``, of which 256 windows calibrate, and ``dev.tsv``. The compiled one is that of
the quantized graph's integers, which every backend computes.
"""

from __future__ import annotations

import argparse
from math import exp
from pathlib import Path

import numpy as np
import torch

import neurocompile

from ..sst2.train import sentences
from . import load
from .train import CONFIG, DEV_WINDOWS, SEED, loss_of, windows

CALIBRATION = 256


def compare(folder: Path, digits: list[int], samples: int = DEV_WINDOWS) -> list[dict[str, float]]:
    """Perplexities, and the share of characters that both think most likely, for each number of
    digits.

    Args:
        samples: windows of the dev set, the first of those that training measures.
    """
    model = load()
    text, dev = ("\n".join(sentences(folder / f"{n}.tsv")[0]) for n in ("train", "dev"))
    ids = windows(dev, DEV_WINDOWS, CONFIG.T + 1, SEED)[:samples]
    known = windows(text, CALIBRATION, CONFIG.T, SEED + 1)
    with torch.no_grad():
        x, calibration = model.embedded(ids[:, :-1]).numpy(), model.embedded(known).numpy()
        float_ = model.core(torch.from_numpy(x))
    found = []
    for n in digits:
        staged = neurocompile.open(model.core, x[:2], calibration=calibration, digits=n)
        quantized = staged.canonical().quantize()
        logits = torch.from_numpy(np.asarray(quantized.logits(x), np.float32)).view_as(float_)
        found.append(
            {
                "digits": n,
                "windows": len(ids),
                "float": round(exp(float(loss_of(float_, ids))), 4),
                "compiled": round(exp(float(loss_of(logits, ids))), 4),
                "same": round(float((logits.argmax(-1) == float_.argmax(-1)).float().mean()), 4),
            }
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.tsv and dev.tsv")
    parser.add_argument("--digits", type=int, nargs="+", default=[10])
    parser.add_argument("--samples", type=int, default=DEV_WINDOWS)
    arguments = parser.parse_args()
    for row in compare(arguments.folder, arguments.digits, arguments.samples):
        print(row, flush=True)
