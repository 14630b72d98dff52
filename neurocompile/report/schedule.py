"""The schedule of a folded program: populations by windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.ir.windows import valid_windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["draw_schedule", "schedule_table"]

_ROWS = 60
"""Populations drawn; more are thinned out evenly."""


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


def draw_schedule(program: Program) -> Figure:
    """One row a population, sources above, one column a window: dark where it may emit."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    circuit = program.circuit
    names, table = schedule_table(circuit)
    keep = np.unique(np.linspace(0, len(names) - 1, min(len(names), _ROWS)).astype(int))
    table, names = table[keep], [names[i] for i in keep]
    height = 1.6 + 0.17 * len(names)
    figure = Figure(figsize=(11, height), dpi=110)
    axes = figure.add_axes((0.27, 0.75 / height, 0.71, 1 - 1.45 / height))
    axes.imshow(
        table, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0, vmax=1.4,
        extent=(0, table.shape[1], len(names) - 0.5, -0.5),
    )  # fmt: skip
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
