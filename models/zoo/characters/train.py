"""Train the zoo's SpikeGPT on the characters of SST-2's sentences and write ``spike-gpt.safetensors`` and
its ``.json``.

    python -m neurocompile.models.zoo.characters.train FOLDER [--out FOLDER] [--steps N]

FOLDER has ``train.tsv`` and ``dev.tsv``: a sentence, a tab and a label a line; labels are not read.
Seeded; the weights are those of the last step, rounded to float16 before they are measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from math import exp
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...spike_gpt import SpikeGpt, SpikeGptConfig
from ..sst2.train import sentences
from . import CHARACTERS, ids_of

SEED, BATCH, LEARNING_RATE, WEIGHT_DECAY, STEPS = 0, 64, 4e-3, 0.01, 1500
CONFIG = SpikeGptConfig(vocabulary=len(CHARACTERS), width=48, depth=2, mlp_ratio=2, T=24)
DEV_WINDOWS = 512


def windows(text: str, count: int, length: int, seed: int) -> torch.Tensor:
    """``count`` parts of ``length`` characters from random places, ids (count, length) int64."""
    ids = torch.from_numpy(ids_of([text]))[0]
    starts = torch.randint(
        0, len(ids) - length, (count,), generator=torch.Generator().manual_seed(seed)
    )
    return torch.stack([ids[k : k + length] for k in starts.tolist()])


def loss_of(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy, in nats, of ``logits`` (B, T, V) for ids (B, T + 1)."""
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


@torch.no_grad()
def start(model: SpikeGpt) -> None:
    """Weights before training: neurons that never fire would pass no gradient."""
    nn.init.normal_(model.embedding.weight, 0, 0.5)
    for block in model.core.blocks:
        block.att.output.weight *= 4
        block.ffn.value.weight *= 4


def train(folder: Path, steps: int = STEPS) -> tuple[SpikeGpt, dict[str, Any]]:
    """The model in eval mode, and what the card says of it."""
    torch.manual_seed(SEED)
    text = "\n".join(sentences(folder / "train.tsv")[0])
    dev = "\n".join(sentences(folder / "dev.tsv")[0])
    model = SpikeGpt(CONFIG)
    start(model)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    begin, total = time.perf_counter(), 0.0
    for step in range(steps):
        ids = windows(text, BATCH, CONFIG.T + 1, step)
        loss = loss_of(model(ids[:, :-1]), ids)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 49:
            print(
                f"step {step + 1}: loss {total / 50:.4f}, {time.perf_counter() - begin:.0f} s",
                flush=True,
            )
            total = 0.0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    model.eval()
    ids = windows(dev, DEV_WINDOWS, CONFIG.T + 1, SEED)
    with torch.no_grad():
        logits = model(ids[:, :-1])
        loss = loss_of(logits, ids)
    facts = {
        "data": "SST-2, characters",
        "T": CONFIG.T,
        "suffix": ".safetensors",
        "config": repr(model.config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - begin),
        "steps": steps,
        "perplexity": round(exp(float(loss)), 4),
        "correct": int((logits.argmax(-1) == ids[:, 1:]).sum()),
        "total": ids[:, 1:].numel(),
    }
    return model, facts


def main(folder: Path, out: Path, steps: int) -> None:
    """Train, and write everything into ``out``."""
    from safetensors.torch import save_file

    model, facts = train(folder, steps)
    config = json.dumps(dataclasses.asdict(model.config))
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / "spike-gpt.safetensors", {"config": config})
    text = json.dumps(facts, indent=1, sort_keys=True)
    (out / "spike-gpt.json").write_text(text + "\n", encoding="utf-8")
    print(facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    main(arguments.folder, arguments.out, arguments.steps)
