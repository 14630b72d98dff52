"""Exact matrix products of integers on torch, from the forms that :mod:`neurocompile.gpu.plan` proves.

Convolutions are matrix products over unfolded windows: cuDNN may compute a float32 convolution by
Winograd or FFT, whose intermediate values are no integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F

__all__ = ["columns", "exact_arithmetic", "matmul", "output_size", "product"]


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """No TF32 and no float16 partial sums inside."""
    flags = torch.backends.cuda.matmul
    before = flags.allow_tf32, flags.allow_fp16_reduced_precision_reduction
    flags.allow_tf32 = flags.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        flags.allow_tf32, flags.allow_fp16_reduced_precision_reduction = before


def _float(form: str, total: int) -> torch.dtype:
    return torch.float32 if form != "double" and total < 1 << 24 else torch.float64


def product(x: torch.Tensor, weight: torch.Tensor, form: str, total: int) -> torch.Tensor:
    """``x @ weight`` of integers: (rows, k) and (k, n) of any integer types, to (rows, n) of a float
    type that holds them exactly.
    """
    if form in ("int8", "half") and x.is_cuda and total < 1 << 24:
        pad = -x.shape[1] % 8
        a, b = x.to(torch.float16), weight.to(torch.float16)
        if pad:
            a, b = F.pad(a, (0, pad)), F.pad(b, (0, 0, 0, pad))
        return torch.mm(a, b, out_dtype=torch.float32)
    kind = _float(form, total)
    return x.to(kind) @ weight.to(kind)


def matmul(a: torch.Tensor, b: torch.Tensor, form: str, total: int) -> torch.Tensor:
    """``a @ b`` over the last two axes, to a float type that holds the integers exactly."""
    kind = _float(form, total)
    if form in ("int8", "half") and a.is_cuda and total <= 1 << 11:
        kind = torch.float16  # every partial sum is exact in it
    contiguous = torch.contiguous_format
    return a.to(kind, memory_format=contiguous) @ b.to(kind, memory_format=contiguous)


def output_size(
    size: tuple[int, int],
    kernel: Sequence[int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Height and width of what a convolution gives."""
    high, wide = (
        (n + 2 * p - d * (k - 1) - 1) // t + 1
        for n, k, t, p, d in zip(size, kernel, stride, padding, dilation)
    )
    return high, wide


def columns(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> torch.Tensor:
    """Windows of images (N, H, W, C) as rows (N * H' * W', kH * kW * C), with a border of zeros."""
    (ph, pw), (sh, sw), (dh, dw) = padding, stride, dilation
    high, wide = output_size(x.shape[1:3], kernel, stride, padding, dilation)
    if ph or pw:
        x = F.pad(x, (0, 0, pw, pw, ph, ph))
    x = x.contiguous()
    n, _, _, c = x.shape
    a, b, w, one = x.stride()
    windows = x.as_strided((n, high, wide, *kernel, c), (a, b * sh, w * sw, b * dh, w * dw, one))
    return windows.reshape(n * high * wide, kernel[0] * kernel[1] * c)
