"""SpikingResformer: a pyramid of dual spike self-attention and group-wise feed-forward (Shi et al.
2024, arXiv:2403.14302).

Membrane shortcuts: residuals carry real potentials, and a neuron stands before every convolution.
Attention DSSA, in spikes X of n tokens and d channels a head, with f_1 and f_2 the two halves of
one BN(Conv(X)) whose p x p patches leave m = n / p^2 tokens::

    A = SN(f_1(X) X^T / sqrt(r_X d))                    (m, n), real times spikes
    DSSA(X) = BN(Linear(SN(f_2(X)^T A / sqrt(r_A m))))  (d, n), real times spikes

r_X and r_A are running means of the firing rate of X and A, one a head, constant after training.

======================== ========== =================
config                   parameters data of the paper
======================== ========== =================
``RESFORMER_CIFAR``         10.79 M CIFAR, 32x32
``RESFORMER_CIFAR_SLIM``     3.90 M (ours)
``RESFORMER_TI``            11.18 M ImageNet, 224x224
``RESFORMER_S``             17.81 M ImageNet, 224x224
``RESFORMER_M``             35.60 M ImageNet, 224x224
``RESFORMER_L``             60.38 M ImageNet, 224x224
======================== ========== =================

Neurons keep their potential between calls: call ``functional.reset_net`` between batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import Block, ConvBN, LIFConvBN, check_image_size, lif, present

__all__ = [
    "RESFORMER_CIFAR",
    "RESFORMER_CIFAR_SLIM",
    "RESFORMER_L",
    "RESFORMER_M",
    "RESFORMER_S",
    "RESFORMER_TI",
    "SpikingResformer",
    "SpikingResformerConfig",
]


@dataclass(frozen=True)
class SpikingResformerConfig:
    """Sizes of a :class:`SpikingResformer`; every tuple has one entry a stage, each of half the
    grid before.
    """

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 1000
    """Outputs of the head."""
    image_size: int = 224
    """H and W of the input image; a multiple of what the prologue, the stages and their patches
    divide by.
    """
    large_prologue: bool = True
    """Start with a 7x7 convolution of stride 2 and a maximum of stride 2 (ImageNet), not with a 3x3
    convolution.
    """
    dims: tuple[int, ...] = (64, 192, 384)
    """Channels; each a multiple of its heads."""
    num_heads: tuple[int, ...] = (1, 3, 6)
    """Attention heads."""
    patch_sizes: tuple[int, ...] = (4, 2, 1)
    """p: edge of the patches that attention reduces to one token."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Blocks."""
    mlp_ratio: int = 4
    """Channels inside a feed-forward over those outside."""
    group_size: int = 64
    """Channels of a group in the 3x3 convolution of a feed-forward; divides its channels."""
    T: int = 4
    """Simulation steps of one image."""


RESFORMER_CIFAR = SpikingResformerConfig(num_classes=10, image_size=32, large_prologue=False)
RESFORMER_CIFAR_SLIM = SpikingResformerConfig(
    num_classes=10,
    image_size=32,
    large_prologue=False,
    dims=(64, 128, 256),
    num_heads=(1, 2, 4),
    depths=(1, 1, 2),
)
"""Ours: the least of these, so that its weights in float16 are below 10 MB."""
RESFORMER_TI = SpikingResformerConfig()
RESFORMER_S = SpikingResformerConfig(dims=(64, 256, 512), num_heads=(1, 4, 8))
RESFORMER_M = SpikingResformerConfig(dims=(64, 384, 768), num_heads=(1, 6, 12))
RESFORMER_L = SpikingResformerConfig(dims=(128, 512, 1024), num_heads=(2, 8, 16))


