"""Train the zoo's QKFormer on scikit-learn's digits and write ``qkformer.onnx``, ``test.npz`` and
``card.md``.

    python -m neurocompile.models.zoo.qkformer_digits.train [--out FOLDER]

One thread, seeded, deterministic: the same machine and library versions write the same bytes again.
The schedule is fixed and the weights are those of the last step: the held-out images are looked at
once, after training.
"""

from __future__ import annotations

import argparse
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from spikingjelly.activation_based import functional
from torch import nn

from neurocompile.frontends.torch.export import CALIBRATION_KEY, export_onnx

from ...layers import ConvBN
from ...qkformer import QKFormer, QKFormerConfig

SEED = 0
EPOCHS = 60
ROUNDED_EPOCHS = 20
WEIGHT_BITS = 8
BATCH = 64
LEARNING_RATE = 6e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.05
MAX_ANGLE, MAX_SCALE, MAX_SHIFT = (
    0.15,
    0.1,
    1.0,
)  # augmentation, in radians, parts of the size, and pixels
CALIBRATION_SAMPLES = 256
CONFIG = QKFormerConfig(embed_dim=32, num_heads=4, mlp_ratio=2, T=4)


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits as (x_train, y_train, x_test, y_test): x (N, 1, 8, 8) float32 in steps of 1/16, y (N,)
    int64.

    N is 1437 for training and 360 held out.
    """
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y.astype(np.int64), test_size=0.2, random_state=0, stratify=y
    )
    return x_train, y_train, x_test, y_test


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every image (B, 1, 8, 8) turned, scaled and shifted by a random amount of its own."""
    rand = torch.rand((4, len(x)), generator=generator) * 2 - 1
    # A shift is in half widths of the image, so one pixel of eight is 0.25.
    angle, scale, shift = MAX_ANGLE * rand[0], 1 + MAX_SCALE * rand[1], 0.25 * MAX_SHIFT * rand[2:]
    theta = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), shift[0]], 1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), shift[1]], 1),
        ],
        1,
    )
    grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def round_weights(model: nn.Module, bits: int) -> None:
    """Round every convolution's weight, as it is with batch normalization folded in, to ``bits``
    bits with sign.

    One scale for a convolution: its largest weight. The shift of the normalization stays in
        floating point.
    """
    levels = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ConvBN):
                gain = (module.bn.weight / torch.sqrt(module.bn.running_var + module.bn.eps)).view(
                    -1, 1, 1, 1
                )
                folded = module.conv.weight * gain
                step = folded.abs().max() / levels
                module.conv.weight.copy_(torch.round(folded / step) * step / gain)


def train(
    x: np.ndarray,
    y: np.ndarray,
    config: QKFormerConfig = CONFIG,
    epochs: int = EPOCHS,
    seed: int = SEED,
    change: Callable[[nn.Module], object] | None = None,
) -> QKFormer:
    """Train on x (N, 1, 8, 8) float32 and y (N,) int64, AdamW on a one-cycle schedule; returns the
    model in eval mode. ``change`` alters it in place before it learns, such as its neurons.

    The last :data:`ROUNDED_EPOCHS` compute their gradient at rounded weights and apply it to the
    exact ones (straight through), and the weights returned are rounded: quantizing them to 8 bits
    again loses nothing. Sets torch's global seed, thread count and deterministic mode: meant for a
    process of its own.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    model = QKFormer(config)
    if change is not None:
        change(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: len(images) // BATCH * BATCH].split(BATCH):
            exact = [parameter.detach().clone() for parameter in model.parameters()]
            if epoch >= epochs - ROUNDED_EPOCHS:
                round_weights(model, WEIGHT_BITS)
            logits = model(augment(images[batch], generator))
            loss = nn.functional.cross_entropy(
                logits, labels[batch], label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter, value in zip(model.parameters(), exact, strict=True):
                    parameter.copy_(value)
            optimizer.step()
            schedule.step()
            functional.reset_net(model)
    round_weights(model, WEIGHT_BITS)
    return model.eval()


def count_correct(model: nn.Module, x: np.ndarray, y: np.ndarray) -> int:
    """Images of x (N, 1, 8, 8) whose largest logit is at their label y (N,)."""
    with torch.no_grad():
        prediction = model(torch.from_numpy(x)).argmax(1).numpy()
    functional.reset_net(model)
    return int((prediction == y).sum())


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An ``.npz`` whose bytes depend on the arrays alone; ``np.savez`` would store the time of
    writing.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue()
            )


CARD = """# QKFormer on 8x8 digits

