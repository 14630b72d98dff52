"""Submit a run: :func:`submit` gives a ticket, and :func:`fetch` what came of it."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import time as clock
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neurocompile.artifact.store import load_program
from neurocompile.data import save_arrays
from neurocompile.errors import NeurocompileError, not_importable, shown
from neurocompile.files import as_path
from neurocompile.guard import guarded
from neurocompile.program import Program
from neurocompile.run_result import RunResult
from neurocompile.running import check_where
from neurocompile.submission.job import run_job
from neurocompile.submission.ticket import (
    LOGS,
    PROGRAM,
    SAMPLES,
    STARTED,
    TICKET,
    Asked,
    Ticket,
    write_json,
)

__all__ = ["GENERATIONS", "fetch", "script_of", "submit"]

GENERATIONS = ("N2A2", "N3B2", "N3B3", "N3C1", "N3D1")
"""Of Loihi, as Lava's ``LOIHI_GEN`` names them."""
_SIGNAL = 90
"""Seconds before a job's limit at which submitit is told."""


@guarded
def submit(
    program: Program | str | Path,
    x: np.ndarray,
    *,
    partition: str | None = None,
    time: int = 10,
    backend: str = "emulator",
    device: str = "cpu",
    rasters: bool = False,
    board: str | None = None,
    loihi_gen: str | None = None,
    sbatch: Sequence[str] = (),
    cluster: str = "slurm",
    folder: str | Path = "neurocompile-jobs",
) -> Ticket:
    """Submit ``program.run(x, backend, device=device, rasters=rasters)`` as a job.

    Args:
        program: a program, or the path of an artifact.
        x: float32 (samples, *input shape), or sentences where the program has a text part.
        partition: of Slurm; by default its own default one.
        time: most minutes of the job.
        backend, device, rasters: as :meth:`neurocompile.program.Program.run` has them.
        board, loihi_gen: a node and a generation of Loihi (:data:`GENERATIONS`; by default N3B3 with
            the backend loihi), which the job finds in ``BOARD`` and ``LOIHI_GEN``.
        sbatch: more options of the job, ``KEY=VALUE`` as ``sbatch --KEY=VALUE`` takes them.
        cluster: slurm, or local: a process of this machine, by the same code.
        folder: of all jobs; nodes have to see it under this path. Each job gets one of its own there.

    Returns:
        The ticket; ``ticket.wait().result()`` is the run's result.

    Raises:
        NeurocompileError: what the program raises for ``x``, a backend or device; NC1015 for an option
            out of range; NC4001 (no submitit), NC4013 (no Slurm, or it refuses), NC5005 (folder).
    """
    executors = _Executors(partition, time, backend, board, loihi_gen, sbatch, cluster)
    loaded = load_program(program) if isinstance(program, (str, Path)) else program
    given = loaded.checked(x)
    check_where(backend, device, rasters)
    own = _folder_of(folder, loaded.manifest.model)
    asked = Asked(
        job="1",
        cluster=cluster,
        backend=backend,
        device=device,
        rasters=rasters,
        model=loaded.manifest.model,
        samples=len(given),
        partition=partition,
        submitted=round(clock.time(), 3),
    )
    try:
        loaded.save(own / PROGRAM)
        save_arrays(own / SAMPLES, {"x": given})
        write_json(own / TICKET, asked)  # the job may start before its number is known here
        asked = msgspec.structs.replace(asked, job=executors.submit(own))
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    write_json(own / TICKET, asked)
    return Ticket(own, asked)


@guarded
def fetch(ticket: Ticket | str | Path, *, wait: bool = False, cancel: bool = False) -> RunResult:
    """What the job of a ticket, or of its folder, gave.

    Args:
        wait: until it has ended.
        cancel: end it first.

    Raises:
        NeurocompileError: NC4015 if it has not ended, or was lost; NC4014 for what is no ticket; the
            job's own error.
    """
    found = ticket if isinstance(ticket, Ticket) else Ticket.open(ticket)
    if cancel:
        found.cancel()
    return (found.wait() if wait else found).result()


def script_of(folder: Path, **options: Any) -> str:
    """The script that :func:`submit` would give to ``sbatch`` with ``options``, which are its own."""
    return _Executors(**options).script(folder)


