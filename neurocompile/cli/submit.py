"""``neurocompile submit``: a run as a job of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import (
    Artifact,
    Backend,
    Device,
    Json,
    MaybeInput,
    Output,
    Samples,
    Sentences,
    check_output,
    command,
    say,
)

if TYPE_CHECKING:
    from neurocompile.submission.ticket import Ticket


@command
def submit(
    artifact: Artifact,
    samples_file: MaybeInput = None,
    text: Sentences = None,
    partition: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of Slurm; by default its default one.")
    ] = None,
    time: Annotated[
        int, typer.Option(min=1, metavar="MINUTES", help="Most minutes of the job.")
    ] = 10,
    backend: Backend = "emulator",
    device: Device = "cpu",
    rasters: Annotated[bool, typer.Option("--rasters", help="Keep every spike too.")] = False,
    board: Annotated[
        str | None, typer.Option(metavar="NODE", help="A node with a board: BOARD of the job.")
    ] = None,
    loihi_gen: Annotated[
        str | None,
        typer.Option(
            metavar="GEN", help="LOIHI_GEN of the job; with the backend loihi N3B3 by default."
        ),
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="More of sbatch: account=lab, mem=8GB, ..."),
    ] = None,
    cluster: Annotated[
        str, typer.Option(metavar="slurm|local", help="local: a process of this machine.")
    ] = "slurm",
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Of all jobs; nodes must see it too.")
    ] = Path("neurocompile-jobs"),
    samples: Samples = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the result, or give the ticket.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job's script; nothing is submitted.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT.npz", help="As that of 'run', once it is done."
        ),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Run samples or sentences as a job of a Slurm cluster; 'fetch' gets what came of it."""
    if (samples_file is None) == (not text):
        raise typer.BadParameter("give samples or sentences", param_hint="--input or --text")
    if output is not None:
        if output.suffix.lower() != ".npz":
            raise typer.BadParameter(f"'{output}' does not end in .npz", param_hint="-o")
        check_output(output, artifact, samples_file)

    from neurocompile.submission.sending import script_of
    from neurocompile.submission.sending import submit as submitted

    place: dict[str, Any] = {"partition": partition, "time": time, "backend": backend}
    place |= {"board": board, "loihi_gen": loihi_gen, "sbatch": tuple(sbatch or ())}
    place |= {"cluster": cluster}
    if dry_run:
        script = script_of(folder / "JOB", **place)
        return Output({"script": script}, [script])

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples

    program = load_program(artifact)
    x: Any = text
    labels = None
    if samples_file is not None:
        data = load_samples(samples_file, program.input_shape, samples, program.frames)
        x, labels = data.x, data.y
    ticket = submitted(program, x, device=device, rasters=rasters, folder=folder, **place)
    if not wait:
        found = described(ticket, "submitted")
        return Output(found, [f"job {ticket.asked.job}: neurocompile fetch {ticket.folder}"])
    say("note", f"job {ticket.asked.job}; neurocompile fetch {ticket.folder} finds it again")
    with contextlib.suppress(KeyboardInterrupt):
        ticket.wait(lambda state: say("note", f"job {ticket.asked.job} {state}"))
        return gathered(ticket, output, labels)
    say("note", f"job {ticket.asked.job} goes on")
    raise KeyboardInterrupt


def described(ticket: Ticket, state: str) -> dict[str, Any]:
    """Of a ticket, for --json."""
    asked = ticket.asked
    return {
        "ticket": str(ticket.folder),
        "job": asked.job,
        "state": state,
        "cluster": asked.cluster,
        "partition": asked.partition,
        "backend": asked.backend,
        "model": asked.model,
        "samples": asked.samples,
        "logs": str(ticket.logs),
    }


def gathered(ticket: Ticket, output: Path | None, labels: Any = None) -> Output:
    """What 'run' says of a result, with the ticket."""
    from neurocompile.cli.run import _data, _text

    result, done = ticket.result(), ticket.ended
    assert done is not None
    if output is not None:
        result.save(output)
    labelled = labels is not None and len(result.predictions) > 0
    data = _data(result, result.accuracy(labels) if labelled else None, done.seconds)
    data["output"] = None if output is None else str(output)
    data |= {**described(ticket, "done"), "samples": data["samples"], "host": done.host}

    def lines() -> Iterator[Any]:
        yield f"job {ticket.asked.job} on {done.host}"
        yield from _text(data, labels is not None)

    return Output(data, lines())
