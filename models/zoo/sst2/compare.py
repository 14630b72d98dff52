"""Accuracy of the shipped SpikingBERT on SST-2's dev set, float beside compiled.

    python -m neurocompile.models.zoo.sst2.compare FOLDER [--digits N ...] [--samples N]

FOLDER has ``train.tsv``, of which 256 sentences calibrate, and ``dev.tsv``. The compiled accuracy
is that of the quantized graph's integers, which every backend computes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import neurocompile

from . import load, text_part
from .train import sentences

CALIBRATION, BATCH = 256, 32


def compare(folder: Path, digits: int, samples: int | None = None) -> dict[str, int]:
    """Sentences classified right in float and compiled, predictions that agree, and how many there
    are.

    Args:
        samples: the first of the dev set; None for all 872.
    """
    model, text = load(), text_part()
    texts, labels = sentences(folder / "dev.tsv")
    texts, y = texts[:samples], labels[:samples].numpy()
    x = text(texts)
    with torch.no_grad():
        float_ = model.encoder(torch.from_numpy(x)).argmax(1).numpy()
    staged = neurocompile.open(
        model.encoder,
        x[:2],
        calibration=text(sentences(folder / "train.tsv")[0][:CALIBRATION]),
        digits=digits,
    )
    quantized = staged.canonical().quantize()
    parts = [quantized.logits(x[k : k + BATCH]).argmax(1) for k in range(0, len(x), BATCH)]
    found = np.concatenate(parts)
    return {
        "digits": digits,
        "float": int((float_ == y).sum()),
        "compiled": int((found == y).sum()),
        "same": int((found == float_).sum()),
        "total": len(y),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.tsv and dev.tsv")
    parser.add_argument("--digits", type=int, nargs="+", default=[10])
    parser.add_argument("--samples", type=int, help="the first of the dev set; else all")
    arguments = parser.parse_args()
    for n in arguments.digits:
        print(compare(arguments.folder, n, arguments.samples), flush=True)
