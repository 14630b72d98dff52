"""The command line. One module a command; what is heavy is imported inside the commands, so that
``--help`` is fast.

Exit codes: 0 all is well, 1 a check found something (``parity`` a difference, ``doctor`` a
problem), 2 an error or wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer

from neurocompile.cli import (
    budget,
    build,
    cache,
    check,
    deff,
    doctor,
    energy,
    explain,
    export,
    fetch,
    finetune,
    frames,
    gate,
    generate,
    opt,
    parity,
    plot,
    report,
    reproduce,
    run,
    submit,
    sweep,
    targets,
    verify,
    zoo,
)
from neurocompile.cli.common import app, fail
from neurocompile.cli.streams import open_streams
from neurocompile.errors import NeurocompileError

__all__ = [
    "app",
    "budget",
    "build",
    "cache",
    "check",
    "deff",
    "doctor",
    "energy",
    "explain",
    "export",
    "fetch",
    "finetune",
    "frames",
    "gate",
    "generate",
    "main",
    "opt",
    "parity",
    "plot",
    "report",
    "reproduce",
    "run",
    "submit",
    "sweep",
    "targets",
    "verify",
    "zoo",
]

_UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]
"""Of click, or of the copy of it that typer brings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on ``arguments``, by default those of the process; raises SystemExit
    with the exit code.
    """
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a name that the terminal's encoding lacks is no error
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if "--json" not in given:
            app(args=given)
        sys.exit(app(args=given, standalone_mode=False))
    except _UsageError as error:  # with --json: otherwise it is shown already
        sys.exit(fail(NeurocompileError("NC6002", _usage(error)), as_json=True)[0])
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _usage(error: Any) -> str:
    """What is wrong with the command line, and where its help is."""
    command = error.ctx.info_name if error.ctx is not None and error.ctx.parent is not None else ""
    message = error.format_message().strip().rstrip(".")
    return f"{message}; 'neurocompile {command + ' ' if command else ''}--help' shows the usage"
