"""E-SpikeFormer (Spike-Driven Transformer V3), small: numbers of spikes 0..4 and their products, T = 1,
exact on Lava.
"""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
from torch import nn  # noqa: E402


class MultiSpike(nn.Module):
    def __init__(self, norm: float = 4.0) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return torch.round(torch.clamp(x, 0, 4)) / self.norm


def conv(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(o))


def spiking(*layers: nn.Module) -> nn.Sequential:
    """A neuron in front of each."""
    return nn.Sequential(*(part for layer in layers for part in (MultiSpike(), layer)))


def separable(d: int, kernel: int) -> nn.Sequential:
    return spiking(conv(d, 2 * d, 1), conv(2 * d, 2 * d, kernel, 1, 2 * d), conv(2 * d, d, 1))


class Attention(nn.Module):
    def __init__(self, d: int, heads: int = 2, wide: int = 2) -> None:
        super().__init__()
        self.heads, self.wide, self.scale = heads, wide, (d // heads) ** -0.5
        self.head = MultiSpike()
        self.q, self.k = (nn.Sequential(conv(d, d, 1), MultiSpike()) for _ in range(2))
        self.v = nn.Sequential(conv(d, wide * d, 1), MultiSpike())
        self.neuron, self.proj = MultiSpike(), conv(wide * d, d, 1)

    def forward(self, x):
        B, C, H, W = x.shape
        x = self.head(x)
        q, k, v = (
            y.flatten(2).reshape(B, self.heads, -1, H * W).transpose(-1, -2)
            for y in (self.q(x), self.k(x), self.v(x))
        )
        y = q @ k.transpose(-2, -1) @ v * (2 * self.scale)
        return self.proj(self.neuron(y.transpose(-1, -2).reshape(B, self.wide * C, H, W)))


class ESpikeFormer(nn.Module):
    def __init__(self, d: tuple[int, int] = (4, 8), classes: int = 5) -> None:
        super().__init__()
        a, b = d
        self.stem, self.separable = conv(1, a, 3, 2), separable(a, 7)
        self.block, self.down = (
            spiking(conv(a, 4 * a, 3), conv(4 * a, a, 3)),
            spiking(conv(a, b, 3, 2)),
        )
        self.mixer, self.attention = separable(b, 3), Attention(b)
        self.mlp = spiking(conv(b, 2 * b, 1), conv(2 * b, b, 1))
        self.last, self.head = MultiSpike(1.0), nn.Linear(b, classes)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.separable(x)
        x = self.down(x + self.block(x))
        x = x + self.mixer(x)
        x = x + self.attention(x)
        x = x + self.mlp(x)
        return self.head(self.last(x.flatten(2).mean(2)))


@pytest.mark.slow
def test_e_spikeformer_is_exact_on_lava():
    pytest.importorskip("lava.magma")
    torch.manual_seed(0)
    model = ESpikeFormer()
    images = torch.randint(0, 256, (16, 1, 8, 8), generator=torch.Generator().manual_seed(1)) / 255
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.uniform_(module.bias, 0.2, 0.8)
    with torch.no_grad():
        for _ in range(20):
            model(images)
        theirs = model.eval()(images).numpy()
    program = neurocompile.compile(model, images[:2], calibration=images.numpy())
    assert program.manifest.import_agreement == 1.0
    report = program.parity(images[:2].numpy(), against=("emulator", "lava"))
    assert report.exact
    ours = program.run(images.numpy()).logits
    agreement = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    print(
        f"{[b.values for b in report.backends]} values, 0 differences; logits correlate {agreement:.3f}"
    )
    assert agreement > 0.9