| | |
|---|---|
| model | QKFormer (Zhou et al. 2024, arXiv:2403.16552), our own implementation, {config} |
| parameters | {parameters:,} |
| file | `qkformer.onnx`, {size:,} bytes: input (batch, 1, 8, 8) float32 in 0..1, output (batch, 10) float32 logits |
| accuracy | {accuracy:.2%}: {correct} of {total} held-out images, in floating point |
| weights | {bits} bits with sign, one scale per convolution, after folding batch normalization; biases not rounded |
| licence of the model | Apache-2.0 |

## Data

Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49), CC BY 4.0, the 1,797 images that ship with scikit-learn as `load_digits`, divided by 16.
Stratified split, `train_test_split(test_size=0.2, random_state=0)`: {train_total:,} images to train, {total} held out.
`test.npz` holds the {total}: `x` (360, 1, 8, 8) float32, `y` (360,) int64.

## Training

`python -m neurocompile.models.zoo.qkformer_digits.train`, {epochs} epochs of AdamW (one-cycle schedule, peak learning
rate {lr:g}, weight decay {wd:g}, batch {batch}, label smoothing {ls:g}, small shifts, turns and scalings), seed {seed}, one
thread. The last {rounded} epochs train at rounded weights (straight through). The weights are those of the last step; the
held-out images chose nothing. Accuracy on the training images: {train_accuracy:.2%}.

## Spike rates

Spikes a neuron a step, mean over the {samples} training images of the calibration.

| layer | rate |
|---|---|
{rates}
"""


def main(out: Path, epochs: int = EPOCHS) -> None:
    """Train, evaluate once, and write the four files into ``out``."""
    x_train, y_train, x_test, y_test = load_split()
    start = time.perf_counter()
    model = train(x_train, y_train, epochs=epochs)
    print(f"trained in {time.perf_counter() - start:.0f} s")
    path = out / "qkformer.onnx"
    export_onnx(model, x_test[:2], path, calibration=x_train[:CALIBRATION_SAMPLES])
    write_npz(out / "test.npz", {"x": x_test, "y": y_test})
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    calibration = json.loads(metadata[CALIBRATION_KEY])
    correct = count_correct(model, x_test, y_test)
    facts = {
        "T": CONFIG.T,
        "correct": correct,
        "total": len(y_test),
        "data": "scikit-learn digits, 8x8",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    (out / "qkformer.json").write_text(
        json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    card = CARD.format(
        config=f"embed_dim {CONFIG.embed_dim}, {CONFIG.num_heads} heads, mlp_ratio {CONFIG.mlp_ratio}, T = {CONFIG.T}",
        parameters=facts["parameters"],
        size=path.stat().st_size,
        accuracy=correct / len(y_test),
        correct=correct,
        bits=WEIGHT_BITS,
        total=len(y_test),
        train_total=len(y_train),
        train_accuracy=count_correct(model, x_train, y_train) / len(y_train),
        epochs=epochs,
        rounded=min(epochs, ROUNDED_EPOCHS),
        lr=LEARNING_RATE,
        wd=WEIGHT_DECAY,
        batch=BATCH,
        ls=LABEL_SMOOTHING,
        seed=SEED,
        samples=calibration["samples"],
        rates="\n".join(
            f"| `{name}` | {layer['rate']:.4f} |" for name, layer in calibration["layers"].items()
        ),
    )
    (out / "card.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to"
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, help="fewer give a quick check of the whole script"
    )
    arguments = parser.parse_args()
    main(arguments.out, arguments.epochs)
