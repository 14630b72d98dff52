"""The spikes of every layer of the user's model, for one sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["binned", "draw_raster"]

_COLUMNS = 512
"""Columns of a panel: a layer with more neurons shows several a column."""
_PANEL = (0.34, 0.9)
"""Least and most height of a panel in inches."""
_LABEL = 8.5
# light to dark in one hue: reads the same with every kind of colour vision, and in grey
_COLOURS = "Blues"


def draw_raster(program: Program, x: np.ndarray, what: str) -> Figure:
    """One panel a layer: neurons to the right, steps downwards, dark where they spike.

    Args:
        x: float32, one sample of the program's input shape.
        what: names the sample in the title.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    views, steps = program.circuit.views, program.circuit.steps
    trace = program.trace(x[None], {str(v.src) for v in views})
    height = float(np.clip(0.08 * steps, *_PANEL))
    top, bottom, total = 0.85, 0.85, 1.7 + len(views) * (height + 0.22)
    figure = Figure(figsize=(11, total), dpi=110)
    grid = figure.add_gridspec(
        len(views),
        1,
        left=0.235,
        right=0.845,
        top=1 - top / total,
        bottom=bottom / total,
        hspace=0.22 / height,
    )
    for i, view in enumerate(views):
        spikes = view.read(trace[view.src], program.circuit.windows)[0].reshape(steps, -1)
        axes = figure.add_subplot(grid[i])
        picture = (
            axes.imshow(  # the root of the share: one spike in a column of many neurons still shows
                binned(spikes),
                cmap=_COLOURS,
                norm=PowerNorm(0.5, 0, 1),
                aspect="auto",
                interpolation="nearest",
                extent=(0, spikes.shape[1], steps + 0.5, 0.5),
            )
        )
        axes.set_yticks([1, steps] if steps > 1 else [1])
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
        axes.tick_params(labelsize=6.5, length=2, pad=1.5)
        beside: dict[str, Any] = {"transform": axes.transAxes, "va": "center", "fontsize": _LABEL}
        axes.text(-0.035, 0.5, _short(view.layer), ha="right", **beside)
        count = int(np.count_nonzero(spikes))
        axes.text(1.012, 0.5, f"{count / spikes.size:.1%}  ({count:,} spikes)", ha="left", **beside)
    title = f"{program.manifest.model}: spikes of {what}, T = {steps}, on the emulator"
    figure.text(0.5, 1 - 0.3 / total, title, ha="center", va="center", fontsize=12)
    note = "across: neurons; down: steps; right: spikes per neuron and step. Dark: the column's neurons spike."
    figure.text(0.5, 1 - 0.58 / total, note, ha="center", va="center", fontsize=_LABEL)
    below = figure.add_axes((0.235, 0.45 / total, 0.61, 0.1 / total))
    bar = figure.colorbar(picture, cax=below, orientation="horizontal")
    label = f"share of a column's neurons that spike (layers above {_COLUMNS} neurons: several a column)"
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def binned(spikes: np.ndarray) -> np.ndarray:
    """(steps, neurons) as (steps, columns): the share of each column's neurons that spike, columns
    nearly equal.
    """
    neurons = spikes.shape[1]
    if neurons <= _COLUMNS:
        return spikes.astype(np.float32)
    starts = np.arange(_COLUMNS) * neurons // _COLUMNS
    sizes = np.diff(starts, append=neurons)
    return (np.add.reduceat(spikes.astype(np.float32), starts, axis=1) / sizes).astype(np.float32)


def _short(name: str) -> str:
    """A layer's name that fits beside its panel; no dollar signs, which would be read as
    mathematics.
    """
    name = name.replace("$", "\\$")
    return name if len(name) <= 36 else f"...{name[-33:]}"