class _Executors:
    """Options of a job, checked, as submitit's executors take them."""

    def __init__(
        self,
        partition: str | None = None,
        time: int = 10,
        backend: str = "emulator",
        board: str | None = None,
        loihi_gen: str | None = None,
        sbatch: Sequence[str] = (),
        cluster: str = "slurm",
    ) -> None:
        if cluster not in ("slurm", "local"):
            raise NeurocompileError(
                "NC1015", f"cluster is {shown(cluster)}; slurm and local are possible"
            )
        if isinstance(time, bool) or not isinstance(time, int) or not 1 <= time <= 525_600:
            raise NeurocompileError(
                "NC1015", f"time is {shown(time)}; 1 to 525,600 minutes are possible"
            )
        for name, value in (("partition", partition), ("board", board)):
            if value is not None and not _is_word(value):
                raise NeurocompileError("NC1015", f"{name} is {shown(value)}; a name is needed")
        if loihi_gen is not None and loihi_gen not in GENERATIONS:
            raise NeurocompileError(
                "NC1015", f"loihi_gen is {shown(loihi_gen)}; {', '.join(GENERATIONS)} are possible"
            )
        self.cluster, self.time = cluster, time
        self.slurm: dict[str, Any] = {"time": time, "job_name": "neurocompile"}
        self.slurm["signal_delay_s"] = min(_SIGNAL, 15 * time)
        # a step around the job would hold the node that Lava asks Slurm for
        self.slurm["use_srun"] = False
        if partition is not None:
            self.slurm["partition"] = partition
        if board is not None:
            self.slurm["nodelist"] = board
        if sbatch:
            self.slurm["additional_parameters"] = dict(_pair(text) for text in sbatch)
        environment = _environment(partition, board, loihi_gen, backend, cluster)
        self.setup = [f"export {k}={shlex.quote(v)}" for k, v in environment.items()]

    def submit(self, folder: Path) -> str:
        """The job's number."""
        submitit = _submitit(self.cluster)
        kind = submitit.SlurmExecutor if self.cluster == "slurm" else submitit.LocalExecutor
        try:
            executor = kind(folder=folder / LOGS)
            executor.update_parameters(**self._parameters())
            job = executor.submit(run_job, str(folder))
        except (RuntimeError, OSError, ValueError) as error:
            said = " ".join(str(error).split())
            raise NeurocompileError("NC4013", f"the job is not submitted: {said[:400]}") from error
        process = getattr(job, "_process", None)
        if process is not None:
            STARTED[int(job.job_id)] = process
        return str(job.job_id)

    def script(self, folder: Path) -> str:
        """As submitit writes it."""
        _submitit("local")
        from submitit.slurm import slurm

        logs = (folder / LOGS).absolute()
        command = (
            f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(logs))}"
        )
        if self.cluster == "local":  # a process of this machine, and no script
            return f"#!/bin/sh\n{command}\n"
        return str(slurm._make_sbatch_string(command=command, folder=logs, **self._parameters()))

    def _parameters(self) -> dict[str, Any]:
        if self.cluster == "slurm":
            return {**self.slurm, "setup": self.setup} if self.setup else dict(self.slurm)
        local: dict[str, Any] = {"timeout_min": self.time, "signal_delay_s": 15}
        return {**local, "setup": self.setup} if self.setup else local


def _environment(
    partition: str | None, board: str | None, loihi_gen: str | None, backend: str, cluster: str
) -> dict[str, str]:
    """Variables by which Lava finds a board (``lava.utils.loihi.use_slurm_host`` sets the same)."""
    found = {}
    if backend == "loihi" and cluster == "slurm":
        found["SLURM"] = "1"
    if backend == "loihi" or loihi_gen is not None:
        found["LOIHI_GEN"] = loihi_gen or "N3B3"
    if board is not None:
        found["BOARD"] = board
    elif partition is not None and backend == "loihi":
        found["PARTITION"] = partition
    return found


def _submitit(cluster: str) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise not_importable("submitting a job", error, "slurm") from error
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise NeurocompileError(
            "NC4013",
            "no Slurm on this machine (sbatch is not found); submit from a login node, or with cluster 'local' run here",
        )
    return submitit


def _folder_of(folder: str | Path, model: str) -> Path:
    """A new folder of one job, of this user alone."""
    name = re.sub(r"[^\w.-]+", "_", model)[:60] or "run"
    stamp = clock.strftime("%Y%m%d-%H%M%S")
    path = as_path(folder, "NC5005").absolute() / f"{name}-{stamp}-{uuid.uuid4().hex[:6]}"
    try:
        path.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise NeurocompileError(
            "NC5005", f"cannot make '{path}': {error.strerror or error}"
        ) from error
    return path


def _is_word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.,\[\]-]{1,200}", value) is not None


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = str(text).partition("=")
    plain = re.fullmatch(r"[a-z][a-z-]*", key) and "\n" not in value
    if not (equals and plain and value):
        raise NeurocompileError(
            "NC1015",
            f"sbatch is {shown(text)}; KEY=VALUE is needed, such as account=lab or mem=8GB",
        )
    return key, value
