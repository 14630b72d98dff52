"""``neurocompile fetch``: what came of a submitted job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Json, Output, check_output, command, say


@command
def fetch(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="Folder that 'submit' printed.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until the job has ended.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the job first.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.npz", help="As that of 'run'.")
    ] = None,
    json_output: Json = False,
) -> Output:
    """Get the result of a submitted job; exit code 1 while it has not ended."""
    if output is not None:
        if output.suffix.lower() != ".npz":
            raise typer.BadParameter(f"'{output}' does not end in .npz", param_hint="-o")
        check_output(output)

    from neurocompile.cli.submit import described, gathered
    from neurocompile.submission.ticket import Ticket

    found = Ticket.open(ticket)
    if cancel:
        found.cancel()
    if wait:
        found.wait(lambda state: say("note", f"job {found.asked.job} {state}"))
    state = found.state
    if state in ("done", "failed", "lost"):
        return gathered(found, output)
    told = f"job {found.asked.job} is {state}; --wait waits for it"
    return Output(described(found, state), [told], code=1)
