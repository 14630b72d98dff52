"""Train a small transformer on scikit-learn's digits, convert it to SpikedAttention without further
training, and write ``spiked-attention.safetensors`` and its ``.json``.

    python -m neurocompile.models.zoo.spiked_digits.train [--out FOLDER] [--epochs N]

Seeded; the weights are those of the last step, rounded to float16 after the conversion. Scales of
the neurons are the largest values of the training images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...spiked_attention import SpikedAttentionConfig, SpikedTransformer
from ..qkformer_digits.train import load_split

SEED, BATCH, LEARNING_RATE, WEIGHT_DECAY, EPOCHS, SMOOTHING = 0, 64, 2e-3, 0.05, 40, 0.05


@torch.no_grad()
def correct(model: SpikedTransformer, x: torch.Tensor, y: torch.Tensor) -> int:
    """Images whose largest logit is at their label."""
    return int((model(x).argmax(1) == y).sum())


def train(epochs: int = EPOCHS) -> tuple[SpikedTransformer, dict[str, Any]]:
    """The converted model, and what the card says of it."""
    torch.manual_seed(SEED)
    x, y, x_test, y_test = (torch.from_numpy(part) for part in load_split())
    model = SpikedTransformer(SpikedAttentionConfig())
    nn.init.normal_(model.places, 0, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * batches)
    begin = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for k in range(batches):
            chosen = order[k * BATCH : (k + 1) * BATCH]
            loss = F.cross_entropy(model(x[chosen]), y[chosen], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = round(time.perf_counter() - begin)
    parameters = sum(p.numel() for p in model.parameters())
    model.convert(x)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(tensor.half())
    facts = {
        "data": "scikit-learn digits, 8x8",
        "T": 1,
        "suffix": ".safetensors",
        "config": repr(model.config),
        "parameters": parameters,
        "seconds": seconds,
        "epochs": epochs,
        "correct": correct(model.set_mode("float"), x_test, y_test),
        "converted": correct(model.set_mode("spikes"), x_test, y_test),
        "total": len(y_test),
    }
    return model, facts


def main(out: Path, epochs: int) -> None:
    """Train, and write everything into ``out``."""
    from safetensors.torch import save_file

    model, facts = train(epochs)
    config = json.dumps(dataclasses.asdict(model.config))
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / "spiked-attention.safetensors", {"config": config})
    text = json.dumps(facts, indent=1, sort_keys=True)
    (out / "spiked-attention.json").write_text(text + "\n", encoding="utf-8")
    print(facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    main(arguments.out, arguments.epochs)
