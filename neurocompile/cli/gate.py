"""``neurocompile gate``: limits that a program must keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Json, Output, Samples, command


@command
def gate(
    artifact: Artifact,
    samples_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="X.npz", help="Samples 'x', and 'y' for the accuracy."),
    ] = None,
    max_cores: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cores.")] = None,
    max_spikes: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="Mean spikes per inference.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="A", help="Share of samples right.")
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="BACKENDS", help="Backends that must not differ, with commas.")
    ] = "",
    samples: Samples = None,
    json_output: Json = False,
) -> Output:
    """Hold a program to limits; exit code 1 where one is broken.

    For the continuous integration of a model repository: docs/ci.md has templates.
    """
    import msgspec

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples
    from neurocompile.gate import gate as check

    program = load_program(artifact)
    data = (
        None
        if samples_file is None
        else load_samples(samples_file, program.input_shape, samples, program.frames)
    )
    found = check(
        program,
        None if data is None else data.x,
        None if data is None else data.y,
        max_cores=max_cores,
        max_spikes=max_spikes,
        min_accuracy=min_accuracy,
        against=tuple(part.strip() for part in against.split(",") if part.strip()),
    )
    lines = [
        f"{artifact}: {found.model} on {found.target}",
        *(f"  {check}" for check in found.checks),
        "passed" if found.passed else "NOT passed",
    ]
    return Output(
        {"passed": found.passed, **msgspec.to_builtins(found)}, lines, 0 if found.passed else 1
    )
