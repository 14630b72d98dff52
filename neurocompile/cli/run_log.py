"""``--log RUNS.jsonl``: one JSON line for each build, run, parity and sweep, for whoever keeps books
of experiments.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocompile.files import append_line

__all__ = ["LOGGED", "Log", "append_record"]

LOGGED = frozenset({"build", "parity", "run", "sweep"})
"""Commands that take ``--log``."""
Log = Annotated[
    Path | None,
    typer.Option("--log", metavar="RUNS.jsonl", help="Add a JSON line of this call to a file."),
]


def append_record(
    path: Path, command: str, options: dict[str, Any], code: int, began: float, told: str
) -> None:
    """Add the record of a call; NC5005.

    Args:
        options: what the command was given, defaults included.
        code: its exit code.
        began: ``time.time()`` at its start.
        told: what ``--json`` prints, or the error as it prints that.
    """
    record = {
        "time": datetime.fromtimestamp(began, timezone.utc).isoformat(timespec="milliseconds"),
        "seconds": round(time.time() - began, 3),
        "command": command,
        "options": {name: _plain(value) for name, value in options.items()},
        "version": version("neurocompile"),
        "code": code,
        "result": json.loads(told),
    }
    append_line(path, json.dumps(record).encode())


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return getattr(value, "value", None) or str(value)
