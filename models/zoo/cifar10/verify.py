"""Count what a shipped model gets right, in SpikingJelly itself on the CPU: no fused neuron, no
rounding but the file's.

    python -m neurocompile.models.zoo.cifar10.verify qkformer-4-256 --test test.npz --samples 1000

The samples are evenly spaced, so that every class has its share of a file that holds them class by
class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import functional

from .weights import load

__all__ = ["predictions", "spread"]

HERE = Path(__file__).parent


def spread(total: int, samples: int) -> np.ndarray:
    """Indices of ``samples`` images, evenly spaced over ``total``."""
    return np.arange(min(samples, total)) * total // min(samples, total)


def predictions(model: torch.nn.Module, images: np.ndarray, batch: int = 50) -> np.ndarray:
    """The class of each image, uint8 (N, 3, H, W) to int64 (N,)."""
    found = []
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore  # four times as fast
    with torch.no_grad():
        for part in torch.from_numpy(images).split(batch):
            found.append(model(part.float() / 255.0).argmax(1))
            functional.reset_net(model)
    return torch.cat(found).numpy()


def main() -> None:
    """Count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a file NAME.safetensors beside this one, or a path")
    parser.add_argument("--test", type=Path, required=True, help="of examples/cifar10_to_npz.py")
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    path = Path(options.name)
    path = path if path.suffix else HERE / f"{options.name}.safetensors"
    with np.load(options.test, allow_pickle=False) as file:
        index = spread(len(file["y"]), options.samples)
        x, y = file["x"][index], file["y"][index]
    correct = int((predictions(load(path), x) == y).sum())
    print(f"{options.name}: {correct} of {len(y)} correct, {correct / len(y):.2%}")


if __name__ == "__main__":
    main()
