"""Convolutions and strided patterns as sparse matrices (n_dst, n_src), without a loop over synapses
in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import Conv2d, Strided
from neurocompile.ir.layout import strided_index

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["conv_csr", "strided_csr"]


def strided_csr(projection: Strided, n_src: int, n_dst: int) -> csr_matrix:
    """The matrix of a Strided projection; indices that meet twice add up."""
    from scipy.sparse import csr_matrix

    rows = strided_index(projection.sizes, projection.dst_strides, projection.dst_offset)
    cols = strided_index(projection.sizes, projection.src_strides, projection.src_offset)
    if rows.size and (
        min(rows.min(), cols.min()) < 0 or rows.max() >= n_dst or cols.max() >= n_src
    ):
        raise NeurocompileError(
            "NC9001", f"projection '{projection.name}' leaves its populations ({n_src} to {n_dst})"
        )
    data = np.full(rows.size, projection.weight, np.int32)
    return csr_matrix((data, (rows, cols)), shape=(n_dst, n_src), dtype=np.int32)


def conv_csr(
    projection: Conv2d, weight: np.ndarray, src: tuple[int, ...], dst: tuple[int, ...]
) -> csr_matrix:
    """The matrix of a cross-correlation from (H, W, C_in) to (H', W', C_out), both flattened."""
    from scipy.sparse import csr_matrix

    (height, width, c_in), (h_out, w_out, c_out) = src, dst
    group_in, group_out = c_in // projection.groups, c_out // projection.groups
    channel = np.arange(c_out)
    # (C_out, C_in / groups): input channel of each weight
    cols_c = (channel // group_out * group_in)[:, None] + np.arange(group_in)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for a, b in np.ndindex(*weight.shape[1:3]):
        y = (
            np.arange(h_out) * projection.stride[0]
            - projection.padding[0]
            + a * projection.dilation[0]
        )
        x = (
            np.arange(w_out) * projection.stride[1]
            - projection.padding[1]
            + b * projection.dilation[1]
        )
        y_ok, x_ok = np.flatnonzero((y >= 0) & (y < height)), np.flatnonzero((x >= 0) & (x < width))
        tap = weight[:, a, b, :].astype(np.int32)
        o, i = np.nonzero(tap)
        to = ((y_ok[:, None] * w_out + x_ok) * c_out).reshape(-1, 1) + o
        of = ((y[y_ok][:, None] * width + x[x_ok]) * c_in).reshape(-1, 1) + cols_c[o, i]
        values = np.broadcast_to(tap[o, i], to.shape).ravel()
        parts.append((values, to.astype(np.int32).ravel(), of.astype(np.int32).ravel()))
    data, rows, cols = (np.concatenate(arrays) for arrays in zip(*parts))
    return csr_matrix(
        (data, (rows, cols)), shape=(h_out * w_out * c_out, height * width * c_in), dtype=np.int32
    )
