"""Normalization statistics, accuracy and spike rates of a trained model, in float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import nn

from .fused_lif import FusedLIF

__all__ = ["accuracy", "calibrate", "spike_rates"]

_BATCH = 500


@contextmanager
def _float32():
    """No tensor-float rounding inside: spikes are decided by comparisons. Nor a search for the fastest
    kernels, which takes longer than these few batches.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32
    cudnn.allow_tf32 = cudnn.benchmark = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32 = before


def _batches(images: torch.Tensor):
    for part in images.split(_BATCH):
        yield (part.float() / 255.0).contiguous(memory_format=torch.channels_last)


def calibrate(model: nn.Module, images: torch.Tensor) -> None:
    """Give every batch normalization the mean over batches of what its input's mean and variance
    are on ``images``, uint8 (N, 3, H, W): training saw them augmented, and in lower precision.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches seen
        norm.train()
    with torch.no_grad(), _float32():
        for x in _batches(images):
            model(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.eval()


def accuracy(
    model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor
) -> int:
    """How many of ``images``, uint8 (N, 3, H, W), the model in eval mode puts into their class."""
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    with torch.no_grad(), _float32():
        for x, y in zip(_batches(images), labels.split(_BATCH)):
            correct += (model(x).argmax(1) == y).sum()
    return int(correct)


def spike_rates(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Spikes a neuron a step of every :class:`FusedLIF`, by its name, mean over ``images``."""
    totals: dict[str, torch.Tensor] = {}

    def count(name: str):
        def hook(_module: nn.Module, _inputs: object, spikes: torch.Tensor) -> None:
            rate = spikes.mean(dtype=torch.float64) * spikes.shape[1]
            totals[name] = totals.get(name, 0.0) + rate

        return hook

    hooks = [
        module.register_forward_hook(count(name))
        for name, module in model.named_modules()
        if isinstance(module, FusedLIF)
    ]
    try:
        with torch.no_grad(), _float32():
            for x in _batches(images):
                model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: float(total) / len(images) for name, total in sorted(totals.items())}
