"""Windows folded into the batch, as SGLFormer and Swin write them: (T, B windows, C, h, w)."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

T, C, SIZE, N = 4, 8, 8, 2
SAMPLES = np.random.default_rng(0).random((6, 1, SIZE, SIZE)).astype("float32")


def lif(threshold: float) -> nn.Module:
    return neuron.LIFNode(step_mode="m", v_threshold=threshold)


class Windows(nn.Module):
    """A stem, attention inside of each of N x N windows, a residual, the head.

    Args:
        kernel: of the layer in front of query, key and value; 0 for a Linear over tokens.
        samples_first: windows lie behind the samples, or in front of them.
        roll: places that the map is rolled by, as Swin shifts its windows.
    """

    def __init__(self, kernel: int, samples_first: bool, roll: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.samples_first, self.roll, self.kernel = samples_first, roll, kernel
        self.stem, self.stem_lif = nn.Conv2d(1, C, 3, padding=1), lif(0.5)
        self.conv = nn.Conv2d(C, C, kernel or 1, padding=kernel // 2)
        self.norm, self.linear = nn.BatchNorm2d(C), nn.Linear(C, C)
        self.q, self.k, self.v, self.attention = lif(0.1), lif(0.1), lif(0.1), lif(0.2)
        self.last, self.head = lif(0.2), nn.Linear(C * SIZE * SIZE, 3)

    def partition(self, x: torch.Tensor) -> torch.Tensor:
        steps, batch, channels, height, width = x.shape
        x = x.reshape(steps, batch, channels, N, height // N, N, width // N)
        order = (0, 1, 3, 5, 2, 4, 6) if self.samples_first else (0, 3, 5, 1, 2, 4, 6)
        return x.permute(order).reshape(steps, -1, channels, height // N, width // N)

    def integrate(self, x: torch.Tensor) -> torch.Tensor:
        steps, _, channels, height, width = x.shape
        if self.samples_first:
            x = x.reshape(steps, -1, N, N, channels, height, width).permute(0, 1, 4, 2, 5, 3, 6)
        else:
            x = x.reshape(steps, N, N, -1, channels, height, width).permute(0, 3, 4, 1, 5, 2, 6)
        return x.reshape(steps, -1, channels, N * height, N * width)

    def part(self, x: torch.Tensor, fire: nn.Module) -> torch.Tensor:
        """(T, B windows, 2 heads, tokens, C / 2)."""
        if self.kernel:
            y = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, (T, -1))
            y = fire(3 * y).flatten(3).transpose(-1, -2)
        else:
            y = fire(3 * self.linear(x.flatten(3).transpose(-1, -2)))
        return y.unflatten(3, (2, C // 2)).transpose(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        whole = self.stem_lif(3 * self.stem(x.flatten(0, 1)).unflatten(0, (T, -1)))
        x = self.partition(whole.roll((self.roll, self.roll), (3, 4)) if self.roll else whole)
        q, k, v = (self.part(x, fire) for fire in (self.q, self.k, self.v))
        y = self.attention((q @ k.transpose(-2, -1)) @ v * 0.125)
        y = self.integrate(y.transpose(3, 4).reshape(x.shape))
        y = y.roll((-self.roll, -self.roll), (3, 4)) if self.roll else y
        return self.head(self.last(y + whole).flatten(2)).mean(0)


@pytest.mark.parametrize(
    ("kernel", "samples_first"), [(0, True), (1, False), (3, True)], ids=["tokens", "1x1", "3x3"]
)
def test_attention_in_windows_that_are_folded_into_the_batch(kernel, samples_first):
    program = neurocompile.compile(Windows(kernel, samples_first).eval(), SAMPLES, T=T)
    assert program.summary().import_agreement == 1
    assert program.parity(SAMPLES, against=("emulator",)).exact


class Chunks(nn.Module):
    """Attention over pairs of steps, as STAtten has it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fire, self.last = nn.Linear(4, C), lif(0.1), lif(0.2)
        self.head = nn.Linear(C, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fire(self.fc(x.unsqueeze(0).repeat(T, 1, 1, 1)))
        pairs = x.view(T // 2, 2, -1, 6, C).permute(0, 2, 1, 3, 4).reshape(T // 2, -1, 12, C)
        y = pairs @ (pairs.transpose(-2, -1) @ pairs)
        y = y.reshape(T // 2, -1, 2, 6, C).permute(0, 2, 1, 3, 4).reshape(T, -1, 6, C)
        return self.head(self.last(y).mean(2)).mean(0)


def test_attention_over_chunks_of_steps_is_refused_with_the_reason_that_holds():
    with pytest.raises(neurocompile.NeurocompileError) as caught:
        neurocompile.compile(Chunks().eval(), SAMPLES[:, 0, :6, :4].copy(), T=T)
    assert caught.value.code == "NC1009" and "still to come" in caught.value.message


def test_shifted_windows():
    program = neurocompile.compile(Windows(0, True, roll=2).eval(), SAMPLES, T=T)
    assert program.summary().import_agreement == 1
    assert program.parity(SAMPLES, against=("emulator",)).exact
