"""Blocks that the reference models share, over tensors (T, B, C, H, W): time, batch, channels,
height and width.

No convolution before a batch normalization has a bias: it would do nothing.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

__all__ = [
    "MLP",
    "Block",
    "ConvBN",
    "ConvLIFPool",
    "LIFConvBN",
    "MembraneMLP",
    "SpikingSelfAttention",
    "check_image_size",
    "halvings",
    "lif",
    "merge_heads",
    "present",
    "split_heads",
]


def lif(v_threshold: float = 1.0) -> neuron.LIFNode:
    """A multi-step LIF neuron over (T, B, ...): ``h = v + (x - v) / 2; s = h >= v_threshold; v = 0
    where s, else h``.

    Args:
        v_threshold: firing threshold, in the unit of the input. tau is 2 steps and the hard reset
            goes to 0, as in the published training scripts of Spikformer and QKFormer.
    """
    return neuron.LIFNode(
        tau=2.0,
        v_threshold=v_threshold,
        v_reset=0.0,
        detach_reset=True,
        surrogate_function=surrogate.ATan(),
        step_mode="m",
    )


def present(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Images (B, C, H, W) to the same image at every step (T, B, C, H, W): direct coding; frames
    (B, T, C, H, W) as they come.

    ValueError for another number of frames than ``steps``.
    """
    if x.ndim == 5:
        if x.shape[1] != steps:
            raise ValueError(f"samples have {x.shape[1]} frames, the model runs for {steps} steps")
        return x.transpose(0, 1)
    return x.unsqueeze(0).repeat(steps, 1, 1, 1, 1)


def check_image_size(image_size: int, multiple: int) -> None:
    """ValueError unless ``image_size`` is a positive multiple of ``multiple``, by which the model
    shrinks its grid.
    """
    if image_size < 1 or image_size % multiple:
        raise ValueError(f"image_size is {image_size}, these strides need a multiple of {multiple}")


def halvings(patch_size: int) -> tuple[bool, ...]:
    """Which of four convolutions halve the grid so that a token has ``patch_size`` pixels a side:
    the last ones.
    """
    if patch_size not in (1, 2, 4, 8, 16):
        raise ValueError(f"patch_size is {patch_size}, four halvings reach 1, 2, 4, 8 or 16")
    return tuple(patch_size >= 2**after for after in (4, 3, 2, 1))


def split_heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(T, B, C, H, W) to (T, B, heads, H * W, C / heads)."""
    return x.flatten(3).unflatten(2, (num_heads, -1)).transpose(-1, -2)


def merge_heads(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(T, B, heads, H * W, C / heads) to (T, B, C, H, W)."""
    return x.transpose(-1, -2).flatten(2, 3).unflatten(3, (height, width))


class ConvBN(nn.Module):
    """Convolution without bias, batch normalization and, on request, MaxPool(3, 2, 1): (T, B, C, H,
    W) to the same.

    Args:
        in_channels, out_channels: C before and after.
        kernel: edge of the square kernel, odd; padding keeps H and W.
        stride: step of the convolution on both axes.
        pool: halve H and W after the normalization, before whatever neuron follows (QKFormer pools
            real values).
        groups: groups of channels that do not see each other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        pool: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x.shape[0]
        x = self.pool(self.bn(self.conv(x.flatten(0, 1))))
        return x.unflatten(0, (steps, -1))


class LIFConvBN(ConvBN):
    """A neuron before a :class:`ConvBN`: membrane potentials to membrane potentials, as membrane
    shortcuts need.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups)
        self.lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.lif(x))


class ConvLIFPool(nn.Module):
    """A 3x3 :class:`ConvBN`, its neuron and, on request, MaxPool(3, 2, 1) over spikes: an OR over
    each window.
    """

    def __init__(self, in_channels: int, out_channels: int, pool: bool) -> None:
        super().__init__()
        self.proj = ConvBN(in_channels, out_channels, 3)
        self.proj_lif = lif()
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x.shape[0]
        spikes = self.proj_lif(self.proj(x))
        return self.pool(spikes.flatten(0, 1)).unflatten(0, (steps, -1))


class SpikingSelfAttention(nn.Module):
    """Spiking self-attention without softmax: ``y = lif(proj(lif(Q K^T V * 0.125)))``, the inner
    threshold 0.5.

    Q, K and V are spikes of shape (T, B, heads, tokens, channels per head), so the products are
    integers. The last neuron runs over (T, B, ...): QKFormer's authors' code runs it over T * B,
    where images disturb each other.

    Args:
        channels: C before and after.
        num_heads: divides ``channels``.
        kv_first: associate as Q (K^T V), else as (Q K^T) V. The result is the same.
    """

    scale = 0.125

    def __init__(self, channels: int, num_heads: int, kv_first: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kv_first = kv_first
        self.q = ConvBN(channels, channels, 1)
        self.q_lif = lif()
        self.k = ConvBN(channels, channels, 1)
        self.k_lif = lif()
        self.v = ConvBN(channels, channels, 1)
        self.v_lif = lif()
        self.attn_lif = lif(0.5)
        self.proj = ConvBN(channels, channels, 1)
        self.proj_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = split_heads(self.q_lif(self.q(x)), self.num_heads)
        k = split_heads(self.k_lif(self.k(x)), self.num_heads)
        v = split_heads(self.v_lif(self.v(x)), self.num_heads)
        if self.kv_first:
            y = (q @ (k.transpose(-1, -2) @ v)) * self.scale
        else:
            y = ((q @ k.transpose(-1, -2)) * self.scale) @ v
        return self.proj_lif(self.proj(self.attn_lif(merge_heads(y, *x.shape[3:]))))


class MLP(nn.Module):
    """Two 1x1 convolutions, each with its neuron: (T, B, C, H, W) spikes to the same shape."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = ConvBN(channels, hidden, 1)
        self.fc1_lif = lif()
        self.fc2 = ConvBN(hidden, channels, 1)
        self.fc2_lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2_lif(self.fc2(self.fc1_lif(self.fc1(x))))


class MembraneMLP(nn.Module):
    """The same with each neuron before its convolution: membrane potentials to membrane potentials."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = LIFConvBN(channels, hidden, 1)
        self.fc2 = LIFConvBN(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(x))


class Block(nn.Module):
    """A transformer block: ``x + attn(x)``, then ``x + mlp(x)``; integers if both give spikes, else
    real.
    """

    def __init__(self, attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)
