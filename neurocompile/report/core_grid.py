"""The chip as its mesh of cores, each coloured by the load of its fullest resource."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from neurocompile.mapping.mapping import CoreUse
from neurocompile.targets.schema import Slot, Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["draw_core_grid", "fullest_of"]

_SHORT = {
    "axon_in": "axons in",
    "neuron_groups": "groups",
    "neurons": "neurons",
    "synaptic_memory_words": "weights",
    "axon_map": "axon map",
    "axon_memory": "axons out",
    "total": "total",
}
_COLOURS = "cividis_r"  # reads the same with every kind of colour vision, and in grey
_LABELLED_CHIPS = 4
"""Up to so many chips, cores carry text."""
_CORE = 0.8
"""Inches of a core on one chip."""


def fullest_of(core: CoreUse, target: Target) -> tuple[str, float]:
    """The resource of a core that is nearest to its limit, and its share of it."""
    loads = {
        name: getattr(core.used, name) / limit for name, limit in target.capacity.items() if limit
    }
    name = max(loads, key=lambda key: loads[key])
    return name, loads[name]


def draw_core_grid(program: Program) -> Figure:
    """The chips that the program uses, tile by tile; unused and unusable cores are there, in their
    own style.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    target, mapping = program.target, program.mapping
    chips = sorted({core.chip for core in mapping.cores}) or [0]
    labelled = len(chips) <= _LABELLED_CHIPS
    across = ceil(sqrt(len(chips)))
    down = ceil(len(chips) / across)
    side, deep = _tile_shape(target)
    columns, rows = target.mesh.columns.value * side, target.mesh.rows.value * deep
    scale = max(1.0, across * columns / 24, down * rows / 20)
    width = max(7.5, across * columns * _CORE / scale + 1.6)
    height = down * rows * _CORE / scale + 1.9
    figure = Figure(figsize=(width, height), dpi=110)
    colours = ScalarMappable(Normalize(0, 100), colormaps[_COLOURS])
    grid = figure.add_gridspec(
        down,
        across,
        left=0.4 / width,
        right=1 - 1.2 / width,
        top=1 - 1.05 / height,
        bottom=0.65 / height,
        wspace=0.08,
    )
    for i, chip in enumerate(chips):
        axes = figure.add_subplot(grid[i // across, i % across])
        _draw_chip(axes, program, chip, colours, labelled)
        if target.chips.value > 1:
            axes.set_title(f"chip {chip}", fontsize=9, pad=3)
    bar_box = (1 - 0.95 / width, 0.65 / height, 0.18 / width, 1 - 1.7 / height)
    bar = figure.colorbar(colours, cax=figure.add_axes(bar_box), format="%d%%")
    bar.set_label("load of the core's fullest resource", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _titles(figure, program, len(chips), height)
    legend = "White: unused. Hatched: not usable."
    if labelled:
        legend = (
            f"Bold number: core of the mapping; below: its load, and of which resource. {legend}"
        )
    figure.text(0.5, 0.3 / height, legend, ha="center", va="center", fontsize=8.5)
    return figure


def _tile_shape(target: Target) -> tuple[int, int]:
    """Columns and rows of a tile's cores, nearly a square."""
    cores = target.mesh.cores_per_tile.value
    side = ceil(sqrt(cores))
    return side, ceil(cores / side)


def _titles(figure: Figure, program: Program, chips: int, height: float) -> None:
    target, mapping = program.target, program.mapping
    on_chips = f"{target.name}: {mapping.cores_used:,} of {target.cores:,} cores"
    boards = f" on {chips:,} of {target.chips.value:,} chips" if target.chips.value > 1 else ""
    title = f"{program.manifest.model} on {on_chips}{boards}".replace("$", "\\$")
    figure.text(0.5, 1 - 0.3 / height, title, ha="center", va="center", fontsize=13)
    fullest = mapping.fullest(target)
    if fullest is not None:
        name = fullest.resource.replace("_", " ")
        note = f"Fullest resource: {name}, core {fullest.core} uses {fullest.used:,} of {fullest.limit:,}"
        figure.text(0.5, 1 - 0.62 / height, note, ha="center", va="center", fontsize=10)


def _draw_chip(axes: Any, program: Program, chip: int, colours: Any, labelled: bool) -> None:
    from matplotlib.patches import Rectangle

    target, mesh = program.target, program.target.mesh
    (side, deep), gap = _tile_shape(target), 0.05
    used = {
        core.slot: (i, core) for i, core in enumerate(program.mapping.cores) if core.chip == chip
    }
    for y in range(mesh.rows.value):
        for x in range(mesh.columns.value):
            for place in range(mesh.cores_per_tile.value):
                slot = Slot(chip, x, y, place)
                left, low = x * side + place % side + gap, y * deep + place // side + gap
                face, edge, hatch = "white", "0.75", "" if target.usable(slot) else "////"
                if slot in used:
                    number, core = used[slot]
                    resource, load = fullest_of(core, target)
                    face = edge = colours.to_rgba(100 * load)
                    if labelled:
                        _label(
                            axes, left + 0.5 - gap, low + 0.5 - gap, number, load, _SHORT[resource]
                        )
                style: dict[str, Any] = {
                    "facecolor": face,
                    "edgecolor": edge,
                    "hatch": hatch,
                    "lw": 0.8,
                }
                axes.add_patch(Rectangle((left, low), 1 - 2 * gap, 1 - 2 * gap, **style))
            axes.add_patch(
                Rectangle((x * side, y * deep), side, deep, fill=False, edgecolor="0.35", lw=1.2)
            )
    axes.set_xlim(-0.1, mesh.columns.value * side + 0.1)
    axes.set_ylim(mesh.rows.value * deep + 0.1, -0.1)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _label(axes: Any, x: float, y: float, number: int, load: float, resource: str) -> None:
    ink = {"ha": "center", "va": "center", "color": "white" if load > 0.5 else "black"}
    axes.text(x, y - 0.24, str(number), fontsize=9, fontweight="bold", **ink)
    axes.text(x, y + 0.04, f"{load:.0%}", fontsize=8, **ink)
    axes.text(x, y + 0.28, resource, fontsize=6.5, **ink)
