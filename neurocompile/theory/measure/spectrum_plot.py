"""The spectrum as a picture: how much variance the first components hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.theory.measure.effective_dimension import EffectiveDimension

__all__ = ["draw_spectrum"]


def draw_spectrum(found: EffectiveDimension, name: str, paper: float | None = None) -> Figure:
    """Variance of each component, and the share that the first ones hold, with the quantile and the
    paper's number.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    variances, total = found.spectrum.variances, found.spectrum.total
    index = np.arange(1, len(variances) + 1)
    positive = variances > total * 1e-14
    left.loglog(index[positive], variances[positive] / total, color="C0")
    left.set_xlabel("component")
    left.set_ylabel("share of the variance")
    left.axvline(found.full, color="C1", lw=1)
    right.semilogx(index, np.cumsum(variances) / total, color="C0")
    right.axhline(found.quantile, color="0.6", lw=0.8, ls=":")
    right.axvline(
        found.full, color="C1", lw=1, label=f"measured: {found.full:,} at {found.quantile:.0%}"
    )
    if paper is not None:
        share = found.spectrum.held(round(paper))
        right.axvline(
            paper, color="C3", lw=1, ls="--", label=f"the paper's {paper:g}: holds {share:.1%}"
        )
    right.set_xlabel("components")
    right.set_ylabel("variance held")
    right.set_ylim(0, 1.02)
    right.legend(loc="lower right", fontsize=9)
    figure.suptitle(f"{name}: {found.samples:,} samples of {found.width:,} numbers", fontsize=11)
    return figure
