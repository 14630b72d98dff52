"""Principal components of rows: variances, exactly from the covariance or from a randomized sketch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
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
    rows: Rows, left_out: Sequence[np.ndarray], progress: bool = False
) -> list[Spectrum]:
    """Spectra of all rows and of the rows without each of ``left_out`` (boolean masks), in one
    pass.

    The covariance of a subsample is the whole one's sums less those of the few rows it leaves out.
    """
    width, count = rows.width, len(left_out) + 1
    moments = [np.zeros((width, width)) for _ in range(count)]
    sums, sizes = np.zeros((count, width)), np.zeros(count)
    shift: np.ndarray | None = None  # near the mean, or the difference of squares would lose digits
    for start, part in _shown(rows, "covariance", progress):
        shift = part.mean(axis=0) if shift is None else shift
        part -= shift
        for k in range(count):
            chosen = part if k == 0 else part[left_out[k - 1][start : start + len(part)]]
            moments[k] += chosen.T @ chosen
            sums[k] += chosen.sum(axis=0)
            sizes[k] += len(chosen)
    found = []
    for k in range(count):
        moment, total, size = (
            (moments[0], sums[0], sizes[0])
            if k == 0
            else (moments[0] - moments[k], sums[0] - sums[k], sizes[0] - sizes[k])
        )
        mean = total / size
        covariance = moment / size - np.outer(mean, mean)
        largest = float(np.abs(moment).max()) / size
        variances = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0)
        variance = float(np.trace(covariance))
        found.append(_checked(rows, Spectrum(variances, variance, True), largest, k == 0))
        if (
            variance <= _RESOLVED * found[0].total
        ):  # a difference of large sums: what is left is their rounding
            raise _same(rows)
    return found


def sketched_spectrum(
    rows: Rows, kept: np.ndarray, size: int, seed: int, progress: bool = False
) -> Spectrum:
    """The first ``size`` variances by subspace iteration (Halko, Martinsson, Tropp 2011), several
    passes over the rows.

    A variance found is at most the true one (Rayleigh-Ritz), so a number of components read from it
    is at least the true one.

    Args:
        kept: boolean (samples,), the rows that count.
        size: variances wanted; the sketch is a little wider.
    """
    rng = np.random.default_rng(seed)
    width = min(size + _OVERSAMPLING, rows.width)
    basis = np.linalg.qr(rng.standard_normal((rows.width, width)))[0]
    mean, variance, shift = _mean_and_variance(rows, kept, progress)
    product = basis
    for turn in range(_POWER_PASSES + 1):
        product = np.zeros((rows.width, width))
        for start, part in _shown(rows, f"sketch {turn + 1}/{_POWER_PASSES + 1}", progress):
            part = part[kept[start : start + len(part)]] - mean
            product += part.T @ (part @ basis)
        product /= int(kept.sum())
        if turn < _POWER_PASSES:
            basis = np.linalg.qr(product)[0]
    ritz = basis.T @ product
    variances = np.maximum(np.linalg.eigvalsh((ritz + ritz.T) / 2)[::-1], 0)[:size]
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