class RateScale(nn.Module):
    """Divide a product by ``sqrt(rate * terms)``, where rate is the running mean rate of its spike
    factor, by head.

    In training the first 1000 batches are averaged, then older ones fade by 0.1 % a batch. The rate
    is 1 before any, and taken for :attr:`floor` where it is less: a head that never fires must not
    make the scale infinite.
    """

    floor = 1e-3

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("rate", torch.ones(num_heads, 1, 1))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, product: torch.Tensor, spikes: torch.Tensor, terms: int) -> torch.Tensor:
        """``product`` and ``spikes`` are (T, B, heads, ..., ...); a value of ``product`` sums
        ``terms`` values.
        """
        if self.training:
            with torch.no_grad():
                self.batches += 1
                self.rate += (
                    spikes.mean((0, 1, 3, 4)).view_as(self.rate) - self.rate
                ) / self.batches.clamp(max=1000)
        return product * torch.rsqrt(self.rate.clamp(min=self.floor) * terms)


class DualSpikeSelfAttention(nn.Module):
    """DSSA of the module's docstring: potentials (T, B, C, H, W) to the same; H and W multiples of
    ``patch_size``.
    """

    def __init__(self, channels: int, num_heads: int, patch_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_lif = lif()
        self.transform = nn.Conv2d(channels, 2 * channels, patch_size, patch_size, bias=False)
        self.transform_bn = nn.BatchNorm2d(2 * channels)
        self.attn_scale = RateScale(num_heads)
        self.attn_lif = lif()
        self.out_scale = RateScale(num_heads)
        self.proj = LIFConvBN(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.in_lif(x)
        y = self.transform_bn(self.transform(spikes.flatten(0, 1)))
        y = y.unflatten(0, (x.shape[0], -1)).flatten(3).unflatten(2, (self.num_heads, -1))
        y1, y2 = y.chunk(2, 3)
        columns = spikes.flatten(3).unflatten(2, (self.num_heads, -1))
        attn = self.attn_lif(self.attn_scale(y1.transpose(-1, -2) @ columns, columns, y1.shape[3]))
        out = self.out_scale(y2 @ attn, attn, y2.shape[4])
        return self.proj(out.flatten(2, 3).unflatten(3, x.shape[3:]))


class GroupWiseFeedForward(nn.Module):
    """``down(y + conv(y))`` with ``y = up(x)``: potentials (T, B, C, H, W) to the same.

    up and down are 1x1 convolutions, conv a 3x3 in groups of ``group_size`` channels, each after a
    neuron.
    """

    def __init__(self, channels: int, hidden: int, group_size: int) -> None:
        super().__init__()
        self.up = LIFConvBN(channels, hidden, 1)
        self.conv = LIFConvBN(hidden, hidden, 3, groups=hidden // group_size)
        self.down = LIFConvBN(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        return self.down(x + self.conv(x))


class SpikingResformer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    The image is presented T times (direct coding); logits are the head's output on the potentials'
    mean over steps and grid.

    Args:
        config: sizes. No weight depends on ``config.T`` or ``config.image_size``.
    """

    def __init__(self, config: SpikingResformerConfig = RESFORMER_TI) -> None:
        super().__init__()
        self.config = config
        prologue = 4 if config.large_prologue else 1
        check_image_size(
            config.image_size, prologue * max(p * 2**i for i, p in enumerate(config.patch_sizes))
        )
        if config.large_prologue:
            self.prologue = ConvBN(config.in_channels, config.dims[0], 7, stride=2, pool=True)
        else:
            self.prologue = ConvBN(config.in_channels, config.dims[0], 3)
        self.stages = nn.Sequential(*(self._stage(i) for i in range(len(config.dims))))
        self.classifier = nn.Linear(config.dims[-1], config.num_classes, bias=False)

    def _stage(self, i: int) -> nn.Sequential:
        config = self.config
        dim = config.dims[i]
        stage = nn.Sequential()
        if i:
            stage.add_module("downsample", LIFConvBN(config.dims[i - 1], dim, 3, stride=2))
        for j in range(config.depths[i]):
            attention = DualSpikeSelfAttention(dim, config.num_heads[i], config.patch_sizes[i])
            feed_forward = GroupWiseFeedForward(dim, dim * config.mlp_ratio, config.group_size)
            stage.add_module(f"block{j}", Block(attention, feed_forward))
        return stage

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.prologue(present(x, self.config.T)))
        return self.classifier(x.mean((3, 4)).mean(0))
