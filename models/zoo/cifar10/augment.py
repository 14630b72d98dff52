"""Augmentation on the device that trains, a batch at a time, without one wait for the host.

Every random number comes from one generator, so a run resumes from its saved state.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

__all__ = ["PAD", "augmented", "cropped", "mixed", "padded"]

PAD = 4
"""Pixels by which a crop may move."""


def padded(images: torch.Tensor) -> torch.Tensor:
    """Images uint8 (N, 3, H, W) mirrored at their edges to (N, 3, H + 2 PAD, W + 2 PAD)."""
    return torch.cat(
        [
            F.pad(part.float(), (PAD, PAD, PAD, PAD), mode="reflect").to(torch.uint8)
            for part in images.split(4096)
        ]
    )


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, device=generator.device)


def cropped(images: torch.Tensor, index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A crop at random of each padded image, mirrored half of the time: float32 (B, 3, H, W), 0..1."""
    size, count, device = images.shape[2] - 2 * PAD, len(index), images.device
    offset = torch.randint(0, 2 * PAD + 1, (2, count, 1), generator=generator, device=device)
    line = torch.arange(size, device=device)
    rows, columns = offset[0] + line, offset[1] + line
    flip = torch.rand(count, 1, generator=generator, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    crop = images[index[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return crop.permute(0, 3, 1, 2).float() / 255.0


def _affine(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images turned by up to 15 degrees, sheared by up to 0.15 and scaled by 0.85..1.15."""
    count = len(x)
    angle = _uniform(generator, -math.pi / 12, math.pi / 12, count)
    shear = _uniform(generator, -0.15, 0.15, 2, count)
    scale = _uniform(generator, 0.85, 1.15, count)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    zero = torch.zeros_like(cos)
    matrix = torch.stack(
        [torch.stack([cos, -sin + shear[0], zero], 1), torch.stack([sin + shear[1], cos, zero], 1)],
        1,
    )
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, "bilinear", "reflection", align_corners=False)
    chosen = torch.rand(count, 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, moved, x)


def _colour(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images with brightness, contrast and saturation changed by up to 40 %."""
    brightness, contrast, saturation = _uniform(generator, 0.6, 1.4, 3, len(x), 1, 1, 1)
    y = x * brightness
    y = torch.lerp(y.mean((1, 2, 3), keepdim=True), y, contrast)
    y = torch.lerp(y.mean(1, keepdim=True), y, saturation).clamp(0.0, 1.0)
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, y, x)


def _box(x: torch.Tensor, side: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Boolean (B, 1, H, W): a square of ``side`` (B,) pixels around a random pixel, cut at the edges."""
    height, width = x.shape[2:]
    centre = torch.rand(2, len(x), 1, generator=generator, device=x.device)
    half = side[:, None] / 2
    rows = (torch.arange(height, device=x.device) + 0.5 - centre[0] * height).abs() < half
    columns = (torch.arange(width, device=x.device) + 0.5 - centre[1] * width).abs() < half
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def augmented(
    images: torch.Tensor, index: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """The images ``index`` (B,) of ``padded`` ones: cropped, mirrored, half of them deformed, half
    recoloured, half with a grey square of up to a half of the edge; float32 (B, 3, H, W), 0..1.
    """
    x = cropped(images, index, generator)
    x = _colour(_affine(x, generator), generator)
    side = _uniform(generator, -0.5, 0.5, len(x)).clamp(min=0.0) * x.shape[2]
    return torch.where(_box(x, side, generator), 0.5, x)


def mixed(
    x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A quarter of the batch blended with another image (mixup), a quarter with a square of another
    one (CutMix).

    Args:
        x: float32 (B, 3, H, W).
        y: target probabilities (B, classes), mixed in the same proportion.
    """
    count = len(x)
    other = torch.randperm(count, generator=generator, device=x.device)
    share = torch.rand(count, generator=generator, device=x.device)
    kind = torch.rand(count, generator=generator, device=x.device)
    blend = (kind < 0.25)[:, None, None, None]
    paste = ((kind >= 0.25) & (kind < 0.5))[:, None, None, None]
    box = _box(x, (1.0 - share).sqrt() * x.shape[2], generator)
    kept = torch.where(blend, share[:, None, None, None], torch.where(paste & box, 0.0, 1.0))
    mixture = torch.lerp(x[other], x, kept)
    kept = kept.expand(-1, -1, *x.shape[2:]).mean((1, 2, 3))[:, None]
    return mixture, torch.lerp(y[other], y, kept)
