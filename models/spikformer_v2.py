"""Spikformer V2: Spikformer's blocks behind a convolutional stem (Zhou et al. 2024,
arXiv:2401.02020).

The stem has four stages of an eighth, a quarter, a half and all of the channels. Each halves the
grid by a convolution and adds what two 3x3 convolutions make of four times the channels; every
convolution is normalized and ends in a neuron, so residuals add spikes::

    x = SN(BN(Conv2x2, stride 2(x)));  x = x + SN(BN(Conv3x3(SN(BN(Conv3x3(x))))))

=========================== ============== ==================
config                      our parameters data of the paper
=========================== ============== ==================
``SPIKFORMER_V2_8_384``            29.09 M ImageNet, 224x224
``SPIKFORMER_V2_8_512``            51.52 M ImageNet, 224x224
``SPIKFORMER_V2_16_768``          172.21 M ImageNet, 224x224
=========================== ============== ==================

The authors have published no code, and of the sizes only the abstract's 172M of the largest was at
hand: the stem is a reconstruction, held to that number. Attention and MLP are
:mod:`~neurocompile.models.spikformer`'s; the pre-training with masked patches leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import MLP, Block, ConvBN, SpikingSelfAttention, check_image_size, lif, present

__all__ = [
    "SPIKFORMER_V2_16_768",
    "SPIKFORMER_V2_8_384",
    "SPIKFORMER_V2_8_512",
    "SpikformerV2",
    "SpikformerV2Config",
]


@dataclass(frozen=True)
class SpikformerV2Config:
    """Sizes of a :class:`SpikformerV2`."""

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 1000
    """Outputs of the head."""
    image_size: int = 224
    """H and W of the input image; a multiple of 2 to the power of ``stages``."""
    stages: int = 4
    """Of the stem: a token has 2^stages pixels a side."""
    embed_dim: int = 512
    """Channels of the blocks; divisible by 2^(stages - 1)."""
    depth: int = 8
    """Transformer blocks."""
    num_heads: int = 8
    """Attention heads; divides ``embed_dim``."""
    mlp_ratio: int = 4
    """Hidden channels of an MLP over its channels."""
    stem_ratio: int = 4
    """Hidden channels of the stem's residuals over theirs."""
    T: int = 4
    """Simulation steps of one image."""


SPIKFORMER_V2_8_384 = SpikformerV2Config(embed_dim=384)
SPIKFORMER_V2_8_512 = SpikformerV2Config()
SPIKFORMER_V2_16_768 = SpikformerV2Config(embed_dim=768, depth=16, num_heads=12, T=1)


class StemStage(nn.Module):
    """One stage of the stem: (T, B, in, H, W) to numbers of spikes 0, 1, 2, (T, B, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, ratio: int) -> None:
        super().__init__()
        self.down = ConvBN(in_channels, out_channels, 2, 2)
        self.down.conv.padding = (0, 0)
        self.down_lif = lif()
        self.expand = ConvBN(out_channels, ratio * out_channels, 3)
        self.expand_lif = lif()
        self.reduce = ConvBN(ratio * out_channels, out_channels, 3)
        self.reduce_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down_lif(self.down(x))
        return x + self.reduce_lif(self.reduce(self.expand_lif(self.expand(x))))


class SpikformerV2(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    The image is presented T times (direct coding); logits are the head's output on the mean over
    steps and tokens.

    Args:
        config: sizes. No weight depends on ``config.T`` or ``config.image_size``.
    """

    def __init__(self, config: SpikformerV2Config = SPIKFORMER_V2_8_512) -> None:
        super().__init__()
        self.config = config
        check_image_size(config.image_size, 2**config.stages)
        dim = config.embed_dim
        widths = (config.in_channels, *(dim >> i for i in reversed(range(config.stages))))
        self.stem = nn.Sequential(
            *(StemStage(a, b, config.stem_ratio) for a, b in zip(widths, widths[1:], strict=False))
        )
        self.blocks = nn.Sequential(
            *(
                Block(SpikingSelfAttention(dim, config.num_heads), MLP(dim, dim * config.mlp_ratio))
                for _ in range(config.depth)
            )
        )
        self.head = nn.Linear(dim, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(present(x, self.config.T)))
        return self.head(x.mean((3, 4)).mean(0))
