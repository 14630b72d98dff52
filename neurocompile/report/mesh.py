"""Time on the mesh: each step's slowest core and busiest link, and what links carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.energy.mesh import WAYS, MeshReport, MeshRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_mesh"]


_NAMED = 8
"""Cores and links that have a colour of their own: those of most steps."""


def draw_mesh(report: MeshReport, run: MeshRun, title: str) -> Figure:
    """The time of each step with the core that it waited for; what its busiest link carried, and
    which that is; messages that left each tile towards its neighbours, a step.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 8.5), layout="constrained")
    steps, links, tiles = figure.subplots(3, 1, height_ratios=(3, 3, 2))
    at = np.flatnonzero(run.full)
    _by_name(steps, at, run.total[at] / 1e3, [str(core) for core in run.slowest[at]])
    steps.get_legend().set_title("slowest core: steps")
    steps.set(ylabel="time of the step (us)", ylim=(0, None))
    queues = "" if report.buffer is None else f", queues of {report.buffer:,} messages"
    steps.set_title(
        f"{title}: {report.step_ns / 1e3:,.2f} us a step, simulated with {report.profile}{queues}"
    )
    busiest = run.busiest[at]
    names = [f"({x}, {y}) {WAYS[way]}" if most else "none" for way, y, x, most in busiest.tolist()]
    _by_name(links, at, busiest[:, 3], names)
    links.get_legend().set_title("busiest link: steps")
    links.set(xlabel="global step", ylabel="messages on it", ylim=(0, None))
    load = run.links[at].sum(axis=1).mean(axis=0)
    for axis in (steps.xaxis, links.xaxis, tiles.xaxis, tiles.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    image = tiles.imshow(load, cmap="viridis", aspect="equal")
    figure.colorbar(image, ax=tiles, label="messages a step")
    tiles.set(xlabel="column of tiles", ylabel="row", title="what leaves each tile for the next")
    return figure


def _by_name(axes: Axes, at: np.ndarray, values: np.ndarray, names: Sequence[str]) -> None:
    """A line through all points; those of each name in one colour, the rarest together in grey."""
    axes.plot(at, values, color="0.6", linewidth=0.8)
    kinds = Counter(names).most_common()
    named = kinds if len(kinds) <= _NAMED else kinds[: _NAMED - 1]
    held = np.array(names)
    rest = np.ones(len(held), bool)
    for i, (name, times) in enumerate(named):
        here = held == name
        rest &= ~here
        label = f"{name}: {times:,}"
        axes.scatter(at[here], values[here], s=12, color=f"C{i}", label=label, zorder=2)
    if rest.any():
        label = f"{len(kinds) - len(named):,} others: {np.count_nonzero(rest):,}"
        axes.scatter(at[rest], values[rest], s=9, color="0.6", label=label, zorder=2)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
