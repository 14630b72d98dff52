"""``neurocompile.deff``: the effective dimension of an array or of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurocompile.theory.measure.data_rows import open_rows, rows_of
from neurocompile.theory.measure.effective_dimension import EffectiveDimension, effective_dimension

__all__ = ["deff"]


def deff(
    data: np.ndarray | str | Path,
    quantile: float = 0.95,
    *,
    subsamples: int = 5,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> EffectiveDimension:
    """Measure Definition 3, as ``neurocompile deff`` does.

    Args:
        data: (samples, ...) of any real type, or the path of a .npy file or of an .npz file with
            such an ``x``, which need not fit in memory.
        quantile: share of the variance, in 0..1.
        device: cpu, cuda, cuda:N or torch-cpu: where products and eigenvalues are computed, float64.

    Errors are those of :func:`neurocompile.theory.measure.effective_dimension.effective_dimension`.
    """
    rows = open_rows(data) if isinstance(data, (str, Path)) else rows_of(data)
    return effective_dimension(
        rows, quantile, subsamples=subsamples, seed=seed, progress=progress, device=device
    )
