"""A ticket: the folder of a job, which holds all that the job needs and all that it gives.

``ticket.json`` says what was asked, ``program.nca`` and ``x.npz`` are what runs, ``done.json`` and
``result.npz`` what came of it. submitit's own files (the script, logs, pickles of the call) lie in
``slurm``; nothing here reads its pickles back.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path, read_input, write_output
from neurocompile.guard import guarded
from neurocompile.run_result import RunResult

__all__ = ["PROGRAM", "SAMPLES", "Asked", "Done", "Ticket", "read_asked"]

TICKET, DONE, PROGRAM, SAMPLES, RESULT = (
    "ticket.json",
    "done.json",
    "program.nca",
    "x.npz",
    "result.npz",
)
LOGS = "slurm"
_LARGEST = 1 << 20
_GRACE = 10.0
"""Seconds that a shared file system may take to show what a job that ended has written."""
_SLOWEST = 2.0
"""Seconds between two looks at a job."""
_PATIENCE = 60.0
"""Seconds that Slurm's programs may take to answer."""
STARTED: dict[int, Any] = {}
"""Processes of the local executor that this one started, by their number."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was submitted, and where."""

    job: str
    """Its number: of Slurm, or of the process."""
    cluster: str
    """slurm or local."""
    backend: str
    device: str = "cpu"
    rasters: bool = False
    model: str = ""
    samples: int = 0
    partition: str | None = None
    submitted: float = 0.0
    """Seconds since 1970."""


class Done(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a job."""

    code: str = ""
    """Of the error that ended it; "" if it came to its end."""
    message: str = ""
    host: str = ""
    seconds: float = 0.0
    banner: str = ""
    outside: float = 0.0
    neuron_steps: dict[str, int] = {}


@dataclass(frozen=True)
class Ticket:
    """A submitted run."""

    folder: Path
    asked: Asked

    @classmethod
    def open(cls, folder: str | Path) -> Ticket:
        """That of a folder which :func:`~neurocompile.submission.sending.submit` made; NC1001 or
        NC4014 for any other.
        """
        path = as_path(folder, "NC1001")
        return cls(path, read_asked(path))

    @property
    def state(self) -> str:
        """``done`` or ``failed``; else Slurm's word for the job (PENDING, RUNNING, ...), RUNNING or
        ``lost``: ended without a word.
        """
        return self._state(_GRACE)

    def _state(self, grace: float) -> str:
        end = time.monotonic() + grace
        while True:
            done = self.ended
            if done is not None:
                return "failed" if done.code else "done"
            found = self._alive()
            if found:
                return found
            if time.monotonic() > end:
                return "lost"
            time.sleep(0.1)

    @guarded
    def wait(self, told: Callable[[str], object] | None = None) -> Ticket:
        """Return when the job has ended, however; ``told`` is called with each new state."""
        pause, last = 0.05, ""
        while True:
            state = self.state
            if state != last and told is not None:
                told(state)
            if state in ("done", "failed", "lost"):
                return self
            last = state
            time.sleep(pause)
            pause = min(pause * 1.5, _SLOWEST)

    @guarded
    def result(self) -> RunResult:
        """What the run gave.

        Raises:
            NeurocompileError: NC4015 if the job is not done yet or was lost; the job's own error.
        """
        state = self.state
        if state not in ("done", "failed"):
            why = f"is {state}" if state != "lost" else f"was lost{self._last_words()}"
            raise NeurocompileError(
                "NC4015", f"job {self.asked.job} of '{self.folder}' {why}; its logs: '{self.logs}'"
            )
        done = self.ended
        assert done is not None
        if done.code:
            raise NeurocompileError(done.code, f"{done.message} (job {self.asked.job})")
        return self._read(done)

    @guarded
    def cancel(self) -> None:
        """End the job, if it has not ended; NC4013 if Slurm refuses."""
        if self.state in ("done", "failed", "lost"):
            return
        if self.asked.cluster == "slurm":
            _called("scancel", self.asked.job)
            return
        process = STARTED.get(int(self.asked.job))
        if process is not None:
            process.terminate()
        else:
            os.kill(int(self.asked.job), 15)

    @property
    def logs(self) -> Path:
        """Folder of the job's script, output and errors."""
        return self.folder / LOGS

    @property
    def ended(self) -> Done | None:
        """What became of the job; None while it has not said so. NC4014 if that is damaged."""
        path = self.folder / DONE
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(read_input(path, _LARGEST), type=Done)
        except msgspec.DecodeError as error:
            raise NeurocompileError("NC4014", f"'{path}' is malformed: {error}") from error

    def _alive(self) -> str:
        if self.asked.cluster == "slurm":
            return _called("squeue", "-h", "-j", self.asked.job, "-o", "%T", missing="")
        number = int(self.asked.job)
        process = STARTED.get(number)
        if process is not None:
            return "RUNNING" if process.poll() is None else ""
        try:
            os.kill(number, 0)
        except OSError:
            return ""
        return "RUNNING"

    def _last_words(self) -> str:
        for path in sorted(self.logs.glob("*_log.err")):
            lines = path.read_text(errors="replace").strip().splitlines()
            if lines:
                return f": {lines[-1][:200]}"
        return ""

    def _read(self, done: Done) -> RunResult:
        try:
            with np.load(self.folder / RESULT, allow_pickle=False) as file:
                held = {name: file[name] for name in file.files}
            layers = [str(name) for name in held["layers"]]
            outputs = _of_prefix(held, "output.")
            return RunResult(
                backend=str(held["backend"]),
                banner=done.banner,
                logits=held["logits"],
                spikes=dict(zip(layers, held["spikes"].tolist(), strict=True)),
                neuron_steps=done.neuron_steps,
                step_logits=held.get("step_logits"),
                outside=done.outside,
                outputs=outputs or {"output": held["logits"]},
                rasters=_of_prefix(held, "raster."),
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise NeurocompileError(
                "NC4014", f"'{self.folder / RESULT}' is no result of a job: {error}"
            ) from error


def _of_prefix(held: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}


def read_asked(folder: Path) -> Asked:
    """What ``ticket.json`` says; NC1001 or NC4014."""
    path = folder / TICKET
    try:
        asked = msgspec.json.decode(read_input(path, _LARGEST), type=Asked)
    except msgspec.DecodeError as error:
        raise NeurocompileError("NC4014", f"'{path}' is malformed: {error}") from error
    if not re.fullmatch(r"[1-9]\d{0,18}", asked.job) or asked.cluster not in ("slurm", "local"):
        raise NeurocompileError("NC4014", f"'{path}' names no job")
    return asked


def _called(program: str, *arguments: str, missing: str | None = None) -> str:
    """What one of Slurm's programs prints; ``missing`` where Slurm does not know the job any more."""
    if shutil.which(program) is None:
        raise NeurocompileError(
            "NC4013",
            f"no Slurm on this machine ({program} is not found); ask on a machine that has it",
        )
    try:
        found = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NeurocompileError(
            "NC4013", f"{program} does not answer within {_PATIENCE:g} s"
        ) from error
    if found.returncode:
        said = " ".join(found.stderr.split()) or f"exit code {found.returncode}"
        if missing is not None and "Invalid job id" in said:
            return missing
        raise NeurocompileError("NC4013", f"{program}: {said[:300]}")
    return found.stdout.strip()


def write_json(path: Path, value: msgspec.Struct) -> None:
    """Whole or not at all."""
    write_output(path, msgspec.json.format(msgspec.json.encode(value)))
