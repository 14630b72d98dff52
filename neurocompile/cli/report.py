"""``neurocompile report``: one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Json, Output, Samples, check_output, command


@command
def report(
    artifact: Artifact,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="REPORT.html", help="The page.")],
    samples_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="X.npz", help="Measure on these samples; otherwise modelled from stored rates."),
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="May be repeated; by default all that are shipped.")
    ] = None,
    parity: Annotated[
        Path | None, typer.Option(metavar="parity.json", help="What 'neurocompile parity --json' wrote, to show it.")
    ] = None,
    samples: Samples = None,
    json_output: Json = False,
) -> Output:
    """Write a self-contained HTML page: cores, traffic, energy, time."""
    check_output(output, artifact, samples_file, parity)

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples
    from neurocompile.energy.profile import list_profiles, load_profile
    from neurocompile.energy.report import count_program
    from neurocompile.report.page import load_parity, render_page, write_page

    profiles = [load_profile(name) for name in profile or list_profiles()]
    program = load_program(artifact)
    checked = None if parity is None else load_parity(parity, program)
    x = None if samples_file is None else load_samples(samples_file, program.input_shape, samples).x
    text = render_page(program, count_program(program, x, progress=True), profiles, parity=checked)
    write_page(text, output)
    return Output({"output": str(output), "bytes": len(text.encode("utf-8", "replace"))}, [f"wrote {output}"])
