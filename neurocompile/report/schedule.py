"""The schedule of a folded program: populations by windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.ir.windows import valid_windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["ScheduleRow", "draw_schedule", "schedule_rows", "schedule_table"]

_ROWS = 60
"""Populations drawn; more are thinned out evenly."""
_COLUMNS = 240
"""Columns of a page's picture; more windows share one."""


class ScheduleRow(NamedTuple):
    """A population of the page's picture: runs (start, length, share of windows in which it may
    emit), in windows since the sample's first input.
    """

    name: str
    runs: tuple[tuple[float, float, float], ...]


def schedule_table(circuit: CircuitGraph) -> tuple[list[str], np.ndarray]:
    """Populations by depth, and whether each may emit in each period of steps since the sample's
    first input: bool (populations, periods).
    """
    shown = [p for p in circuit.populations if not isinstance(p, HostInput) and p.slots]
    periods = -(-circuit.latency // circuit.period)
    table = np.zeros((len(shown), periods + 1), bool)
    first = min((p.depth for p in circuit.inputs), default=0)
    for row, p in zip(table, shown, strict=True):
        start = (p.depth - first) / circuit.period
        windows = np.flatnonzero(valid_windows(circuit.windows, p.slots))
        at = np.floor(start + windows).astype(int)
        row[at[(at >= 0) & (at < len(row))]] = True
    return [p.name for p in shown], table


def schedule_rows(circuit: CircuitGraph) -> list[ScheduleRow]:
    """The table of a folded circuit as a page draws it; equal neighbours are one run."""
    names, table = schedule_table(circuit)
    found = []
    edges = np.linspace(0, table.shape[1], min(table.shape[1], _COLUMNS) + 1).astype(int)
    for i in _thinned(len(names)):
        shares = np.add.reduceat(table[i].astype(float), edges[:-1]) / np.diff(edges)
        starts = np.flatnonzero(np.diff(shares, prepend=-1.0))
        stops = np.append(starts[1:], len(shares))
        runs = tuple(
            (float(edges[a]), float(edges[b] - edges[a]), round(float(shares[a]), 3))
            for a, b in zip(starts, stops)
            if shares[a]
        )
        found.append(ScheduleRow(names[i], runs))
    return found


def _thinned(rows: int) -> np.ndarray:
    return np.unique(np.linspace(0, rows - 1, min(rows, _ROWS)).astype(int))


def draw_schedule(program: Program) -> Figure:
    """One row a population, sources above, one column a window: dark where it may emit."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    circuit = program.circuit
    names, table = schedule_table(circuit)
    keep = _thinned(len(names))
    table, names = table[keep], [names[i] for i in keep]
    height = 1.6 + 0.17 * len(names)
    figure = Figure(figsize=(11, height), dpi=110)
    axes = figure.add_axes((0.27, 0.75 / height, 0.71, 1 - 1.45 / height))
    axes.imshow(
        table,
        cmap="Greys",
        aspect="auto",
        interpolation="nearest",
        vmin=0,
        vmax=1.4,
        extent=(0, table.shape[1], len(names) - 0.5, -0.5),
    )
    axes.axvline(circuit.windows, color="tab:red", lw=1)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(
        f"windows of {circuit.period} steps since a sample's first input; red: the next sample begins"
    )
    axes.set_title(
        f"{program.manifest.model}, fold {program.manifest.options.fold}: "
        f"{circuit.windows:,} windows, {circuit.sample_period:,} steps a sample, "
        f"answer after {circuit.latency:,}",
        fontsize=10,
    )
    return figure
