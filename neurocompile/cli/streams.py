"""Standard streams that are closed or full, and text that may go to a terminal.

A shell may start a program without stdout or stderr (``>&-``). Then Python has None in their
place, and the next file that is opened gets their number: what is printed would land in it.
"""

from __future__ import annotations

import contextlib
import os
import sys

from neurocompile.cli.flags import as_flags
from neurocompile.errors import NeurocompileError

__all__ = ["cannot_print", "clean", "open_streams"]


def open_streams() -> None:
    """Nothing in the place of each standard stream that is closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def cannot_print(error: OSError) -> NeurocompileError:
    """NC6003, and stdout leads nowhere, so that the interpreter does not fail on it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return NeurocompileError(
        "NC6003",
        f"the result cannot be printed: {error.strerror or error}; files that were asked for with "
        "-o are complete",
    )


def clean(text: object) -> str:
    """``text`` with arguments as flags, and without control characters: names come from files of
    strangers, and may hold terminal sequences.
    """
    return "".join(c if c.isprintable() else "?" for c in as_flags(str(text)))
