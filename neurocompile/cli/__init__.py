"""The command line. One module a command; what is heavy is imported inside the commands, so that ``--help`` is fast.

Exit codes: 0 all is well, 1 a check found something (``parity`` a difference, ``doctor`` a problem), 2 an error or
wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neurocompile.cli import (
    budget,
    build,
    check,
    deff,
    doctor,
    energy,
    explain,
    parity,
    plot,
    report,
    reproduce,
    run,
    targets,
    verify,
)  # fmt: skip
from neurocompile.cli.common import app

__all__ = [
    "app", "budget", "build", "check", "deff", "doctor", "energy", "explain", "main",
    "parity", "plot", "report", "reproduce", "run", "targets", "verify",
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on ``arguments``, by default those of the process; raises SystemExit with the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    try:
        app(args=arguments)
    except KeyboardInterrupt:
        return 130
    return 0
