"""Your own module: a spiking transformer written by hand, trained for seconds, to one Loihi 2 chip,
spike for spike.

    uv run --no-dev --extra torch --extra lava python examples/03_your_own_module.py [--output
    FOLDER]

`Net` is not one of neurocompile's models: it is what a user writes with torch and SpikingJelly. It
is compiled as it stands, and a variant with two operators that do not compile is refused with
every reason at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

import neurocompile

try:
    import torch
    from spikingjelly.activation_based import functional, layer, neuron
    from torch import nn
except ImportError as error:
    sys.exit(f"this example needs the package {error.name}: pip install 'neurocompile[torch]'")

DIGITS = Path(__file__).resolve().parents[1] / "models" / "zoo" / "qkformer_digits" / "test.npz"
T, DIM = 4, 32


def lif(threshold: float = 1.0) -> neuron.LIFNode:
    """tau 2, hard reset to 0, all steps in one call."""
    return neuron.LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True, step_mode="m")


class Attention(nn.Module):
    """``lif(scale * Q (K^T V))`` of spikes, tokens as the last axis: (T, B, DIM, N) in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (
            nn.Sequential(
                layer.Conv1d(DIM, DIM, 1, bias=False, step_mode="m"),
                layer.BatchNorm1d(DIM, step_mode="m"),
                lif(),
            )
            for _ in range(4)
        )
        self.attn_lif = lif(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.proj(self.attn_lif(0.25 * (v @ k.transpose(-2, -1)) @ q))


class UnitLength(nn.Module):
    """Each token divided by its length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x, dim=2)


class Net(nn.Module):
    """A convolution to 16 patches, attention and an MLP with residuals, and a head on the mean over
    time.
    """

    def __init__(self, activation: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.patch = nn.Sequential(
            layer.Conv2d(1, DIM, 2, stride=2, step_mode="m"),
            layer.BatchNorm2d(DIM, step_mode="m"),
            lif(),
        )
        self.attn = Attention()
        self.mlp = nn.Sequential(
            layer.Conv1d(DIM, DIM, 1, step_mode="m"), layer.BatchNorm1d(DIM, step_mode="m"), lif()
        )
        self.activation, self.norm = activation or nn.Identity(), norm or nn.Identity()
        self.head = nn.Linear(DIM * 16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        x = self.patch(x).flatten(3)
        x = x + self.attn(x)
        x = x + self.mlp(self.norm(self.activation(x)))
        return self.head(x.flatten(2).mean(0))


def train(model: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int = 15) -> None:
    """Some seconds on one thread."""
    images, labels = torch.from_numpy(x), torch.from_numpy(y).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(40):
            loss = nn.functional.cross_entropy(model(images[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(model)
    model.eval()


def main() -> int:
    """Exit code 1 if any spike differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for the artifact")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(DIGITS, allow_pickle=False) as data:
        x, y = data["x"], data["y"]
    seen, held_out = slice(0, 240), slice(240, 300)

    torch.manual_seed(0)
    model = Net()
    train(model, x[seen], y[seen])
    with torch.no_grad():
        right = (model(torch.from_numpy(x[held_out])).argmax(1).numpy() == y[held_out]).mean()
    functional.reset_net(model)
    print(f"trained    {right:.1%} of 60 held-out images right in torch, after 240 images seen")

    program = neurocompile.compile(
        model, x[:2], calibration=x[seen], target="loihi2", T=T, progress=True
    )
    program.save(folder / "net.nca")
    summary = program.summary()
    print(
        f"compiled   {summary.layers} layers, {summary.neurons:,} neurons, {summary.synapses:,} synapses "
        f"onto {summary.cores} of {summary.cores_available} cores"
    )

    neurocompile.export_onnx(model, x[:2], folder / "net.onnx", calibration=x[seen])
    lava = ("lava",) if importlib.util.find_spec("lava") else ()
    report = program.parity(
        x[held_out],
        y[held_out],
        against=("emulator", *lava),
        reference=folder / "net.onnx",
        progress=True,
    )
    for part in report.backends:
        print(
            f"{part.backend:<10} {part.differences} differences from {part.expected} in {part.values:,} values ({part.banner})"
        )
    if not lava:
        print("lava       not installed: pip install 'neurocompile[lava]'")
    floats = report.reference
    print(
        f"float      {floats.accuracy_quantized:.1%} right, torch {floats.accuracy_reference:.1%}; equal spikes:"
    )
    for one in floats.layers:
        print(f"           {one.agreement:.2%} {one.layer}")

    print("\nThe same module with SELU and vectors of unit length:")
    try:
        neurocompile.compile(Net(nn.SELU(), UnitLength()), x[:2], target="loihi2", T=T)
    except neurocompile.NeurocompileError as error:
        for row in error.details:
            print(
                f"{row['code']}     {row['module']:<11} {row['kind']:<10} {row['operator']:<19} use: {row['supported']}"
            )
    print(f"look at    neurocompile report {folder / 'net.nca'} --input {DIGITS} -o report.html")
    return 0 if report.exact else 1


if __name__ == "__main__":
    sys.exit(main())
