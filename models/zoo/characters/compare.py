"""Perplexity of the shipped SpikeGPT on held-out text, float beside compiled.

    python -m neurocompile.models.zoo.characters.compare FOLDER [--digits N ...] [--windows N]
        [--tokens N] [--target NAME --artifact OUT.nca]

FOLDER has ``train.tsv``, of which 64 windows calibrate, and ``dev.tsv``. The compiled logits are
those of the circuit on the emulator, each window from an empty state as in training, with the host's
part behind the last neurons (a layer normalization and the head). With ``--tokens`` the model is compiled
for windows of so many characters, over which it keeps its state. With ``--artifact`` the model of
the last number of digits is mapped and written, with its characters.
"""

from __future__ import annotations

import argparse
import warnings
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch

import neurocompile
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode_steps, encode
from neurocompile.stages.lowered import Lowered

from ..sst2.train import sentences
from . import character_part, load
from .train import CONFIG, DEV_WINDOWS, SEED, loss_of, windows

CALIBRATION, BATCH, CALIBRATION_SEED = 64, 16, 1


def compiled_logits(lowered: Lowered, x: np.ndarray) -> np.ndarray:
    """Logits of every step, float64 (samples, T, characters), on the emulator."""
    circuit, host, cuts = lowered.circuit, lowered.model.host, []
    with Emulator().open(circuit) as executor:
        for k in range(0, len(x), BATCH):
            trace = executor.run(encode(circuit, x[k : k + BATCH]), [circuit.readouts[0].src])
            cuts.append(decode_steps(circuit, trace))
    cut = np.concatenate(cuts)
    return cut if host is None else next(iter(host.run(cut)[1].values()))


def lowered(folder: Path, digits: int, target: str, tokens: int = CONFIG.T) -> Lowered:
    """The model's circuit, calibrated on windows of the training set."""
    model = load()
    text = "\n".join(sentences(folder / "train.tsv")[0])
    ids = windows(text, CALIBRATION, tokens, CALIBRATION_SEED)
    with torch.no_grad():
        x = model.embedded(ids).numpy()
    staged = neurocompile.open(model.core, x[:2], calibration=x, digits=digits)
    return staged.canonical().quantize().lower(target)


def compare(folder: Path, found: Lowered, count: int, tokens: int = CONFIG.T) -> dict[str, Any]:
    """Perplexity a character and next characters that are right, float and compiled, over ``count``
    windows, at 24 tokens of those that the card's float figure has.
    """
    model, text = load(), "\n".join(sentences(folder / "dev.tsv")[0])
    ids = windows(text, DEV_WINDOWS, tokens + 1, SEED)[:count]
    with torch.no_grad():
        x = model.embedded(ids[:, :-1])
        wanted = model.core(x)
    logits = torch.from_numpy(compiled_logits(found, x.numpy())).float()
    facts: dict[str, Any] = {"characters": ids[:, 1:].numel()}
    for name, one in (("float", wanted), ("compiled", logits)):
        facts[f"{name} perplexity"] = round(exp(float(loss_of(one, ids))), 4)
        facts[f"{name} correct"] = int((one.argmax(-1) == ids[:, 1:]).sum())
    facts["same"] = int((wanted.argmax(-1) == logits.argmax(-1)).sum())
    return facts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.tsv and dev.tsv")
    parser.add_argument("--digits", type=int, nargs="+", default=[10])
    parser.add_argument("--windows", type=int, default=DEV_WINDOWS)
    parser.add_argument("--tokens", type=int, default=CONFIG.T, help="of a window")
    parser.add_argument("--target", default="kapoho_point")
    parser.add_argument("--artifact", type=Path, help="where the mapped program is written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for digits in arguments.digits:
        circuit = lowered(arguments.folder, digits, arguments.target, arguments.tokens)
        sizes = sum(int(np.prod(p.shape)) for p in circuit.circuit.populations)
        found = compare(arguments.folder, circuit, arguments.windows, arguments.tokens)
        print({"digits": digits, "neurons": sizes, **found}, flush=True)
    if arguments.artifact is not None:
        program = circuit.map().with_text(character_part(arguments.tokens))
        program.save(arguments.artifact)
        print(program)
