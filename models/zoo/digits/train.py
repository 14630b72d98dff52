"""Train one small model of each family on scikit-learn's digits and write ``NAME.onnx`` and
``NAME.json``.

    python -m neurocompile.models.zoo.digits.train NAME [--out FOLDER]

NAME is one of :data:`FAMILIES`. Data, augmentation and schedule are those of the zoo's QKFormer
(:mod:`neurocompile.models.zoo.qkformer_digits.train`), without its epochs at rounded weights: what
quantization costs shows. One thread, seeded, deterministic on one machine; the weights are those of
the last step, and the held-out images are looked at once, after training. ``card.py`` makes the
card from the .json files.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from spikingjelly.activation_based import functional
from torch import nn

from neurocompile.frontends.torch.export import export_onnx

from ...meta_spikeformer import MetaSpikeFormer, MetaSpikeFormerConfig
from ...spike_driven_transformer import SpikeDrivenTransformer, SpikeDrivenTransformerConfig
from ...spikformer import Spikformer, SpikformerConfig
from ...spiking_resformer import SpikingResformer, SpikingResformerConfig
from ...vit import ViT, ViTConfig
from ..qkformer_digits.train import (
    BATCH,
    CALIBRATION_SAMPLES,
    LABEL_SMOOTHING,
    LEARNING_RATE,
    SEED,
    WEIGHT_DECAY,
    augment,
    count_correct,
    load_split,
)

EPOCHS = 60
DATA = "scikit-learn digits, 8x8"
_ONE = {"in_channels": 1, "num_classes": 10, "T": 4}


class Family(NamedTuple):
    """How a family's small model is made."""

    constructor: type[nn.Module]
    config: Any
    enlarge: int = 1
    """Pixels of the model's input for one of the digit's, a side: Meta-SpikeFormer shrinks its grid
    by 16.
    """
    learning_rate: float = LEARNING_RATE
    clip: float = float("inf")
    """Largest norm of a gradient: Meta-SpikeFormer's explode at the start, through 19 surrogates in
    a row.
    """
    epochs: int = EPOCHS
    """Of the shipped training."""


FAMILIES = {
    "spikformer": Family(
        Spikformer,
        SpikformerConfig(
            image_size=8, patch_size=2, embed_dim=64, depth=1, num_heads=4, mlp_ratio=2, **_ONE
        ),
    ),
    "spike_driven_transformer": Family(
        SpikeDrivenTransformer,
        SpikeDrivenTransformerConfig(
            image_size=8, patch_size=2, embed_dim=64, depth=1, mlp_ratio=2, **_ONE
        ),
    ),
    "spiking_resformer": Family(
        SpikingResformer,
        SpikingResformerConfig(
            image_size=8,
            large_prologue=False,
            dims=(16, 32),
            num_heads=(1, 2),
            patch_sizes=(2, 1),
            depths=(1, 1),
            mlp_ratio=2,
            group_size=16,
            **_ONE,
        ),
    ),
    "meta_spikeformer": Family(
        MetaSpikeFormer,
        MetaSpikeFormerConfig(
            image_size=32,
            dims=(16, 32, 32, 48),
            depths=(1, 1, 1, 1),
            num_heads=4,
            mlp_ratio=2,
            **_ONE,
        ),
        enlarge=4,
        learning_rate=4e-3,
        clip=1.0,
    ),
    "vit": Family(
        ViT,
        ViTConfig(image_size=8, patch_size=4, dim=24, depth=2, num_heads=2, mlp_ratio=2, **_ONE),
        learning_rate=4e-3,
        clip=1.0,
        epochs=200,
    ),
}


def train(name: str, epochs: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The trained model in eval mode, over images enlarged as the family needs, and what the card
    says of it.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    family, generator = FAMILIES[name], torch.Generator().manual_seed(SEED)
    epochs = epochs or family.epochs
    x_train, y_train, x_test, y_test = (torch.from_numpy(v) for v in load_split())
    x_train_large, x_test_large = (enlarged(v, family.enlarge) for v in (x_train, x_test))
    model = family.constructor(family.config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=family.learning_rate, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, family.learning_rate, epochs * (len(x_train) // BATCH)
    )
    model.train()
    start = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(x_train), generator=generator)
        for batch in order[: len(x_train) // BATCH * BATCH].split(BATCH):
            logits = model(enlarged(augment(x_train[batch], generator), family.enlarge))
            loss = nn.functional.cross_entropy(
                logits, y_train[batch], label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), family.clip)
            optimizer.step()
            schedule.step()
            functional.reset_net(model)
    model.eval()
    facts = {
        "config": repr(family.config),
        "data": DATA,
        "T": family.config.T,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - start),
        "epochs": epochs,
        "train": count_correct(model, x_train_large.numpy(), y_train.numpy()) / len(y_train),
        "correct": count_correct(model, x_test_large.numpy(), y_test.numpy()),
        "total": len(y_test),
    }
    return model, facts


def enlarged(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Images (N, 1, H, W) with every pixel repeated ``factor`` times a side."""
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def main(name: str, out: Path, epochs: int | None = None) -> None:
    """Train, and write the model and its facts into ``out``."""
    model, facts = train(name, epochs)
    x_train, _, x_test, _ = load_split()
    enlarge = FAMILIES[name].enlarge
    x_train, x_test = (enlarged(torch.from_numpy(v), enlarge).numpy() for v in (x_train, x_test))
    export_onnx(model, x_test[:2], out / f"{name}.onnx", calibration=x_train[:CALIBRATION_SAMPLES])
    (out / f"{name}.json").write_text(
        json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    print(name, facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(FAMILIES))
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to"
    )
    parser.add_argument("--epochs", type=int, help="fewer give a quick check of the whole script")
    arguments = parser.parse_args()
    main(arguments.name, arguments.out, arguments.epochs)
