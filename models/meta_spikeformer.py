"""Meta-SpikeFormer (Spike-driven Transformer, version 2): convolution, then attention (Yao et al.
2024, arXiv:2404.03663).

Membrane shortcuts: residuals carry real potentials, and a neuron stands before every convolution or
chain of convolutions. Two stages of convolution blocks, two of transformer blocks with SDSA-3, in
spikes Q, K and V and with s = 0.125; RepConv is a chain of convolutions that merges into a 3x3
one::

    Q = SN(RepConv_1(SN(U))), K and V alike
    SDSA_3(Q, K, V) = RepConv_4(SN(Q K^T V * s))

============== ========== =================
config         parameters data of the paper
============== ========== =================
``META_8_384``    31.33 M ImageNet, 224x224
``META_8_512``    55.35 M ImageNet, 224x224
============== ========== =================

Neurons keep their potential between calls: call ``functional.reset_net`` between batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import (
    Block,
    ConvBN,
    LIFConvBN,
    MembraneMLP,
    check_image_size,
    lif,
    merge_heads,
    present,
    split_heads,
)

__all__ = ["META_8_384", "META_8_512", "MetaSpikeFormer", "MetaSpikeFormerConfig"]


@dataclass(frozen=True)
class MetaSpikeFormerConfig:
    """Sizes of a :class:`MetaSpikeFormer`."""

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 1000
    """Outputs of the head."""
    image_size: int = 224
    """H and W of the input image; a multiple of 16."""
    dims: tuple[int, int, int, int] = (128, 256, 512, 640)
    """Channels of the four stages; stage 1 begins with half of its own. The grids are 1/4, 1/8,
    1/16 and 1/16.
    """
    depths: tuple[int, int, int, int] = (1, 2, 6, 2)
    """Blocks of the stages, convolution in 1 and 2, transformer in 3 and 4; stage 1 has as many
    more at 1/2.
    """
    num_heads: int = 8
    """Attention heads; divides the channels of stages 3 and 4."""
    mlp_ratio: int = 4
    """Hidden channels of an MLP, and of the 3x3 convolutions of a convolution block, over their
    channels.
    """
    T: int = 4
    """Simulation steps of one image."""


META_8_384 = MetaSpikeFormerConfig(dims=(96, 192, 384, 480))
META_8_512 = MetaSpikeFormerConfig()


class SeparableConv(nn.Module):
    """``reduce(depthwise(lif(expand(x))))``: potentials (T, B, C, H, W) to the same.

    expand, a 1x1 convolution after a neuron, doubles the channels; depthwise is 7x7 in each; reduce
    is 1x1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = LIFConvBN(channels, 2 * channels, 1)
        self.depthwise_lif = lif()
        self.depthwise = nn.Conv2d(
            2 * channels, 2 * channels, 7, padding=3, groups=2 * channels, bias=False
        )
        self.reduce = ConvBN(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.depthwise_lif(self.expand(x))
        return self.reduce(self.depthwise(spikes.flatten(0, 1)).unflatten(0, (x.shape[0], -1)))


class ConvBlock(nn.Module):
    """``x + separable(x)``, then ``x + channel2(channel1(x))``: 3x3 convolutions where a
    transformer has an MLP.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.separable = SeparableConv(channels)
        self.channel1 = LIFConvBN(channels, hidden, 3)
        self.channel2 = LIFConvBN(hidden, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.separable(x)
        return x + self.channel2(self.channel1(x))


class RepConv(nn.Module):
    """1x1, 3x3 by channel and 1x1 convolutions without neurons between: one 3x3 convolution, told
    in fewer weights.

    Where the 3x3 reaches over the edge it must see what the first normalization makes of zero, else
    the chain would not merge into a convolution with zero padding. So the first convolution pads:
    the authors' code pads after the normalization with its value at zero, the same in evaluation,
    but without the edge in the statistics of training.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise1 = nn.Conv2d(channels, channels, 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, groups=channels, bias=False)
        self.pointwise2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.pointwise1(x.flatten(0, 1)))
        y = self.bn3(self.bn2(self.pointwise2(self.depthwise(y))))
        return y.unflatten(0, (x.shape[0], -1))


class RepConvSelfAttention(nn.Module):
    """SDSA-3 of the module's docstring, the inner threshold 0.5: potentials (T, B, C, H, W) to the
    same.
    """

    scale = 0.125

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_lif = lif()
        self.q = RepConv(channels)
        self.q_lif = lif()
        self.k = RepConv(channels)
        self.k_lif = lif()
        self.v = RepConv(channels)
        self.v_lif = lif()
        self.attn_lif = lif(0.5)
        self.proj = RepConv(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.in_lif(x)
        q = split_heads(self.q_lif(self.q(spikes)), self.num_heads)
        k = split_heads(self.k_lif(self.k(spikes)), self.num_heads)
        v = split_heads(self.v_lif(self.v(spikes)), self.num_heads)
        y = (q @ (k.transpose(-1, -2) @ v)) * self.scale
        return self.proj(self.attn_lif(merge_heads(y, *x.shape[3:])))


class MetaSpikeFormer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    The image is presented T times (direct coding); logits are the head's output on the potentials'
    mean over steps and grid.

    Args:
        config: sizes. No weight depends on ``config.T`` or ``config.image_size``.
    """

    def __init__(self, config: MetaSpikeFormerConfig = META_8_512) -> None:
        super().__init__()
        self.config = config
        check_image_size(config.image_size, 16)
        dims, depths = config.dims, config.depths
        half = dims[0] // 2
        self.downsample1_1 = ConvBN(config.in_channels, half, 7, stride=2)
        self.stage1_1 = self._convolutions(half, depths[0])
        self.downsample1_2 = LIFConvBN(half, dims[0], 3, stride=2)
        self.stage1_2 = self._convolutions(dims[0], depths[0])
        self.downsample2 = LIFConvBN(dims[0], dims[1], 3, stride=2)
        self.stage2 = self._convolutions(dims[1], depths[1])
        self.downsample3 = LIFConvBN(dims[1], dims[2], 3, stride=2)
        self.stage3 = self._transformers(dims[2], depths[2])
        self.downsample4 = LIFConvBN(dims[2], dims[3], 3)
        self.stage4 = self._transformers(dims[3], depths[3])
        self.head = nn.Linear(dims[3], config.num_classes)

    def _convolutions(self, channels: int, depth: int) -> nn.Sequential:
        return nn.Sequential(
            *(ConvBlock(channels, channels * self.config.mlp_ratio) for _ in range(depth))
        )

    def _transformers(self, channels: int, depth: int) -> nn.Sequential:
        heads, hidden = self.config.num_heads, channels * self.config.mlp_ratio
        return nn.Sequential(
            *(
                Block(RepConvSelfAttention(channels, heads), MembraneMLP(channels, hidden))
                for _ in range(depth)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage1_1(self.downsample1_1(present(x, self.config.T)))
        x = self.stage1_2(self.downsample1_2(x))
        x = self.stage2(self.downsample2(x))
        x = self.stage3(self.downsample3(x))
        x = self.stage4(self.downsample4(x))
        return self.head(x.mean((3, 4)).mean(0))
