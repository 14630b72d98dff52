"""``neurocompile report``: one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Buffer, Json, Output, Samples, check_output, command


@command
def report(
    artifact: Artifact,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="REPORT.html", help="The page.")
    ],
    samples_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="X.npz",
            help="Measure on these samples; otherwise modelled from stored rates.",
        ),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="May be repeated; by default all that are shipped, and the target's own.",
        ),
    ] = None,
    parity: Annotated[
        Path | None,
        typer.Option(
            metavar="parity.json", help="What 'neurocompile parity --json' wrote, to show it."
        ),
    ] = None,
    on_cores: Annotated[
        bool,
        typer.Option("--on-cores", help="Count on core images, message by message (with --input)."),
    ] = False,
    buffer: Buffer = None,
    samples: Samples = None,
    json_output: Json = False,
) -> Output:
    """Write a self-contained HTML page: cores, traffic, energy, time."""
    check_output(output, artifact, samples_file, parity)

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples
    from neurocompile.report.page import page_of, write_page

    program, x = load_program(artifact), None
    if samples_file is not None:
        x = load_samples(samples_file, program.input_shape, samples, program.frames).x
    text = page_of(
        program, x, profile or (), parity=parity, on_cores=on_cores, buffer=buffer, progress=True
    )
    write_page(text, output)
    return Output(
        {"output": str(output), "bytes": len(text.encode("utf-8", "replace"))}, [f"wrote {output}"]
    )
