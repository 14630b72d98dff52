"""``neurocompile plot``: pictures of a program."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Buffer, Json, Output, check_output, command


class Kind(str, Enum):
    """What to draw."""

    raster = "raster"
    cores = "cores"
    schedule = "schedule"
    mesh = "mesh"


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
    buffer: Buffer = None,
    json_output: Json = False,
) -> Output:
    """Draw a spike raster, the load of cores, a fold's schedule, or time on the mesh."""
    if output.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"'{output}' ends in neither .png nor .svg", param_hint="-o")
    if buffer is not None and kind is not Kind.mesh:
        raise typer.BadParameter("queues are a mesh's: --kind mesh", param_hint="--buffer")
    measured = kind in (Kind.raster, Kind.mesh)
    if measured and samples_file is None:
        raise typer.BadParameter(f"a {kind.value} needs --input X.npz", param_hint="--input")

    from neurocompile.report.pictures import check_picture, save_picture

    check_picture(output)
    check_output(output, artifact, samples_file)

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples

    program, x = load_program(artifact), None
    if kind is Kind.schedule and program.circuit.windows == 1:
        raise typer.BadParameter(f"'{artifact}' is not folded in time", param_hint="--kind")
    if measured and samples_file is not None:
        x = load_samples(samples_file, program.input_shape, steps=program.frames).x
        if kind is Kind.raster and sample >= len(x):
            raise typer.BadParameter(
                f"there are {len(x):,} samples, counted from 0", param_hint="--sample"
            )
    save_picture(program.plot(kind.value, x=x, sample=sample, buffer=buffer), output)
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
