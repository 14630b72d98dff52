"""Reference models trained on CIFAR-10: the training script, weights as .safetensors and their card.

Each function gives (module in eval mode, example input), as every command's MODEL may be::

    neurocompile build neurocompile.models.zoo.cifar10:qkformer_4_256 --target hala_point --calibration X.npz
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "qkformer_4_256",
    "spike_driven_transformer_2_256",
    "spikformer_4_256",
    "spiking_resformer_cifar_slim",
]


def qkformer_4_256() -> tuple[nn.Module, torch.Tensor]:
    """QKFormer-4-256 (Zhou et al. 2024), T = 4."""
    return _shipped("qkformer-4-256")


def spikformer_4_256() -> tuple[nn.Module, torch.Tensor]:
    """Spikformer-4-256 (Zhou et al. 2023), T = 4."""
    return _shipped("spikformer-4-256")


def spike_driven_transformer_2_256() -> tuple[nn.Module, torch.Tensor]:
    """Spike-driven Transformer-2-256 (Yao et al. 2023), T = 4."""
    return _shipped("spike-driven-transformer-2-256")


def spiking_resformer_cifar_slim() -> tuple[nn.Module, torch.Tensor]:
    """SpikingResformer (Shi et al. 2024) in our slim size, T = 4."""
    return _shipped("spiking-resformer-cifar-slim")


def _shipped(name: str) -> tuple[nn.Module, torch.Tensor]:
    import torch

    from .weights import load

    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return load(Path(__file__).parent / f"{name}.safetensors"), image
