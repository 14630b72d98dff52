"""Spectral norms of linear layers: exact where that is cheap, otherwise an upper bound. Never an
estimate from below.

A convolution over a zero border is a part of the circular convolution on a grid that is larger by
the kernel, so no singular value of it exceeds the largest one over that grid's frequencies (Sedghi,
Gupta, Long 2019). Strides drop rows of it. Where even that is dear, the four reshapes of Singla and
Feizi (2021) bound it.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

__all__ = ["convolution_norm", "matrix_norm"]

_DENSE = 1 << 21
"""Entries of an operator's matrix up to which its norm is computed from the matrix itself."""
_FOURIER = 2e10
"""Frequencies times channels cubed up to which the frequencies are looked at."""


def matrix_norm(weight: np.ndarray) -> float:
    """Largest singular value of a matrix, from the smaller Gram matrix in float64."""
    weight = np.asarray(weight, np.float64)
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    return sqrt(max(float(np.linalg.eigvalsh(gram)[-1]), 0.0)) if gram.size else 0.0


def convolution_norm(
    weight: np.ndarray,
    shape: tuple[int, int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> tuple[float, str]:
    """Spectral norm of a convolution (cross-correlation) on an input of ``shape`` (C, H, W), or a
    bound of it.

    Args:
        weight: (C_out, C_in / groups, kH, kW).

    Returns the norm and how it was found: exact, fourier bound or reshape bound.
    """
    weight = np.asarray(weight, np.float64)
    out, _, kh, kw = weight.shape
    parts = [weight[g * out // groups : (g + 1) * out // groups] for g in range(groups)]
    if kh == kw == 1 and padding == (
        0,
        0,
    ):  # the same matrix at every position that the stride reads
        return max(matrix_norm(p[:, :, 0, 0]) for p in parts), "exact"
    _, height, width = shape
    size = (
        (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1,
        (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1,
    )
    per_in, per_out = parts[0].shape[1], parts[0].shape[0]
    if per_in * height * width * per_out * prod(size) <= _DENSE:
        return max(
            matrix_norm(_matrix(p, (height, width), size, stride, padding, dilation)) for p in parts
        ), "exact"
    grid = (height + dilation[0] * (kh - 1), width + dilation[1] * (kw - 1))
    if prod(grid) * max(per_in, per_out) * min(per_in, per_out) ** 2 * groups <= _FOURIER:
        return max(_fourier(p, grid, dilation) for p in parts), "fourier bound"
    return max(_reshapes(p) for p in parts), "reshape bound"


def _matrix(
    weight: np.ndarray,
    inner: tuple[int, int],
    outer: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> np.ndarray:
    """The operator as a matrix (outputs, inputs)."""
    (height, width), (rows, columns) = inner, outer
    matrix = np.zeros((weight.shape[0], rows, columns, weight.shape[1], height, width))
    y, x = np.arange(rows), np.arange(columns)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            source_y = y * stride[0] - padding[0] + i * dilation[0]
            source_x = x * stride[1] - padding[1] + j * dilation[1]
            good_y, good_x = (
                (source_y >= 0) & (source_y < height),
                (source_x >= 0) & (source_x < width),
            )
            a, b = np.ix_(y[good_y], x[good_x])
            c, d = np.ix_(source_y[good_y], source_x[good_x])
            matrix[:, a, b, :, c, d] += weight[:, :, i, j]
    return matrix.reshape(weight.shape[0] * rows * columns, -1)


def _fourier(weight: np.ndarray, grid: tuple[int, int], dilation: tuple[int, int]) -> float:
    """Largest singular value over the frequencies of the circular convolution on ``grid``."""
    out, inner, kh, kw = weight.shape
    spread = np.zeros((out, inner, dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1))
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    largest = 0.0
    rows = np.exp(-2j * np.pi * np.outer(np.arange(grid[0]), np.arange(spread.shape[2])) / grid[0])
    columns = np.exp(
        -2j * np.pi * np.outer(np.arange(grid[1] // 2 + 1), np.arange(spread.shape[3])) / grid[1]
    )
    for row in rows:  # real weights: half of the frequencies are conjugates of the others
        line = np.einsum("ocij,i,fj->foc", spread, row, columns)
        gram = (
            line @ line.conj().transpose(0, 2, 1)
            if out <= inner
            else line.conj().transpose(0, 2, 1) @ line
        )
        largest = max(largest, float(np.linalg.eigvalsh(gram)[:, -1].max()))
    return sqrt(max(largest, 0.0))


def _reshapes(weight: np.ndarray) -> float:
    out, inner, kh, kw = weight.shape
    forms = (
        weight.transpose(0, 2, 1, 3).reshape(out * kh, inner * kw),
        weight.transpose(0, 3, 1, 2).reshape(out * kw, inner * kh),
        weight.reshape(out, -1),
        weight.transpose(1, 0, 2, 3).reshape(inner, -1),
    )
    return sqrt(kh * kw) * min(matrix_norm(form) for form in forms)
