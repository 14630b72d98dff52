"""E-SpikeFormer (Spike-driven Transformer, version 3): one step of numbers of spikes (Yao et al. 2025,
arXiv:2411.16061).

Neurons have no memory and send a number of 0 to 4: ``round(clip(x, 0, 4)) / 4`` (halves to even), on a
chip one graded spike. Membrane shortcuts as in Meta-SpikeFormer; a transformer block starts with a
separable convolution, and its values have four times the channels of Q and K::

    y = proj(N(((Q K^T) V) 2 / sqrt(d))),  Q = N(conv(N(x))), K and V alike

The head reads the neurons' numbers 0 to 4 of the mean over the grid.

============ ========== =================
config       parameters data of the paper
============ ========== =================
``E_S``          5.10 M ImageNet, 224x224
``E_M``         10.01 M ImageNet, 224x224
``E_L``         18.98 M ImageNet, 224x224
============ ========== =================

Sizes are those of the authors' code (BICLab/Spike-Driven-Transformer-V3, Model_Base).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import check_image_size

__all__ = ["E_L", "E_M", "E_S", "ESpikeFormer", "ESpikeFormerConfig"]


@dataclass(frozen=True)
class ESpikeFormerConfig:
    """Sizes of an :class:`ESpikeFormer`."""

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 1000
    """Outputs of the head."""
    image_size: int = 224
    """H and W of the input image; a multiple of 16."""
    dims: tuple[int, int, int, int] = (64, 128, 256, 360)
    """Channels of the four stages; stage 1 begins with half of its own. The grids are 1/4, 1/8, 1/16
    and 1/16.
    """
    depths: tuple[int, int, int, int] = (1, 2, 6, 2)
    """Blocks of the stages, convolution in 1 and 2, transformer in 3 and 4; stage 1 has as many more
    at 1/2.
    """
    num_heads: int = 8
    """Attention heads; divides the channels of stages 3 and 4."""
    mlp_ratio: int = 4
    """Hidden channels of an MLP, and of the 3x3 convolutions of a convolution block, over their
    channels.
    """
    value_ratio: int = 4
    """Channels of the values over those of Q and K."""
    T: int = 1
    """Steps: one."""


E_S = ESpikeFormerConfig(dims=(32, 64, 128, 192))
E_M = ESpikeFormerConfig(dims=(48, 96, 192, 240))
E_L = ESpikeFormerConfig()


class MultiSpike(nn.Module):
    """``round(clip(x, 0, 4)) / norm``, any shape. In training its gradient is that of the clip."""

    def __init__(self, norm: float = 4.0) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clipped = torch.clamp(x, 0, 4)
        spikes = torch.round(clipped)
        if self.training:
            spikes = clipped + (spikes - clipped).detach()
        return spikes / self.norm


class Conv(nn.Module):
    """Convolution without bias and batch normalization, with a neuron in front: (B, C, H, W)."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        neuron: bool = True,
    ) -> None:
        super().__init__()
        self.neuron = MultiSpike() if neuron else nn.Identity()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(self.neuron(x)))


def separable(channels: int, kernel: int) -> nn.Sequential:
    """1x1 to twice the channels, ``kernel`` in each, 1x1 back."""
    wide = 2 * channels
    return nn.Sequential(
        Conv(channels, wide, 1), Conv(wide, wide, kernel, groups=wide), Conv(wide, channels, 1)
    )


class ConvBlock(nn.Module):
    """``x + separable(x)``, then ``x`` and two 3x3 convolutions."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.separable = separable(channels, 7)
        self.wide = nn.Sequential(
            Conv(channels, ratio * channels, 3), Conv(ratio * channels, channels, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.separable(x)
        return x + self.wide(x)


class Attention(nn.Module):
    """Products of numbers of spikes: (B, C, H, W) to the same."""

    def __init__(self, channels: int, num_heads: int, value_ratio: int) -> None:
        super().__init__()
        wide = channels * value_ratio
        self.num_heads, self.scale = num_heads, 2 * (channels // num_heads) ** -0.5
        self.neuron = MultiSpike()
        self.q, self.k, self.v = (
            nn.Sequential(Conv(channels, out, 1, neuron=False), MultiSpike())
            for out in (channels, channels, wide)
        )
        self.proj = Conv(wide, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        x = self.neuron(x)
        q, k, v = (
            layer(x).flatten(2).unflatten(1, (self.num_heads, -1)).transpose(-1, -2)
            for layer in (self.q, self.k, self.v)
        )
        y = q @ k.transpose(-1, -2) @ v * self.scale
        return self.proj(y.transpose(-1, -2).flatten(1, 2).unflatten(2, size))


class TransformerBlock(nn.Module):
    """Residuals around a separable convolution, attention and an MLP."""

    def __init__(self, channels: int, config: ESpikeFormerConfig) -> None:
        super().__init__()
        hidden = channels * config.mlp_ratio
        self.separable = separable(channels, 3)
        self.attn = Attention(channels, config.num_heads, config.value_ratio)
        self.mlp = nn.Sequential(Conv(channels, hidden, 1), Conv(hidden, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.separable(x)
        x = x + self.attn(x)
        return x + self.mlp(x)


class ESpikeFormer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    ValueError for an image that 16 does not divide.
    """

    def __init__(self, config: ESpikeFormerConfig = E_L) -> None:
        super().__init__()
        self.config = config
        check_image_size(config.image_size, 16)
        dims, depths = config.dims, config.depths
        half = dims[0] // 2
        self.downsample1_1 = Conv(config.in_channels, half, 7, 2, neuron=False)
        self.stage1_1 = self._convolutions(half, depths[0])
        self.downsample1_2 = Conv(half, dims[0], 3, 2)
        self.stage1_2 = self._convolutions(dims[0], depths[0])
        self.downsample2 = Conv(dims[0], dims[1], 3, 2)
        self.stage2 = self._convolutions(dims[1], depths[1])
        self.downsample3 = Conv(dims[1], dims[2], 3, 2)
        self.stage3 = self._transformers(dims[2], depths[2])
        self.downsample4 = Conv(dims[2], dims[3], 3)
        self.stage4 = self._transformers(dims[3], depths[3])
        self.head_neuron = MultiSpike(1.0)
        self.head = nn.Linear(dims[3], config.num_classes)

    def _convolutions(self, channels: int, depth: int) -> nn.Sequential:
        return nn.Sequential(*(ConvBlock(channels, self.config.mlp_ratio) for _ in range(depth)))

    def _transformers(self, channels: int, depth: int) -> nn.Sequential:
        return nn.Sequential(*(TransformerBlock(channels, self.config) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage1_1(self.downsample1_1(x))
        x = self.stage1_2(self.downsample1_2(x))
        x = self.stage2(self.downsample2(x))
        x = self.stage3(self.downsample3(x))
        x = self.stage4(self.downsample4(x))
        return self.head(self.head_neuron(x.mean((2, 3))))
