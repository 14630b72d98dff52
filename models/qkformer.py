"""QKFormer: a hierarchical spiking transformer with linear token attention (Zhou et al. 2024,
arXiv:2403.16552).

Every signal between two layers is a spike or a sum of spikes: convolution, batch normalization and
neuron come in this order, and residuals add spikes, so they are integers. Between stages a patch
embedding halves the grid and doubles the channels. Stages but the last have token attention, ``A =
SN(sum over channels of Q), y = A * K`` (equations 7 and 8), the last spiking self-attention, ``y =
SN(Q K^T V * s)`` (Zhou et al. 2023, arXiv:2209.15425).

============== ========== =================
config         parameters data of the paper
============== ========== =================
``QK_4_256``       2.99 M CIFAR, 32x32
``QK_4_384``       6.71 M CIFAR, 32x32
``HST_10_384``    16.47 M ImageNet, 224x224
``HST_10_512``    29.08 M ImageNet, 224x224
``HST_10_768``    64.96 M ImageNet, 224x224
============== ========== =================

Neurons keep their potential between calls, as always in SpikingJelly: call ``functional.reset_net``
between batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .layers import MLP, Block, ConvBN, SpikingSelfAttention, check_image_size, lif, present

__all__ = [
    "HST_10_384",
    "HST_10_512",
    "HST_10_768",
    "QK_4_256",
    "QK_4_384",
    "QKFormer",
    "QKFormerConfig",
]


@dataclass(frozen=True)
class QKFormerConfig:
    """Sizes of a :class:`QKFormer`."""

    in_channels: int = 1
    """Channels of the input image."""
    num_classes: int = 10
    """Outputs of the head."""
    embed_dim: int = 32
    """Channels of the last stage; each stage before has half of the next one, the first convolution
    half of stage 1.
    """
    num_heads: int = 4
    """Attention heads of every stage; divides the channels of stage 1."""
    mlp_ratio: int = 2
    """Hidden channels of an MLP over its channels."""
    depth1: int = 1
    """Token attention blocks in stage 1."""
    depth2: int = 1
    """Blocks in stage 2: self-attention if it is the last stage, else token attention."""
    T: int = 4
    """Simulation steps of one image."""
    depth3: int = 0
    """Self-attention blocks in stage 3; 0 for a model of two stages."""
    pool_early: bool = False
    """The ImageNet models: the first embedding quarters H and W, and the others pool before their
    last convolution.
    """
    image_size: int = 8
    """H and W of the input image; a multiple of 2 to the number of stages - 1, times 4 if
    ``pool_early``.
    """


QK_4_256 = QKFormerConfig(
    in_channels=3,
    embed_dim=256,
    num_heads=8,
    mlp_ratio=4,
    depth1=1,
    depth2=1,
    depth3=2,
    image_size=32,
)
QK_4_384 = QKFormerConfig(
    in_channels=3,
    embed_dim=384,
    num_heads=8,
    mlp_ratio=4,
    depth1=1,
    depth2=1,
    depth3=2,
    image_size=32,
)


def _hst_10(embed_dim: int) -> QKFormerConfig:
    return QKFormerConfig(
        in_channels=3,
        num_classes=1000,
        embed_dim=embed_dim,
        num_heads=embed_dim // 64,
        mlp_ratio=4,
        depth1=1,
        depth2=2,
        depth3=7,
        pool_early=True,
        image_size=224,
    )


HST_10_384 = _hst_10(384)
HST_10_512 = _hst_10(512)
HST_10_768 = _hst_10(768)


class PatchEmbedInit(nn.Module):
    """First embedding, at full resolution: ``z = lif(f(x)); y = lif(g(z)) + lif(r(z))``, in (T, B,
    in, H, W).

    g is a 3x3 and r, the deformed shortcut (section 3.4 of the paper), a 1x1 convolution. y holds
    0, 1 or 2.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = ConvBN(in_channels, channels // 2, 3)
        self.proj_lif = lif()
        self.proj1 = ConvBN(channels // 2, channels, 3)
        self.proj1_lif = lif()
        self.proj_res = ConvBN(channels // 2, channels, 1)
        self.proj_res_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.proj_lif(self.proj(x))
        return self.proj1_lif(self.proj1(x)) + self.proj_res_lif(self.proj_res(x))


class PatchEmbedInitPooled(nn.Module):
    """First embedding of the ImageNet models, to a quarter of H and W.

    ``z = lif(pool(f(x))); y = lif(h(lif(pool(g(z))))) + lif(r(z))``, f, g and h 3x3, r 1x1 of
    stride 2.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = ConvBN(in_channels, channels // 2, 3, pool=True)
        self.proj_lif = lif()
        self.proj1 = ConvBN(channels // 2, channels, 3, pool=True)
        self.proj1_lif = lif()
        self.proj2 = ConvBN(channels, channels, 3)
        self.proj2_lif = lif()
        self.proj_res = ConvBN(channels // 2, channels, 1, stride=2)
        self.proj_res_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.proj_lif(self.proj(x))
        y = self.proj2_lif(self.proj2(self.proj1_lif(self.proj1(x))))
        return y + self.proj_res_lif(self.proj_res(x))


class PatchEmbedStage(nn.Module):
    """Embedding between stages, halves H and W: ``y = lif(pool(g(lif(f(x))))) + lif(r(x))``, r of
    stride 2.

    The maximum is taken over real values, before the neuron; with ``pool_early`` f is pooled
    instead of g.
    """

    def __init__(self, in_channels: int, channels: int, pool_early: bool = False) -> None:
        super().__init__()
        self.proj = ConvBN(in_channels, channels, 3, pool=pool_early)
        self.proj_lif = lif()
        self.proj1 = ConvBN(channels, channels, 3, pool=not pool_early)
        self.proj1_lif = lif()
        self.proj_res = ConvBN(in_channels, channels, 1, stride=2)
        self.proj_res_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.proj1_lif(self.proj1(self.proj_lif(self.proj(x))))
        return y + self.proj_res_lif(self.proj_res(x))


class TokenQKAttention(nn.Module):
    """Q-K token attention (equations 7 and 8): a token passes its K when any channel of its Q
    fired.

    Per head, ``mask = lif(sum over channels of Q)`` with threshold 0.5, then ``y = lif(proj(mask *
    K))``. The sum is an integer, so a spike of Q at step t always fires the mask at step t.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = ConvBN(channels, channels, 1)
        self.q_lif = lif()
        self.k = ConvBN(channels, channels, 1)
        self.k_lif = lif()
        self.attn_lif = lif(0.5)
        self.proj = ConvBN(channels, channels, 1)
        self.proj_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_lif(self.q(x)).unflatten(2, (self.num_heads, -1))
        k = self.k_lif(self.k(x)).unflatten(2, (self.num_heads, -1))
        mask = self.attn_lif(q.sum(3, keepdim=True))
        return self.proj_lif(self.proj((mask * k).flatten(2, 3)))


class QKFormer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    The image is presented T times (direct coding); logits are the head's output on the mean over
    steps and tokens.

    Args:
        config: sizes. No weight depends on ``config.T`` or ``config.image_size``.
    """

    def __init__(self, config: QKFormerConfig = QKFormerConfig()) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        check_image_size(
            config.image_size, (4 if config.pool_early else 1) * (4 if config.depth3 else 2)
        )
        dims = (dim // 4, dim // 2, dim) if config.depth3 else (dim // 2, dim)
        init = PatchEmbedInitPooled if config.pool_early else PatchEmbedInit
        self.patch_embed1 = init(config.in_channels, dims[0])
        self.stage1 = self._stage(TokenQKAttention, dims[0], config.depth1)
        self.patch_embed2 = PatchEmbedStage(dims[0], dims[1], config.pool_early)
        self.stage2 = self._stage(
            TokenQKAttention if config.depth3 else SpikingSelfAttention, dims[1], config.depth2
        )
        if config.depth3:
            self.patch_embed3 = PatchEmbedStage(dims[1], dim, config.pool_early)
            self.stage3 = self._stage(SpikingSelfAttention, dim, config.depth3)
        self.head = nn.Linear(dim, config.num_classes)

    def _stage(self, attention: type[nn.Module], channels: int, depth: int) -> nn.Sequential:
        heads, hidden = self.config.num_heads, channels * self.config.mlp_ratio
        return nn.Sequential(
            *(Block(attention(channels, heads), MLP(channels, hidden)) for _ in range(depth))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = present(x, self.config.T)
        x = self.stage1(self.patch_embed1(x))
        x = self.stage2(self.patch_embed2(x))
        if self.config.depth3:
            x = self.stage3(self.patch_embed3(x))
        return self.head(x.mean((3, 4)).mean(0))
