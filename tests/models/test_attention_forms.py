"""Forms of spiking attention that no reference model has, from torch to Lava."""

from __future__ import annotations

import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.layers import ConvBN, lif  # noqa: E402
from spikingjelly.activation_based import functional  # noqa: E402
from torch import nn  # noqa: E402


class ChannelQKAttention(nn.Module):
    """Q-K channel attention (QKFormer, section 3.2): a channel passes its K when any token of its Q
    fired.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.q, self.q_lif = ConvBN(channels, channels, 1), lif()
        self.k, self.k_lif = ConvBN(channels, channels, 1), lif()
        self.attn_lif = lif(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.q_lif(self.q(x)), self.k_lif(self.k(x))
        return self.attn_lif(q.sum((3, 4), keepdim=True)) * k


class ThreeWays(nn.Module):
    """Q K^T V with the product taken from the left, from the right, or both transposed."""

    def __init__(self, channels: int, order: str) -> None:
        super().__init__()
        self.order = order
        self.parts = nn.ModuleList(
            nn.Sequential(ConvBN(channels, channels, 1), lif()) for _ in range(3)
        )
        self.attn_lif = lif(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part(x).flatten(3).transpose(-1, -2) for part in self.parts)
        if self.order == "left":
            y = (q @ k.transpose(-1, -2)) @ v
        elif self.order == "right":
            y = q @ (k.transpose(-1, -2) @ v)
        else:
            y = (v.transpose(-1, -2) @ (k @ q.transpose(-1, -2))).transpose(-1, -2)
        return self.attn_lif(y * 0.5).transpose(-1, -2).unflatten(3, x.shape[3:])


class Network(nn.Module):
    """Images (B, 2, 4, 4), T = 4, attention between two convolutions, logits of 3 classes."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem, self.stem_lif = ConvBN(2, 6, 3), lif()
        self.attention = attention
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem_lif(self.stem(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)))
        return self.head(self.attention(x).flatten(3).mean(3).mean(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ChannelQKAttention(6),
        lambda: ThreeWays(6, "left"),
        lambda: ThreeWays(6, "right"),
        lambda: ThreeWays(6, "turned"),
    ],
    ids=["channel", "left", "right", "turned"],
)
def test_attention_compiles_and_is_exact_on_lava(make):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    torch.manual_seed(3)
    model = Network(make())
    images = torch.rand(8, 2, 4, 4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.8, 2.0)
            module.momentum = 1.0
    with torch.no_grad():
        model(images)  # statistics of the normalizations
        functional.reset_net(model)
    program = neurocompile.compile(model.eval(), images, calibration=images.numpy())
    report = program.parity(images.numpy(), against=("emulator", "lava"))
    assert report.exact and report.backends[-1].values > 0
    rates = program.run(images.numpy()).spikes
    assert all(rates.values()), f"a layer is silent: {rates}"
