"""Reference models without training: random weights whose normalizations fit some images, so that
neurons fire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from neurocompile.models.registry import build
from spikingjelly.activation_based import functional
from torch import nn

__all__ = ["calibrated"]


def calibrated(
    name: str,
    images: torch.Tensor,
    change: Callable[[nn.Module], object] | None = None,
    **config: Any,
) -> nn.Module:
    """The model ``name`` in eval mode, the same for the same images.

    Every normalization has the mean and variance that its input takes on ``images`` and a bias
    within 0.2..1, so layers fire at any depth, as those of a trained network do.

    Args:
        images: float32 (samples, C, H, W), 0..1, or frames (samples, T, C, H, W).
        change: alters the model in place before it sees them, such as how its neurons reset.
        config: what to change of the model's config.
    """
    torch.manual_seed(0)
    model = build(name, **config)
    if change is not None:
        change(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.2, 1.0)
            module.momentum = None  # the mean over all batches seen
    with torch.no_grad():
        for _ in range(2):
            model(images)
            functional.reset_net(model)
    return model.eval()
