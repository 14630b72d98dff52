"""Fits the constant C of ``N = C B(eps)`` on measured (eps, spikes) points, with a bootstrap
interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parameters import count as whole
from neurocompile.parameters import positive

__all__ = ["RESAMPLES", "Fit", "fit_constant"]

RESAMPLES = 1000


@dataclass(frozen=True)
class Fit:
    """``constant`` with its 95 % interval; ``exponent``: what the data say instead of the theory's
    -2.

    ``r`` is Pearson's correlation of log N and log B, ``r_squared`` its square. Both are here
    because the paper's "R^2 = 0.97" is an r: its Table VI gives r = 0.972, so R^2 = 0.945.
    """

    constant: float
    low: float
    high: float
    exponent: float
    exponent_low: float
    exponent_high: float
    r: float
    r_squared: float
    points: int
    resamples: int


def fit_constant(
    eps: np.ndarray,
    spikes: np.ndarray,
    scale: float = 1.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Fit:
    """Fit ``spikes = C scale / eps^2``: C is the geometric mean of ``spikes eps^2 / scale``.

    Args:
        eps, spikes: the points, each above 0.
        scale: L_f^2 n d, so that C is Theorem 8's c.

    The interval resamples points with replacement (``resamples`` times, percentiles 2.5 and 97.5).
    NC8007 for fewer than three points, or points that do not differ.
    """
    positive("scale", scale), whole("resamples", resamples), whole("seed", seed, 0)
    eps, spikes = np.asarray(eps, np.float64), np.asarray(spikes, np.float64)
    if eps.shape != spikes.shape or eps.ndim != 1:
        raise NeurocompileError(
            "NC8003",
            f"{eps.size} errors and {spikes.size} numbers of spikes; one of each a point is needed",
        )
    good = np.isfinite(eps) & np.isfinite(spikes) & (eps > 0) & (spikes > 0)
    if good.sum() < 3 or len(np.unique(eps[good])) < 3:
        raise NeurocompileError(
            "NC8007",
            f"{int(good.sum())} of {good.size} points have an error and spikes above 0, and "
            f"{len(np.unique(eps[good]))} errors differ; at least 3 are needed",
        )
    x, y = np.log(eps[good]), np.log(spikes[good])
    offsets = y + 2 * x - np.log(scale)
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(x), (resamples, len(x)))
    constants = np.exp(offsets[index].mean(axis=1))
    a, b = (
        x[index] - x[index].mean(axis=1, keepdims=True),
        y[index] - y[index].mean(axis=1, keepdims=True),
    )
    spread = (a**2).sum(axis=1)
    slopes = (a * b).sum(axis=1)[spread > 0] / spread[spread > 0]
    low, high = np.percentile(constants, (2.5, 97.5))
    slope_low, slope_high = np.percentile(slopes, (2.5, 97.5))
    r = float(np.corrcoef(-2 * x, y)[0, 1]) if np.ptp(y) > 0 else 0.0
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return Fit(
        float(np.exp(offsets.mean())),
        float(low),
        float(high),
        slope,
        float(slope_low),
        float(slope_high),
        r,
        r * r,
        len(x),
        resamples,
    )
