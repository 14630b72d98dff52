"""A small vision transformer with softmax attention between spiking neurons: what
``circuits/softmax.py`` compiles.

Q, K and V are spikes. Scores and values are averaged over the steps before the softmax, so
attention has the meaning of rates, and what follows sees one value for a sample::

    y = softmax(mean_t(Q K^T) / sqrt(d)) mean_t(V)

A softmax in every step would be no rate, and no spikes could carry it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from neurocompile.models.layers import (
    MLP,
    ConvBN,
    check_image_size,
    lif,
    merge_heads,
    present,
    split_heads,
)
from torch import nn

__all__ = ["SoftmaxAttention", "SpikingViT", "SpikingViTConfig"]


@dataclass(frozen=True)
class SpikingViTConfig:
    """Sizes of a :class:`SpikingViT`."""

    in_channels: int = 1
    image_size: int = 8
    patch_size: int = 2
    dim: int = 16
    num_heads: int = 2
    mlp_hidden: int = 32
    depth: int = 1
    num_classes: int = 10
    T: int = 16


class SoftmaxAttention(nn.Module):
    """``lif(proj(softmax(mean_t(Q K^T) / sqrt(d)) mean_t(V)))``: (T, B, C, H, W) spikes to the same
    shape.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.q, self.k, self.v = (ConvBN(channels, channels, 1) for _ in range(3))
        self.q_lif, self.k_lif, self.v_lif = (lif() for _ in range(3))
        self.softmax = nn.Softmax(-1)
        self.proj = ConvBN(channels, channels, 1)
        self.proj_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = split_heads(self.q_lif(self.q(x)), self.num_heads)
        k = split_heads(self.k_lif(self.k(x)), self.num_heads)
        v = split_heads(self.v_lif(self.v(x)), self.num_heads)
        scores = (q @ k.transpose(-1, -2)).mean(0, keepdim=True) * self.scale
        y = self.softmax(scores) @ v.mean(0, keepdim=True)
        y = self.proj(merge_heads(y, *x.shape[3:]))
        return self.proj_lif(y.repeat(x.shape[0], 1, 1, 1, 1))


class SpikingViT(nn.Module):
    """Patches, blocks of :class:`SoftmaxAttention` and MLP with residuals, mean over tokens and
    time, a linear head.
    """

    def __init__(self, config: SpikingViTConfig = SpikingViTConfig()) -> None:
        super().__init__()
        check_image_size(config.image_size, config.patch_size)
        self.config = config
        self.patch = nn.Conv2d(
            config.in_channels, config.dim, config.patch_size, config.patch_size, bias=False
        )
        self.patch_bn, self.patch_lif = nn.BatchNorm2d(config.dim), lif()
        self.attention = nn.ModuleList(
            SoftmaxAttention(config.dim, config.num_heads) for _ in range(config.depth)
        )
        self.mlp = nn.ModuleList(MLP(config.dim, config.mlp_hidden) for _ in range(config.depth))
        self.head = nn.Linear(config.dim, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = present(self.patch_bn(self.patch(x)), self.config.T)
        x = self.patch_lif(x)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
        return self.head(x.flatten(3).mean((0, 3)))
