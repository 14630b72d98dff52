"""Levels of the first layer's weights, and spikes that equal the float network's, by what inputs are.

A small convolutional network is trained on scikit-learn's digits in four forms: as they are measured
(no grid), standardized, and both snapped to a grid. ``python benchmarks/bench_first_layer.py [--json]``,
about two minutes on one core. Held-out images; agreement is of all steps, neurons and images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, neuron
from torch import nn

import neurocompile

T, IMAGES, SEEN = 4, 360, 240
EPOCHS = 15


class Net(nn.Module):
    """Two convolutions with BatchNorm and LIF, a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c2, self.b2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.l1, self.l2 = (neuron.LIFNode(step_mode="m", detach_reset=True) for _ in range(2))
        self.head = nn.Linear(128, 10)
        nn.init.ones_(self.b1.bias), nn.init.ones_(self.b2.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 8, 8) to logits (B, 10)."""
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        y = self.l1(self.b1(self.c1(x.flatten(0, 1))).unflatten(0, (T, -1)))
        y = self.b2(self.c2(F.avg_pool2d(y.flatten(0, 1), 2)))
        return self.head(self.l2(y.unflatten(0, (T, -1))).flatten(2).mean(0))


def inputs() -> dict[str, np.ndarray]:
    """Images by what they lie on, float32 (images, 1, 8, 8)."""
    x = load_digits().images[:IMAGES, None] / 16
    x = np.clip(x + np.random.default_rng(0).uniform(0, 0.06, x.shape), 0, 1)
    standard = (x - x.mean()) / x.std()
    found = {
        "0 to 1": x,
        "0 to 1, on 1/16": np.round(x * 16) / 16,
        "standardized": standard,
        "standardized, on 1/4": np.round(standard * 4) / 4,
    }
    return {name: values.astype(np.float32) for name, values in found.items()}


def trained(x: np.ndarray) -> nn.Module:
    """A network trained on ``x``, the first images of the digits."""
    torch.manual_seed(0)
    y, model = torch.as_tensor(load_digits().target[: len(x)]).long(), Net()
    images = torch.from_numpy(x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(40):
            loss = F.cross_entropy(model(images[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(model)
    return model.eval()


def measure(x: np.ndarray) -> dict[str, object]:
    """Of one network: levels and bits of its first layer, agreement by layer."""
    model, seen, held = trained(x[:SEEN]), x[:SEEN], x[SEEN:]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder, "net.onnx"))
        neurocompile.export_onnx(model, seen[:2], path, calibration=seen)
        program = neurocompile.compile(path, T=T, calibration=seen)
        parity = program.parity(held, against=("emulator",), reference=path)
    graph = program.quantized
    node = next(n for n in graph.nodes if getattr(n, "weight", None))
    levels = int(np.abs(graph.tensors[str(node.weight)]).max()) // 2
    layers = parity.reference.layers
    return {
        "levels": levels,
        "bits": round(1 + float(np.log2(levels + 1)), 2),
        "agreement": [round(float(layer.agreement), 5) for layer in layers],
        "exact": parity.exact,
    }


def main() -> None:
    """One row a kind of inputs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the same as data")
    wanted = parser.parse_args().json
    rows = {name: measure(x) for name, x in inputs().items()}
    if wanted:
        print(json.dumps(rows, indent=2))
        return
    print("| inputs | levels of 127 | bits of 8 | equal spikes by layer |\n|---|---|---|---|")
    for name, row in rows.items():
        shares = ", ".join(f"{share:.2%}" for share in row["agreement"])  # type: ignore[attr-defined]
        print(f"| {name} | {row['levels']} | {row['bits']} | {shares} |")


if __name__ == "__main__":
    main()
