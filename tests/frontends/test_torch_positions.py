"""Constants for each position from torch: embeddings of positions, class tokens, masks, biases of scores."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

T, TOKENS, C = 4, 6, 8
SAMPLES = np.random.default_rng(0).random((6, TOKENS, 16)).astype("float32")


def lif(threshold: float) -> nn.Module:
    return neuron.LIFNode(step_mode="m", v_threshold=threshold)


class Tokens(nn.Module):
    """An embedding, what ``form`` makes of its spikes, attention with a residual, the head."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.fc, self.fc_lif = nn.Linear(16, C), lif(0.3)
        self.second, self.second_lif = nn.Linear(C, C), lif(0.2)
        self.q, self.k, self.v = (nn.Linear(C, C) for _ in range(3))
        self.fire = nn.ModuleList([lif(0.1), lif(0.1), lif(0.1), lif(0.2)])
        self.position = nn.Parameter(0.3 * torch.randn(1, TOKENS, C))
        self.token = nn.Parameter(0.5 * torch.randn(1, 1, C))
        self.table = nn.Parameter(torch.randn(2, TOKENS, TOKENS).round())
        self.register_buffer("mask", torch.tril(torch.ones(TOKENS, TOKENS)))
        self.conv, self.place = nn.Conv2d(C, C, 3, padding=1), nn.Parameter(torch.randn(1, C, 2, 3))
        self.every_step = nn.Parameter(torch.randn(T, 1, 1, C))
        self.head = nn.Linear(C, 3)

    def scores(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        found = q @ k.transpose(-1, -2)
        if self.form == "bias of scores":
            return found + self.table
        return found * self.mask if self.form == "mask of scores" else found

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        layers = zip(self.fire, (self.q, self.k, self.v))
        q, k, v = (f(3 * m(x)).unflatten(-1, (2, C // 2)).transpose(2, 3) for f, m in layers)
        return self.fire[3](0.25 * (self.scores(q, k) @ v)).transpose(2, 3).flatten(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc_lif(3 * self.fc(x.unsqueeze(0).repeat(T, 1, 1, 1)))
        token = self.token.expand(T, x.shape[1], 1, C)
        if self.form == "position beside spikes":
            x = x + self.position
        elif self.form == "position beside currents":
            x = self.second_lif(3 * self.second(x) + self.position)
        elif self.form == "class token":
            x = torch.cat([token, x], 2)
        elif self.form == "class token behind, with positions":
            x = torch.cat([x, token], 2) + torch.cat([self.position, self.token], 1)
        elif self.form == "map in front of a padded convolution":
            y = self.second(x).transpose(2, 3).reshape(T, -1, C, 2, 3) + self.place
            y = self.conv(y.flatten(0, 1)).unflatten(0, (T, -1))
            x = self.second_lif(3 * y).flatten(3).transpose(2, 3)
        elif self.form == "every step":
            x = self.second_lif(3 * self.second(x) + self.every_step)
        x = x + self.attention(x)
        if self.form.startswith("class token"):
            x = x[:, :, 0 if self.form == "class token" else -1]
        else:
            x = x.mean(2)
        return self.head(x).mean(0)


@pytest.mark.parametrize(
    "form",
    [
        "position beside spikes",
        "position beside currents",
        "class token",
        "class token behind, with positions",
        "map in front of a padded convolution",
        "bias of scores",
        "mask of scores",
    ],
)
def test_a_constant_for_each_position_compiles_exactly(form):
    program = neurocompile.compile(Tokens(form).eval(), SAMPLES, T=T)
    assert program.summary().import_agreement == 1
    assert program.parity(SAMPLES, against=("emulator",)).exact


def test_a_constant_for_each_step_is_refused_by_name():
    with pytest.raises(neurocompile.NeurocompileError) as caught:
        neurocompile.compile(Tokens("every step").eval(), SAMPLES, T=T)
    assert caught.value.code == "NC1009" and "differs between steps" in caught.value.message
