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


@command
def plot(
    artifact: Artifact,
    kind: Annotated[
        Kind,
        typer.Option(
            help="Spikes of one sample, the load of the chip's cores, or the windows of a fold."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A .png or .svg file.")
    ],
    samples_file: Annotated[
        Path | None, typer.Option("--input", metavar="X.npz", help="The samples, for a raster.")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, metavar="I", help="Which of them.")] = 0,
    json_output: Json = False,
) -> Output:
    """Draw a spike raster, the load of cores, or a fold's schedule."""
    if output.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"'{output}' ends in neither .png nor .svg", param_hint="-o")
    if kind is Kind.raster and samples_file is None:
        raise typer.BadParameter("a raster needs --input X.npz", param_hint="--input")
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
