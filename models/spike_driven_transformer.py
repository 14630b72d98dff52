"""Spike-driven Transformer, version 1: attention by masks and additions (Yao et al. 2023,
arXiv:2307.01694).

Membrane shortcuts: residuals carry real potentials, and a neuron stands before every convolution,
so weights meet spikes alone. Attention SDSA-1, in spikes Q, K and V::

    SDSA(Q, K, V) = Q * SN(sum over tokens of K * V)

with * element by element: per channel, one mask for all tokens. It costs no product of two
matrices. The authors split channels into 8 heads, but no head sees another channel than its own:
the number of heads changes nothing.

============= ========== =================
config        parameters data of the paper
============= ========== =================
``SDT_2_256``     2.57 M CIFAR, 32x32
``SDT_2_512``    10.23 M CIFAR, 32x32
``SDT_8_768``    66.34 M ImageNet, 224x224
============= ========== =================

Neurons keep their potential between calls: call ``functional.reset_net`` between batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import (
    Block,
    ConvBN,
    ConvLIFPool,
    LIFConvBN,
    MembraneMLP,
    check_image_size,
    halvings,
    lif,
    present,
)

__all__ = [
    "SDT_2_256",
    "SDT_2_512",
    "SDT_8_768",
    "SpikeDrivenTransformer",
    "SpikeDrivenTransformerConfig",
]


@dataclass(frozen=True)
class SpikeDrivenTransformerConfig:
    """Sizes of a :class:`SpikeDrivenTransformer`."""

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 10
    """Outputs of the head."""
    image_size: int = 32
    """H and W of the input image; a multiple of ``patch_size``."""
    patch_size: int = 4
    """Edge of a token in pixels, a power of 2 up to 16."""
    embed_dim: int = 512
    """Channels of the blocks, a multiple of 8: the patch splitting starts at an eighth."""
    depth: int = 2
    """Transformer blocks."""
    mlp_ratio: int = 4
    """Hidden channels of an MLP over its channels."""
    T: int = 4
    """Simulation steps of one image."""


SDT_2_256 = SpikeDrivenTransformerConfig(embed_dim=256)
SDT_2_512 = SpikeDrivenTransformerConfig()
SDT_8_768 = SpikeDrivenTransformerConfig(
    num_classes=1000, image_size=224, patch_size=16, embed_dim=768, depth=8
)


class MembranePatchSplitting(nn.Module):
    """Four 3x3 convolutions to a grid of potentials x, then ``y = x + rpe(lif(x))``.

    The first three end in neurons and pool spikes, the fourth ends in real values and pools those.
    Images (T, B, in, H, W) to potentials (T, B, C, H / patch_size, W / patch_size).
    """

    def __init__(self, in_channels: int, channels: int, patch_size: int) -> None:
        super().__init__()
        widths = (in_channels, channels // 8, channels // 4, channels // 2)
        *halve_spikes, halve_potentials = halvings(patch_size)
        self.split = nn.Sequential(*map(ConvLIFPool, widths, widths[1:], halve_spikes))
        self.proj = ConvBN(channels // 2, channels, 3, pool=halve_potentials)
        self.rpe = LIFConvBN(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.proj(self.split(x))
        return x + self.rpe(x)


class SpikeDrivenSelfAttention(nn.Module):
    """``proj(Q * lif(sum over tokens of K * V))``, the threshold 0.5; potentials (T, B, C, H, W) to
    the same.

    The sum is an integer, so a spike of K * V at step t, at any token, always fires the mask at
        step t: it is an OR.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shortcut_lif = lif()
        self.q = ConvBN(channels, channels, 1)
        self.q_lif = lif()
        self.k = ConvBN(channels, channels, 1)
        self.k_lif = lif()
        self.v = ConvBN(channels, channels, 1)
        self.v_lif = lif()
        self.attn_lif = lif(0.5)
        self.proj = ConvBN(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shortcut_lif(x)
        q, k, v = self.q_lif(self.q(x)), self.k_lif(self.k(x)), self.v_lif(self.v(x))
        mask = self.attn_lif((k * v).sum((3, 4), keepdim=True))
        return self.proj(q * mask)


class SpikeDrivenTransformer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    The image is presented T times (direct coding). A last neuron fires on the mean over tokens;
    logits are the head's output on its rate.

    Args:
        config: sizes. No weight depends on ``config.T`` or ``config.image_size``.
    """

    def __init__(self, config: SpikeDrivenTransformerConfig = SDT_2_512) -> None:
        super().__init__()
        self.config = config
        check_image_size(config.image_size, config.patch_size)
        dim, hidden = config.embed_dim, config.embed_dim * config.mlp_ratio
        self.patch_embed = MembranePatchSplitting(config.in_channels, dim, config.patch_size)
        self.blocks = nn.Sequential(
            *(
                Block(SpikeDrivenSelfAttention(dim), MembraneMLP(dim, hidden))
                for _ in range(config.depth)
            )
        )
        self.head_lif = lif()
        self.head = nn.Linear(dim, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.patch_embed(present(x, self.config.T)))
        return self.head(self.head_lif(x.mean((3, 4))).mean(0))
