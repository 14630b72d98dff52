"""Principal components of rows: variances, exactly from the covariance or from a randomized sketch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.theory.measure.algebra import Algebra
from neurocompile.theory.measure.data_rows import Rows

__all__ = ["EXACT_WIDTH", "Spectrum", "exact_spectra", "sketched_spectrum"]

EXACT_WIDTH = 4096
"""Numbers a sample up to which the covariance is computed whole (134 MB)."""
_OVERSAMPLING = 16
_RESOLVED = 1e-12
"""Of the variance of all samples: less is the rounding of a subsample's."""
_POWER_PASSES = 3


@dataclass(frozen=True)
class Spectrum:
    """Variances along principal components, largest first: all of them, or the first ones of a
    sketch.

    ``total`` is the variance of the data, exact in both cases.
    """

    variances: np.ndarray
    total: float
    exact: bool

    def components(self, quantile: float) -> int | None:
        """How many components hold ``quantile`` of the variance; None if those known do not."""
        held = np.cumsum(self.variances) / self.total
        reached = np.nonzero(held >= quantile - 1e-12)[0]
        return int(reached[0]) + 1 if len(reached) else None

    def held(self, components: int) -> float:
        """Share of the variance that the first ``components`` hold."""
        return float(self.variances[:components].sum() / self.total)


def exact_spectra(
    rows: Rows,
    left_out: Sequence[np.ndarray],
    progress: bool = False,
    algebra: Algebra | None = None,
) -> list[Spectrum]:
    """Spectra of all rows and of the rows without each of ``left_out`` (boolean masks), in one
    pass.

    The covariance of a subsample is the whole one's sums less those of the few rows it leaves out.
    """
    there = algebra or Algebra()
    width, count = rows.width, len(left_out) + 1
    moments = [there.zeros(width, width) for _ in range(count)]
    sums, sizes = [there.zeros(width) for _ in range(count)], np.zeros(count)
    shift: Any = None  # near the mean, or the difference of squares would lose digits
    for start, block in _shown(rows, "covariance", progress):
        part = there.array(block)
        shift = part.mean(axis=0) if shift is None else shift
        part -= shift
        for k in range(count):
            mask = None if k == 0 else left_out[k - 1][start : start + len(part)]
            chosen = part if mask is None else part[there.array(mask)]
            moments[k] += chosen.T @ chosen
            sums[k] += chosen.sum(axis=0)
            sizes[k] += len(chosen)
    found: list[Spectrum] = []
    for k in range(count):
        moment, total, size = (
            (moments[0], sums[0], sizes[0])
            if k == 0
            else (moments[0] - moments[k], sums[0] - sums[k], sizes[0] - sizes[k])
        )
        mean = total / size
        covariance = moment / size - mean[:, None] * mean[None, :]
        largest = float(abs(moment).max()) / size
        variances = np.maximum(there.eigenvalues(covariance)[::-1], 0)
        variance = float(covariance.trace())
        found.append(_checked(rows, Spectrum(variances, variance, True), largest, k == 0))
        if (
            variance <= _RESOLVED * found[0].total
        ):  # a difference of large sums: what is left is their rounding
            raise _same(rows)
    return found


def sketched_spectrum(
    rows: Rows,
    kept: np.ndarray,
    size: int,
    seed: int,
    progress: bool = False,
    algebra: Algebra | None = None,
) -> Spectrum:
    """The first ``size`` variances by subspace iteration (Halko, Martinsson, Tropp 2011), several
    passes over the rows.

    A variance found is at most the true one (Rayleigh-Ritz), so a number of components read from it
    is at least the true one.

    Args:
        kept: boolean (samples,), the rows that count.
        size: variances wanted; the sketch is a little wider.
        algebra: where products are made.
    """
    there = algebra or Algebra()
    rng = np.random.default_rng(seed)
    width = min(size + _OVERSAMPLING, rows.width)
    basis = there.basis(there.array(rng.standard_normal((rows.width, width))))
    mean, variance, shift = _mean_and_variance(rows, kept, progress)
    middle = there.array(mean)
    product = basis
    for turn in range(_POWER_PASSES + 1):
        product = there.zeros(rows.width, width)
        for start, block in _shown(rows, f"sketch {turn + 1}/{_POWER_PASSES + 1}", progress):
            part = there.array(block[kept[start : start + len(block)]]) - middle
            product += part.T @ (part @ basis)
        product /= int(kept.sum())
        if turn < _POWER_PASSES:
            basis = there.basis(product)
    ritz = basis.T @ product
    variances = np.maximum(there.eigenvalues((ritz + ritz.T) / 2)[::-1], 0)[:size]
    return _checked(rows, Spectrum(variances, variance, False), shift, bool(kept.all()))


def _mean_and_variance(
    rows: Rows, kept: np.ndarray, progress: bool
) -> tuple[np.ndarray, float, float]:
    shift: np.ndarray | None = None
    total, squares, count = np.zeros(rows.width), np.zeros(rows.width), 0
    for start, part in _shown(rows, "mean", progress):
        part = part[kept[start : start + len(part)]]
        if not len(part):
            continue
        shift = part.mean(axis=0) if shift is None else shift
        part = part - shift
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
        count += len(part)
    assert shift is not None
    variance = squares / count - (total / count) ** 2
    return shift + total / count, float(variance.sum()), float(squares.max()) / count


def _checked(rows: Rows, found: Spectrum, scale: float, whole: bool) -> Spectrum:
    """``found``, of all rows or of a subsample; NC8002 without variance. ``scale``: the largest
    mean square of a number.
    """
    if found.total <= 1e-24 * max(scale, 1e-300) * rows.width or found.total <= 0:
        if not whole:
            raise _same(rows)
        raise NeurocompileError(
            "NC8002",
            f"{rows.source}: all samples are the same, or differ by less than float64 can square (1e-150): no component holds "
            "any variance; give varied samples, or multiply them by a constant",
        )
    return found


def _same(rows: Rows) -> NeurocompileError:
    return NeurocompileError(
        "NC8002",
        f"{rows.source}: the samples of a random subsample are all the same, as so few of the {rows.samples:,} differ; give more "
        "samples that do, or another `seed`",
    )


def _shown(rows: Rows, label: str, progress: bool) -> Iterator[tuple[int, np.ndarray]]:
    show = progress and sys.stderr.isatty()
    for start, part in rows.blocks():
        if show:
            print(
                f"  {label} {start:,}/{rows.samples:,} samples",
                end="\r",
                file=sys.stderr,
                flush=True,
            )
        yield start, part
    if show:
        print("\x1b[2K", end="\r", file=sys.stderr, flush=True)
