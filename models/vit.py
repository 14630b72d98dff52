"""A dense vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929): the baseline beside spiking
ones, and with neurons in front of its head a network that compiles.

Blocks are ``x + attention(LN(x))``, then ``x + mlp(LN(x))``, with softmax and GELU; a class token and
positions; LN and a linear head on the class token. With ``T`` steps, IF neurons with a soft reset
read the last LN in each step, and the head reads their mean.

================ ========== ============ ======================
config           parameters multiply-adds data of the paper
================ ========== ============ ======================
``VIT_B_16``        86.57 M      17.56 G ImageNet, 224x224
================ ========== ============ ======================
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["VIT_B_16", "ViT", "ViTConfig", "macs"]


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a :class:`ViT`."""

    in_channels: int = 3
    """Channels of the input image."""
    num_classes: int = 1000
    """Outputs of the head."""
    image_size: int = 224
    """H and W of the input image; a multiple of ``patch_size``."""
    patch_size: int = 16
    """Edge of a token in pixels."""
    dim: int = 768
    """Channels of a token."""
    depth: int = 12
    """Blocks."""
    num_heads: int = 12
    """Attention heads; divides ``dim``."""
    mlp_ratio: int = 4
    """Hidden channels of an MLP over its channels."""
    T: int = 0
    """Steps of the neurons in front of the head; 0 for none."""

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


VIT_B_16 = ViTConfig()


def macs(config: ViTConfig) -> int:
    """Multiply-adds of one image: layers and the two products of attention, no softmax or norms."""
    n, dim = config.tokens, config.dim
    patches = (n - 1) * dim * config.in_channels * config.patch_size**2
    block = n * dim * dim * (4 + 2 * config.mlp_ratio) + 2 * n * n * dim
    return patches + config.depth * block + dim * config.num_classes


class ViTBlock(nn.Module):
    """(B, N, C) to the same shape."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        q, k, v = (
            layer(y).unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)
            for layer in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        x = x + self.proj((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32.

    ValueError for an image that patches do not fill.
    """

    def __init__(self, config: ViTConfig = VIT_B_16) -> None:
        super().__init__()
        if config.image_size % config.patch_size:
            raise ValueError(
                f"image_size is {config.image_size}, no multiple of patches of {config.patch_size}"
            )
        self.config = config
        dim, patch = config.dim, config.patch_size
        self.patch = nn.Conv2d(config.in_channels, dim, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.places = nn.Parameter(torch.zeros(1, config.tokens, dim))
        nn.init.normal_(self.token, 0, 0.02)
        nn.init.normal_(self.places, 0, 0.02)
        self.blocks = nn.Sequential(
            *(ViTBlock(dim, config.num_heads, dim * config.mlp_ratio) for _ in range(config.depth))
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], 1, -1), x], 1) + self.places
        y = self.norm(self.blocks(x)[:, 0])
        return self.head(self._rate(y) if self.config.T else y)

    def _rate(self, x: torch.Tensor) -> torch.Tensor:
        """Mean spikes of IF neurons that read ``x`` in every step.

        In training with the gradient of ``clip(x, 0, 1)``, which the mean rounds down.
        """
        u, total = torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(self.config.T):
            u = u + x
            spikes = (u >= 1.0).to(u.dtype)
            u, total = u - spikes, total + spikes
        rate = total / self.config.T
        if not self.training:
            return rate
        clipped = x.clamp(0, 1)
        return clipped + (rate - clipped).detach()
