"""Time on the mesh: each step's slowest core, and what links carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.energy.mesh import MeshReport, MeshRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_mesh"]


def draw_mesh(report: MeshReport, run: MeshRun, title: str) -> Figure:
    """Above, the time of each step with the core that it waited for; below, messages that left each
    tile towards its neighbours, a step.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    steps, tiles = figure.subplots(2, 1, height_ratios=(3, 2))
    at = np.flatnonzero(run.full)
    steps.plot(at, run.total[at] / 1e3, color="0.6", linewidth=0.8)
    points = steps.scatter(at, run.total[at] / 1e3, c=run.slowest[at], s=9, cmap="turbo")
    figure.colorbar(points, ax=steps, label="slowest core")
    steps.set(xlabel="global step", ylabel="time of the step (us)", ylim=(0, None))
    queues = "" if report.buffer is None else f", queues of {report.buffer:,} messages"
    steps.set_title(
        f"{title}: {report.step_ns / 1e3:,.2f} us a step, simulated with {report.profile}{queues}"
    )
    load = run.links[at].sum(axis=1).mean(axis=0)
    for axis in (tiles.xaxis, tiles.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    image = tiles.imshow(load, cmap="viridis", aspect="equal")
    figure.colorbar(image, ax=tiles, label="messages a step")
    tiles.set(xlabel="column of tiles", ylabel="row", title="what leaves each tile for the next")
    return figure
