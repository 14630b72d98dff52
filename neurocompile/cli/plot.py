"""``neurocompile plot``: pictures of a program."""

from __future__ import annotations

from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Json, Output, check_output, command
from neurocompile.errors import NeurocompileError


class Kind(str, Enum):
    """What to draw."""

    raster = "raster"
    cores = "cores"
    schedule = "schedule"
    mesh = "mesh"


_SHOWN = 3
"""Samples of a mesh's picture beside those that fill the pipeline."""


@command
def plot(
    artifact: Artifact,
    kind: Annotated[
        Kind,
        typer.Option(
            help="Spikes of one sample, the load of the chip's cores, the windows of a fold, or the "
            "time of each step on the mesh (Loihi 1's constants)."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A .png or .svg file.")
    ],
    samples_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="X.npz", help="The samples, for a raster or a mesh."),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, metavar="I", help="Which of them.")] = 0,
    json_output: Json = False,
) -> Output:
    """Draw a spike raster, the load of cores, or a fold's schedule."""
    if output.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"'{output}' ends in neither .png nor .svg", param_hint="-o")
    if kind in (Kind.raster, Kind.mesh) and samples_file is None:
        raise typer.BadParameter(f"a {kind.value} needs --input X.npz", param_hint="--input")
    if find_spec("matplotlib") is None:
        raise NeurocompileError("NC4001", "plots need matplotlib: pip install 'neurocompile[plot]'")
    check_output(output, artifact, samples_file)

    from neurocompile.artifact.store import load_program
    from neurocompile.report.figure import save_figure

    program = load_program(artifact)
    if kind is Kind.schedule:
        if program.circuit.windows == 1:
            raise typer.BadParameter(f"'{artifact}' is not folded in time", param_hint="--kind")
        from neurocompile.report.schedule import draw_schedule

        figure = draw_schedule(program)
    elif samples_file is None or kind is Kind.cores:
        from neurocompile.report.core_grid import draw_core_grid

        figure = draw_core_grid(program)
    elif kind is Kind.mesh:
        from neurocompile.data import load_samples
        from neurocompile.energy.mesh import mesh_of, samples_to_fill
        from neurocompile.energy.profile import load_profile
        from neurocompile.report.mesh import draw_mesh

        x = load_samples(samples_file, program.input_shape, steps=program.frames).x
        x = x[: samples_to_fill(program.circuit) + _SHOWN]
        found, run = mesh_of(program, x, load_profile("davies2018"))
        figure = draw_mesh(found, run, program.manifest.model)
    else:
        from neurocompile.data import load_samples
        from neurocompile.report.raster import draw_raster

        x = load_samples(samples_file, program.input_shape, steps=program.frames).x
        if sample >= len(x):
            raise typer.BadParameter(
                f"there are {len(x):,} samples, counted from 0", param_hint="--sample"
            )
        figure = draw_raster(program, x[sample], f"sample {sample}")
    save_figure(figure, output)
    drawn = sample if kind is Kind.raster else None
    return Output(
        {
            "output": str(output),
            "kind": kind.value,
            "model": program.manifest.model,
            "sample": drawn,
        },
        [f"wrote {output}"],
    )
