"""Spikformer: the first spiking transformer without softmax (Zhou et al. 2023, arXiv:2209.15425).

Every signal between two layers is a spike or a sum of spikes: convolution, batch normalization and
neuron come in this order, and residuals add spikes, so they are integers. Maxima are taken over
spikes, so they are ORs. Attention, with Q, K and V spikes and s = 0.125::

    SSA(Q, K, V) = SN(BN(Linear(SN(Q K^T V * s))))

==================== ========== =================
config               parameters data of the paper
==================== ========== =================
``SPIKFORMER_4_256``     4.16 M CIFAR, 32x32
``SPIKFORMER_4_384``     9.33 M CIFAR, 32x32
``SPIKFORMER_8_512``    29.71 M ImageNet, 224x224
==================== ========== =================

The linear layers of the paper act on each token alone: they are 1x1 convolutions here. Neurons keep
their potential between calls: call ``functional.reset_net`` between batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import (
    MLP,
    Block,
    ConvBN,
    ConvLIFPool,
    SpikingSelfAttention,
    check_image_size,
    halvings,
    lif,
    present,
)

__all__ = [
    "SPIKFORMER_4_256",
    "SPIKFORMER_4_384",
    "SPIKFORMER_8_512",
    "Spikformer",
    "SpikformerConfig",
]


@dataclass(frozen=True)
class SpikformerConfig:
    """Sizes of a :class:`Spikformer`."""

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 10
    """Outputs of the head."""
    image_size: int = 32
    """H and W of the input image; a multiple of ``patch_size``."""
    patch_size: int = 4
    """Edge of a token in pixels, a power of 2 up to 16."""
    embed_dim: int = 384
    """Channels of the blocks, a multiple of 8: the patch splitting starts at an eighth."""
    depth: int = 4
    """Transformer blocks."""
    num_heads: int = 12
    """Attention heads; divides ``embed_dim``."""
    mlp_ratio: int = 4
    """Hidden channels of an MLP over its channels."""
    kv_first: bool = False
    """Associate attention as Q (K^T V), as the authors' ImageNet code does; their CIFAR code has (Q
    K^T) V.
    """
    T: int = 4
    """Simulation steps of one image."""


SPIKFORMER_4_256 = SpikformerConfig(embed_dim=256, num_heads=8)
SPIKFORMER_4_384 = SpikformerConfig()
SPIKFORMER_8_512 = SpikformerConfig(
    num_classes=1000,
    image_size=224,
    patch_size=16,
    embed_dim=512,
    depth=8,
    num_heads=8,
    kv_first=True,
)


class SpikingPatchSplitting(nn.Module):
    """Four 3x3 convolutions with neurons to a grid of tokens x, then ``y = x + lif(rpe(x))``: 0, 1
    or 2.

    rpe, the relative position embedding, is a fifth convolution. Images (T, B, in, H, W) to
    (T, B, C, H / patch_size, W / patch_size).
    """

    def __init__(self, in_channels: int, channels: int, patch_size: int) -> None:
        super().__init__()
        widths = (in_channels, channels // 8, channels // 4, channels // 2, channels)
        self.split = nn.Sequential(*map(ConvLIFPool, widths, widths[1:], halvings(patch_size)))
        self.rpe = ConvBN(channels, channels, 3)
        self.rpe_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.split(x)
        return x + self.rpe_lif(self.rpe(x))


class Spikformer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    The image is presented T times (direct coding); logits are the head's output on the mean over
    steps and tokens.

    Args:
        config: sizes. No weight depends on ``config.T`` or ``config.image_size``.
    """

    def __init__(self, config: SpikformerConfig = SPIKFORMER_4_384) -> None:
        super().__init__()
        self.config = config
        check_image_size(config.image_size, config.patch_size)
        dim, hidden = config.embed_dim, config.embed_dim * config.mlp_ratio
        self.patch_embed = SpikingPatchSplitting(config.in_channels, dim, config.patch_size)
        self.blocks = nn.Sequential(
            *(
                Block(
                    SpikingSelfAttention(dim, config.num_heads, config.kv_first), MLP(dim, hidden)
                )
                for _ in range(config.depth)
            )
        )
        self.head = nn.Linear(dim, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.patch_embed(present(x, self.config.T)))
        return self.head(x.mean((3, 4)).mean(0))
