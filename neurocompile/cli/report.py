"""``neurocompile report``: one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Json, Output, Samples, check_output, command
from neurocompile.errors import NeurocompileError


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
    samples: Samples = None,
    json_output: Json = False,
) -> Output:
    """Write a self-contained HTML page: cores, traffic, energy, time."""
    check_output(output, artifact, samples_file, parity)

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples
    from neurocompile.energy.price import complete
    from neurocompile.energy.profile import list_profiles, load_profile, profile_of
    from neurocompile.energy.report import count_program
    from neurocompile.report.page import load_parity, render_page, write_page
    from neurocompile.targets.schema import Energy

    profiles = [load_profile(name) for name in profile or list_profiles()]
    nothing = next((p.name for p in profiles if p.energy == Energy()), None)
    if nothing is not None:
        raise NeurocompileError(
            "NC7002",
            f"energy profile '{nothing}' has no energy constant: it prices nothing that a page could show",
        )
    program = load_program(artifact)
    checked = None if parity is None else load_parity(parity, program)
    if not profile and complete(profile_of(program.target)):
        profiles.insert(0, profile_of(program.target))
    x = (
        None
        if samples_file is None
        else load_samples(samples_file, program.input_shape, samples, program.frames).x
    )
    text = render_page(program, count_program(program, x, progress=True), profiles, parity=checked)
    write_page(text, output)
    return Output(
        {"output": str(output), "bytes": len(text.encode("utf-8", "replace"))}, [f"wrote {output}"]
    )
