"""Records of calls as runs of an MLflow server or folder: ``--log mlflow:WHERE``.

What MLflow itself would do behind a user's back is switched off unless the user has set it: its
telemetry, and minutes of tries at a server that does not answer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["Tracker", "metrics_of"]

SCHEME = "mlflow:"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder is what the user asked for
}
_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
_MOST_METRICS, _MOST_LISTED, _LONGEST = 1000, 64, 500
_NAMES = ("backend", "name", "layer", "profile")
"""Fields that name the entries of a list."""


class Tracker:
    """An experiment at an MLflow tracking address.

    Args:
        where: ``mlflow:`` and a server's address, a database's, or a folder; nothing behind it takes
            ``MLFLOW_TRACKING_URI``. The experiment is ``MLFLOW_EXPERIMENT_NAME``, or ``neurocompile``.

    Raises:
        NeurocompileError: NC4001 without MLflow, NC5005 where it does not answer.
    """

    def __init__(self, where: str) -> None:
        address = where.removeprefix(SCHEME) or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not address:
            raise NeurocompileError(
                "NC1015", f"'{where}' names no place, and MLFLOW_TRACKING_URI is not set"
            )
        if find_spec("mlflow") is None:
            raise NeurocompileError(
                "NC4001", f"'{where}' needs MLflow: pip install 'neurocompile[mlflow]'"
            )
        self.address = address
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        if not re.match(r"[A-Za-z][\w+.-]+:", address):
            address = Path(address).absolute().as_uri()
        with self._named():
            from mlflow.tracking import MlflowClient

            self.client: MlflowClient = MlflowClient(tracking_uri=address)
            name = os.environ.get(_EXPERIMENT, "neurocompile")
            known = self.client.get_experiment_by_name(name)
            self.experiment: str = (
                known.experiment_id if known else self.client.create_experiment(name)
            )

    def log(self, record: Mapping[str, Any]) -> str:
        """Add a run: the record of :mod:`neurocompile.cli.run_log`. Options become parameters, every
        number of the result a metric, and the record itself the artifact ``record.json``.

        Returns:
            The run's identifier.

        Raises:
            NeurocompileError: NC5005.
        """
        began = datetime.fromisoformat(record["time"]).timestamp() * 1000
        options, result = record["options"], record["result"]
        subject = str(options.get("artifact") or options.get("model") or "")
        tags = {
            "neurocompile.command": record["command"],
            "neurocompile.version": record["version"],
            "neurocompile.code": str(record["code"]),
        }
        if isinstance(result, Mapping) and isinstance(result.get("error"), Mapping):
            tags["neurocompile.error"] = str(result["error"].get("code"))
        metrics = {"seconds": float(record["seconds"]), **metrics_of(result)}
        with self._named():
            from mlflow.entities import Metric, Param, RunTag

            name = " ".join([record["command"], Path(subject).stem]).strip()
            run = self.client.create_run(self.experiment, start_time=int(began), run_name=name)
            key = run.info.run_id
            ended = int(began + 1000 * record["seconds"])
            kept = list(metrics.items())[:_MOST_METRICS]
            given = [(k, v) for k, v in options.items() if v is not None]
            self.client.log_batch(
                key,
                metrics=[Metric(k, v, ended, 0) for k, v in kept],
                params=[Param(k, str(v)[:_LONGEST]) for k, v in given[:100]],
                tags=[RunTag(k, v) for k, v in tags.items()],
            )
            self.client.log_text(key, json.dumps(record, indent=1), "record.json")
            status = "FAILED" if record["code"] else "FINISHED"
            self.client.set_terminated(key, status, end_time=ended)
        return str(key)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Whatever MLflow raises as one line."""
        try:
            yield
        except NeurocompileError:
            raise
        except Exception as error:  # its client, its stores, requests, a folder
            lines = str(error).splitlines() or [type(error).__name__]
            raise NeurocompileError(
                "NC5005", f"cannot write to MLflow at '{self.address}': {lines[0][:200]}"
            ) from error


def metrics_of(result: object, prefix: str = "") -> dict[str, float]:
    """Every number of what ``--json`` prints, by its path: ``backends.lava.differences``.

    Entries of a list go by their name (``backend``, ``name``, ``layer``, ``profile``) or number; of
    longer lists than 64, such as the rows of cores, none.
    """
    if isinstance(result, (bool, str)) or result is None:
        return {}
    if isinstance(result, (int, float)):
        return {_key(prefix): float(result)}
    entries: list[tuple[str, object]] = []
    if isinstance(result, Mapping):
        entries = [(str(name), value) for name, value in result.items()]
    elif isinstance(result, Sequence) and len(result) <= _MOST_LISTED:
        entries = [(_name(value, number), value) for number, value in enumerate(result)]
    found: dict[str, float] = {}
    for name, value in entries:
        found |= metrics_of(value, f"{prefix}.{name}" if prefix else name)
    return found


def _name(value: object, number: int) -> str:
    if isinstance(value, Mapping):
        for field in _NAMES:
            if isinstance(value.get(field), str):
                return str(value[field])
    return str(number)


def _key(text: str) -> str:
    """As MLflow takes names of metrics."""
    return re.sub(r"[^\w./ :-]", "_", text)[:250]
