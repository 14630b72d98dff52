"""Launches of the kernels of attention: products of values, and sums over rows of memory."""

from __future__ import annotations

import torch
import triton

from neurocompile.gpu.kernels import products, row_sums

__all__ = ["matrix_products", "sums_of_rows"]

_LONGEST = 1024
"""Of a row that one program sums."""


def _block(size: int) -> int:
    return min(64, max(16, triton.next_power_of_2(size)))


def matrix_products(a: torch.Tensor, b: torch.Tensor, kind: torch.dtype) -> torch.Tensor | None:
    """``a @ b`` of integers (T or 1, samples, N, K), or with an axis of heads in front of N, that fit
    float16 and whose sums fit float32; None for other shapes. The value lies in memory as (T,
    samples, N, heads, M).
    """
    if a.ndim != b.ndim or a.ndim not in (4, 5):
        return None
    if a.ndim == 4:
        made = matrix_products(a.unsqueeze(2), b.unsqueeze(2), kind)
        return None if made is None else made.squeeze(2)
    lead = torch.broadcast_shapes(a.shape[:3], b.shape[:3])
    a, b = a.expand(*lead, *a.shape[3:]), b.expand(*lead, *b.shape[3:])
    (steps, images, heads), (n, k), m = lead, a.shape[3:], b.shape[4]
    y = torch.empty((steps, images, n, heads, m), dtype=kind, device=a.device)
    y = y.permute(0, 1, 3, 2, 4)
    bn, bm = _block(n), _block(m)
    grid = (steps * images * heads, triton.cdiv(n, bn), triton.cdiv(m, bm))
    products[grid](
        a, b, y, n, m, k, images, heads, *a.stride(), *b.stride(), *y.stride()[:4],
        bn, bm, _block(k),
    )  # fmt: skip
    return y


def sums_of_rows(
    x: torch.Tensor, axes: list[int], keepdims: bool, kind: torch.dtype
) -> torch.Tensor | None:
    """The sum over ``axes`` where these lie innermost in dense memory, else None."""
    order = sorted(range(x.ndim), key=lambda i: (-x.stride(i) if x.shape[i] > 1 else 0, i))
    order = [i for i in order if i not in axes] + [i for i in order if i in axes]
    rows = x.permute(order)
    if not rows.is_contiguous() or not x.numel():
        return None
    kept = [i for i in order if i not in axes]
    y = torch.empty([x.shape[i] for i in kept], dtype=kind, device=x.device)
    length = x.numel() // y.numel()
    if length > _LONGEST:
        return None
    width = triton.next_power_of_2(length)
    block = max(1, 4096 // width)
    row_sums[(triton.cdiv(y.numel(), block),)](x, y, y.numel(), length, width, block)
    place = sorted(range(len(kept)), key=lambda j: kept[j])
    y = y.permute(place)
    for axis in sorted(axes) if keepdims else ():
        y = y.unsqueeze(axis)
    return y
