"""Decoders: transposed convolutions and nearest interpolation between spiking layers."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

T = 4
SAMPLES = np.random.default_rng(0).random((8, 1, 4, 4)).astype("float32")
LAYERS = {
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 2, 2),
    "transposed, overlapping, normalized": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6)
    ),
    "transposed, odd": lambda: nn.ConvTranspose2d(4, 6, 3, 2),
    "nearest": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 6, 3, padding=1)),
    "nearest of currents": lambda: nn.Sequential(
        nn.Conv2d(4, 6, 1), nn.UpsamplingNearest2d((8, 12))
    ),
}


class Decoder(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.larger = nn.Conv2d(1, 4, 3, padding=1), LAYERS[name]()
        for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        self.l1, self.l2 = (neuron.LIFNode(step_mode="m", v_threshold=0.3) for _ in range(2))
        self.last, self.head = nn.Conv2d(6, 4, 3, padding=1), nn.Linear(4, 3)
        self.l3 = neuron.LIFNode(step_mode="m", v_threshold=0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1))
        x = self.larger(self.l1(2 * x.unflatten(0, (T, -1))).flatten(0, 1))
        x = self.last(self.l2(2 * x.unflatten(0, (T, -1))).flatten(0, 1))
        return self.head(self.l3(2 * x.unflatten(0, (T, -1))).mean((3, 4))).mean(0)


@pytest.mark.parametrize("name", LAYERS)
def test_upsampling_compiles_exactly(name):
    program = neurocompile.compile(Decoder(name).eval(), SAMPLES, T=T)
    assert program.summary().import_agreement == 1
    assert program.parity(SAMPLES, against=("emulator",)).exact
