"""Effective dimension (Definition 3): the number of principal components that hold a share of the
variance.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parameters import count, fraction
from neurocompile.theory.measure.algebra import algebra_on
from neurocompile.theory.measure.data_rows import Rows
from neurocompile.theory.measure.spectrum import (
    EXACT_WIDTH,
    Spectrum,
    exact_spectra,
    sketched_spectrum,
)

__all__ = ["PAPER_DIMENSIONS", "EffectiveDimension", "effective_dimension"]

PAPER_DIMENSIONS: dict[str, float] = {"cifar10": 47, "cifar100": 68, "imagenet": 89, "sst2": 55}
"""What the paper prints (abstract, section VI); sst2: 50 to 60, its middle. None is used anywhere.
"""

LIMITED = 0.05
"""Growth from half of the samples to all of them, as a share of the number, above which the samples
limit it.
"""
_MOST_SUBSAMPLES = 1000
_HALVINGS = 3
_FIRST_SKETCH, _LARGEST_SKETCH = 256, 2048


@dataclass(frozen=True)
class EffectiveDimension:
    """What :func:`effective_dimension` found. ``mean`` and ``std`` are over ``subsamples``,
    ``full`` is of all samples.
    """

    quantile: float
    samples: int
    width: int
    full: int
    subsamples: tuple[int, ...]
    method: str
    spectrum: Spectrum
    curve: tuple[tuple[int, int], ...]
    """(samples, components that hold the quantile), of an eighth of the samples to all of them: no
    more components can be seen than there are samples.
    """

    @property
    def growth(self) -> int:
        """Components that the second half of the samples added. If what is missing falls as
        1/samples, which it does near the end, so many are still missing.
        """
        return max(self.curve[-1][1] - self.curve[-2][1], 0) if len(self.curve) > 1 else self.full

    @property
    def limited(self) -> bool:
        """Whether the samples limit the number: then it is the least that the data can have."""
        return self.growth > max(1, LIMITED * self.full) or len(self.curve) < 2

    @property
    def uncertainty(self) -> float:
        """Of ``mean``: what subsamples scatter, and what more samples would add."""
        return float(np.hypot(self.std, self.growth))

    @property
    def mean(self) -> float:
        """Over the subsamples."""
        return float(np.mean(self.subsamples))

    @property
    def std(self) -> float:
        """Over the subsamples (of the sample: divided by one less than their number)."""
        return float(np.std(self.subsamples, ddof=1)) if len(self.subsamples) > 1 else 0.0

    @property
    def ratio(self) -> float:
        """``width / mean``: the paper's compression ratio."""
        return self.width / self.mean


def effective_dimension(
    rows: Rows,
    quantile: float = 0.95,
    *,
    subsamples: int = 5,
    share: float = 0.8,
    seed: int = 0,
    exact_width: int = EXACT_WIDTH,
    progress: bool = False,
    device: str = "cpu",
) -> EffectiveDimension:
    """Measure Definition 3 on ``rows``: the paper's protocol is five random subsamples of 80 %.

    Args:
        quantile: share of the variance, in 0..1.
        share: of the samples that a subsample holds.
        subsamples: number of them, at most 1,000. Three more, of an eighth, a quarter and a half of the samples,
            show whether the samples limit the number; a warning says so.
        exact_width: numbers a sample up to which covariances are computed whole; beyond, a
            randomized sketch finds the leading components, and its number is at least the true one.
        device: cpu (numpy), cuda or cuda:N (one GPU), torch-cpu: where products and eigenvalues are
            computed, in float64 everywhere.

    Raises NC1015, NC4001, NC4007 (the device), NC8001 (not finite), NC8002 (no variance), NC8003 (a parameter), NC8004 (the sketch does
    not reach).
    """
    (
        fraction("quantile", quantile),
        fraction("share", share),
        count("subsamples", subsamples, most=_MOST_SUBSAMPLES),
        count("seed", seed, 0),
    )
    count("exact_width", exact_width, 0)
    algebra = algebra_on(device)
    rng = np.random.default_rng(seed)
    size = max(2, round(share * rows.samples))
    kept = [np.zeros(rows.samples, bool) for _ in range(subsamples)]
    for mask in kept:
        mask[rng.permutation(rows.samples)[:size]] = True
    order, fewer = rng.permutation(rows.samples), []
    for part in (rows.samples >> k for k in range(_HALVINGS, 0, -1)):
        if part >= 2:
            mask = np.zeros(rows.samples, bool)
            mask[order[:part]] = True
            fewer.append(mask)
    kept += fewer
    if rows.width <= exact_width:
        spectra = exact_spectra(rows, [~mask for mask in kept], progress, algebra)
        method = f"exact: eigenvalues of the {rows.width:,} x {rows.width:,} covariance, float64"
    else:
        everything = np.ones(rows.samples, bool)
        wanted = _FIRST_SKETCH
        while True:
            first = sketched_spectrum(rows, everything, wanted, seed, progress, algebra)
            if first.components(quantile) is not None or wanted >= min(
                _LARGEST_SKETCH, rows.width, rows.samples
            ):
                break
            wanted *= 2
        spectra = [
            first,
            *(sketched_spectrum(rows, mask, wanted, seed, progress, algebra) for mask in kept),
        ]
        method = f"randomized: a sketch of {wanted:,} components; the number is an upper bound of the exact one"
    numbers = [spectrum.components(quantile) for spectrum in spectra]
    if any(n is None for n in numbers):
        raise NeurocompileError(
            "NC8004",
            f"{rows.source}: {len(spectra[0].variances):,} components, the most that are sketched, hold "
            f"{spectra[0].held(len(spectra[0].variances)):.2%} of the variance, less than {quantile:.2%}; lower `quantile`",
        )
    known = [n for n in numbers if n is not None]
    of_parts = [*zip((int(mask.sum()) for mask in fewer), known[1 + subsamples :])]
    found = EffectiveDimension(
        quantile,
        rows.samples,
        rows.width,
        known[0],
        tuple(known[1 : 1 + subsamples]),
        method,
        spectra[0],
        (*of_parts, (rows.samples, known[0])),
    )
    if found.limited:
        warnings.warn(
            f"{rows.source}: {rows.samples:,} samples limit the effective dimension: it is at "
            f"least {found.full:,}, and half of the samples gave "
            f"{found.curve[-2][1] if len(found.curve) > 1 else 0:,}; give more samples",
            stacklevel=2,
        )
    return found
