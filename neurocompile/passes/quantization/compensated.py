"""Rounding that makes up for itself: the error of each weight is handed to those behind it, by how
their inputs vary together.

Of a row w with inputs of covariance H, rounding to q adds ``(w - q) H (w - q)^T`` to the variance of
the sum. With ``H = U D U^T``, U upper triangular with ones on its diagonal, the error is ``sum_k
D_k (e_k + sum_{j<k} e_j U_jk)^2``, and each q_k in turn takes the nearest of ``w_k + sum_{j<k} e_j
U_jk``: GPTQ (Frantar et al. 2023) as LDLQ (Chee et al. 2023, theorem 1). The mean of what is left
goes into the bias, so that covariances, not second moments, count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.jit import cached_njit

if TYPE_CHECKING:
    from neurocompile.passes.quantization.state import Quantization

__all__ = ["compensated", "rounded"]

_DAMPING = 0.01
"""Of the mean variance, added to each: what a finite sample does not know."""


def rounded(
    state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """``weight``, the ``rows`` of a layer's in units of their scale, in whole numbers of the weight
    bits: the nearest ones, or compensated where the pass knows how the layer's inputs vary.
    """
    levels = (1 << (state.options.weight_bits - 1)) - 1
    known = state.options.covariances.get(node.name)
    if known is None:
        return np.clip(np.rint(weight), -levels, levels)
    group = rows * len(known) // len(state.graph.tensors[node.weight])
    found, flat = np.empty(weight.shape), weight.reshape(len(weight), -1)
    for g in np.unique(group):
        own = group == g
        found[own] = compensated(flat[own], known[g], levels).reshape(found[own].shape)
    return found


def compensated(weight: np.ndarray, covariance: np.ndarray, levels: int) -> np.ndarray:
    """Whole numbers of at most ``levels`` for ``weight``, in units of its scale.

    Args:
        weight: float64 (rows, n).
        covariance: float64 (n, n) of the inputs.
        levels: largest magnitude.

    Returns:
        float64 (rows, n).
    """
    variance = np.diagonal(covariance)
    mean = variance.mean()
    if not mean > 0:
        return np.clip(np.rint(weight), -levels, levels)
    order = np.argsort(-variance, kind="stable")  # inputs that vary most are rounded first
    damped = covariance[np.ix_(order, order)] + _DAMPING * mean * np.eye(len(order))
    upper = _unit_upper(np.ascontiguousarray(damped))
    found = np.empty_like(weight)
    found[:, order] = _rounded(np.ascontiguousarray(weight[:, order]), upper, float(levels))
    return found


@cached_njit()
def _unit_upper(a):  # type: ignore[no-untyped-def]
    """U of ``a = U D U^T``, in its place: (n, n) float64, symmetric and positive definite. Sums in
    one order, so that every machine finds the same.
    """
    n = a.shape[0]
    for k in range(n - 1, 0, -1):
        pivot = a[k, k]
        for i in range(k):
            factor = a[i, k] / pivot
            for j in range(k):
                a[i, j] -= factor * a[k, j]
            a[i, k] = factor
    return a


@cached_njit()
def _rounded(weight, upper, levels):  # type: ignore[no-untyped-def]
    rows, n = weight.shape
    found = np.empty_like(weight)
    handed = np.empty(n)
    for row in range(rows):
        handed[:] = 0.0
        for k in range(n):
            wanted = weight[row, k] + handed[k]
            q = min(max(np.rint(wanted), -levels), levels)
            found[row, k] = q
            error = weight[row, k] - q
            for j in range(k + 1, n):
                handed[j] += error * upper[k, j]
    return found
