"""``neurocompile export``: a program in a form that others read."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Json, Output, check_output, command


class Form(str, Enum):
    """What is written."""

    cores = "cores"


@command
def export(
    form: Annotated[Form, typer.Argument(help="cores: the tables of every core, one .nci file.")],
    artifact: Artifact,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="By default the artifact's name + .nci, here."
        ),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Write a program for others to read."""
    output = check_output(output or Path(f"{artifact.stem}.nci"), artifact)

    from neurocompile.artifact.store import load_program

    program = load_program(artifact)
    program.save_images(output, progress=True)
    size, cores = output.stat().st_size, program.mapping.cores_used
    text = f"{artifact} -> {output}: images of {cores:,} cores, {size:,} bytes"
    return Output(
        {"output": str(output), "form": form.value, "cores": cores, "bytes": size}, [text]
    )
