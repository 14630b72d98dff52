"""``--log``: a record of each build, run, parity and sweep, for whoever keeps books of experiments: a
line of JSON in a file, or a run of MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocompile.files import append_line, check_writable
from neurocompile.tracking import SCHEME, Tracker

__all__ = ["LOGGED", "Log", "append_record", "check_log"]

LOGGED = frozenset({"build", "parity", "run", "sweep"})
"""Commands that take ``--log``."""
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="RUNS.jsonl|mlflow:WHERE",
        help="Add a JSON line of this call to a file, or a run to an MLflow server or folder.",
    ),
]


def check_log(log: str) -> Callable[[dict[str, Any]], object]:
    """What takes the record of a call; NC4001, NC5005 before any work where nothing would."""
    if log.startswith(SCHEME):
        return Tracker(log).log
    path = Path(log)
    check_writable(path)
    return lambda record: append_line(path, json.dumps(record).encode())


def append_record(
    write: Callable[[dict[str, Any]], object],
    command: str,
    options: dict[str, Any],
    code: int,
    began: float,
    told: str,
) -> None:
    """Add the record of a call; NC5005.

    Args:
        write: of :func:`check_log`.
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
    write(record)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return getattr(value, "value", None) or str(value)
