"""Every picture of a program, by its kind: what ``neurocompile plot`` and ``Program.plot`` draw."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.report.figure import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.program import Program

__all__ = ["KINDS", "MEASURED", "Kind", "check_picture", "draw", "save_picture"]

Kind = Literal["raster", "cores", "schedule", "mesh"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEASURED = ("raster", "mesh")
"""Kinds that are drawn of samples."""
SUFFIXES = (".png", ".svg")
_SHOWN = 3
"""Samples of a mesh's picture beside those that fill the pipeline."""


def check_picture(path: str | Path | None = None) -> None:
    """Whether pictures can be drawn, and ``path`` is one; NC4001 without matplotlib, NC1015."""
    if path is not None and Path(path).suffix.lower() not in SUFFIXES:
        raise NeurocompileError("NC1015", f"'{path}' ends in neither .png nor .svg")
    if find_spec("matplotlib") is None:
        raise NeurocompileError("NC4001", "plots need matplotlib: pip install 'neurocompile[plot]'")


def draw(
    program: Program,
    kind: str,
    x: np.ndarray | None = None,
    sample: int = 0,
    buffer: int | None = None,
) -> Figure:
    """The picture.

    Args:
        kind: ``raster`` (spikes of one sample), ``cores`` (load of the chip's cores), ``schedule``
            (windows of a fold) or ``mesh`` (time of each step, with Loihi 1's constants).
        x: float32 (samples, *input shape), for a raster or a mesh.
        sample: which of ``x`` a raster shows.
        buffer: messages that each queue of a mesh's router holds; None for any number.

    Raises:
        NeurocompileError: NC1015 for another kind, no samples, a sample that is not there, or the
            schedule of a program that is not folded; NC4001 without matplotlib.
    """
    check_picture()
    if kind not in KINDS:
        raise NeurocompileError(
            "NC1015", f"no picture is called {kind!r}; take of {', '.join(KINDS)}"
        )
    if kind in MEASURED:
        if x is None:
            raise NeurocompileError("NC1015", f"a {kind} needs samples: give x")
        return _draw_measured(program, kind, program.checked(x), sample, buffer)
    if kind == "schedule":
        from neurocompile.report.schedule import draw_schedule

        if program.circuit.windows == 1:
            name = program.manifest.model
            raise NeurocompileError("NC1015", f"'{name}' is not folded in time: no schedule")
        return draw_schedule(program)
    from neurocompile.report.core_grid import draw_core_grid

    return draw_core_grid(program)


def _draw_measured(
    program: Program, kind: str, x: np.ndarray, sample: int, buffer: int | None
) -> Figure:
    if kind == "raster":
        from neurocompile.report.raster import draw_raster

        if not 0 <= sample < len(x):
            text = f"sample {sample} of {len(x):,} samples, counted from 0, is not there"
            raise NeurocompileError("NC1015", text)
        return draw_raster(program, x[sample], f"sample {sample}")
    from neurocompile.energy.mesh import mesh_of, samples_to_fill
    from neurocompile.energy.profile import load_profile
    from neurocompile.report.mesh import draw_mesh

    shown = x[: samples_to_fill(program.circuit) + _SHOWN]
    found, run = mesh_of(program, shown, load_profile("davies2018"), buffer=buffer)
    return draw_mesh(found, run, program.manifest.model)


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write the figure, whole or not at all; NC1015 for a suffix of no picture, NC5005."""
    check_picture(path)
    save_figure(figure, Path(path))
