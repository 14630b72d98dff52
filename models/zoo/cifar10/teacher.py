"""The dense networks that the spiking ones learn from: residual networks (He et al. 2016,
arXiv:1512.03385) for small images, without any spike.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["TEACHERS", "ResNet", "distillation_loss"]

TEACHERS: dict[str, tuple[int, int]] = {"resnet-18": (64, 2), "resnet-tiny": (8, 1)}
"""Name to (channels of the first stage, residual blocks a stage)."""


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv_bn(inputs, outputs, 3, stride)
        self.second = _conv_bn(outputs, outputs, 3)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else _conv_bn(inputs, outputs, 1, stride)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """Images (B, 3, H, W) float32 in 0..1 to logits (B, classes): a 3x3 convolution at full
    resolution, then four stages of ``blocks`` residual blocks, each of half the grid and twice the
    channels of the one before.
    """

    def __init__(self, width: int = 64, blocks: int = 2, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = _conv_bn(3, width, 3)
        channels, stages = width, []
        for stage in range(4):
            for block in range(blocks):
                outputs = width * 2**stage
                stages.append(_Residual(channels, outputs, 2 if stage and not block else 1))
                channels = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem((x - 0.473) / 0.25))
        return self.head(self.stages(x).mean((2, 3)))


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> torch.Tensor:
    """``temperature^2 KL(softmax(teacher / temperature) || softmax(student / temperature))``, mean
    over the batch (Hinton et al. 2015, arXiv:1503.02531); both are logits (B, classes).
    """
    expected = F.log_softmax(teacher / temperature, 1)
    given = F.log_softmax(student / temperature, 1)
    return F.kl_div(given, expected, reduction="batchmean", log_target=True) * temperature**2
