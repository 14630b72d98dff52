"""Lava's real multi-process runtime, in a child session with a deadline: the slow cross-check of
``in_process``.

Lava's runtime must never run in the user's process: an exception in a model, a killed worker, too
few file descriptors, a missing ``stop`` or Ctrl-C each hang it for ever in at least one common
case. So a child interpreter in a session of its own runs it (``python -m
neurocompile.backends.lava.child``). The circuit travels as text and .npz, never as pickle; the
traces come back as .npy files that one recorder process writes while it runs. When the child ends,
fails, or is late, the whole process group is ended, first by SIGTERM, then by SIGKILL, and the
shared memory that it left is removed. The child ends its own group when it sees that the parent has
gone (its standard input closes).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.encoding import check_integers
from neurocompile.backends.lava import shared_memory
from neurocompile.backends.lava.compat import require_lava
from neurocompile.backends.lava.in_process import check_record
from neurocompile.backends.lava.network import total_steps
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph, synapse_count
from neurocompile.ir.windows import by_sample

__all__ = ["RuntimeExecutor", "check_file_descriptors", "deadline_seconds", "process_count"]


def process_count(circuit: CircuitGraph) -> int:
    """Operating-system processes: one a population, one a projection, and the recorder."""
    return len(circuit.populations) + len(circuit.projections) + 1


def deadline_seconds(circuit: CircuitGraph, samples: int) -> float:
    """A generous limit: about ten times what was measured on a busy two-core machine."""
    processes, steps = process_count(circuit), total_steps(circuit, samples)
    synapses = sum(synapse_count(circuit, p) for p in circuit.projections)
    return 60 + processes * (1 + 5e-3 * steps) + 1e-7 * synapses * steps


def check_file_descriptors(processes: int, apply: bool = False) -> None:
    """NC4004 if the hard limit of open files is below what Lava needs; ``apply`` raises the soft
    one to it.
    """
    needed = 64 + 11 * processes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise NeurocompileError(
                "NC4004",
                f"{processes} Lava processes need about {needed} open files, the limit "
                f"is {hard}: raise it (ulimit -n), or use the backend lava",
            )
        if apply:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class RuntimeExecutor:
    """Executor of a circuit; see :class:`neurocompile.backends.base.Executor`. Each run starts a
    child.
    """

    def __init__(self, circuit: CircuitGraph, deadline: float | None = None) -> None:
        require_lava()
        check_file_descriptors(process_count(circuit))
        self.circuit, self.deadline = circuit, deadline
        self.options: dict[str, Any] = {}
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RuntimeExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.child is not None:
            _end_group(self.child)

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """Run the samples; NC4003 if the runtime fails or is late."""
        circuit = self.circuit
        x = check_integers(circuit, x)
        names = check_record(circuit, record)
        limit = deadline_seconds(circuit, len(x)) if self.deadline is None else self.deadline
        if not names or not len(x):
            return {
                n: np.zeros((len(x), circuit.sample_steps, *circuit.population[n].shape), np.int32)
                for n in names
            }
        with tempfile.TemporaryDirectory(prefix="neurocompile-lava-") as folder:  # mode 0700
            path = Path(folder)
            (path / "circuit.txt").write_text(circuit.text(), encoding="utf-8")
            np.savez(path / "tensors.npz", **circuit.tensors)
            np.save(path / "x.npy", x)
            (path / "job.json").write_text(
                json.dumps({"record": names, **self.options}), encoding="utf-8"
            )
            with open(path / "output.txt", "wb") as output:
                command = [sys.executable, "-m", "neurocompile.backends.lava.child", folder]
                root = str(Path(__file__).parents[3])
                search = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
                env = {**os.environ, "PYTHONPATH": search}
                self.child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env=env,
                )
                try:
                    why = _wait(self.child, path / "done", limit)
                    words = _last_words(
                        (path / "output.txt").read_text(encoding="utf-8", errors="replace")
                    )
                finally:
                    _end_group(self.child)
                    self.child = None
            if why:
                raise NeurocompileError(
                    "NC4003",
                    f"Lava's runtime {why} ({process_count(circuit)} processes, "
                    f"{total_steps(circuit, len(x))} steps): {words}",
                )
            self._collect(path)
            return {
                n: by_sample(circuit, np.load(path / f"trace{i}.npy", allow_pickle=False))
                for i, n in enumerate(names)
            }

    def _collect(self, folder: Path) -> None:
        """Take what the child left in its folder beside the traces."""


def _wait(child: subprocess.Popen[bytes], done: Path, limit: float) -> str:
    """Empty if the child wrote all results; otherwise what happened."""
    end = time.monotonic() + limit
    while not done.exists():
        if child.poll() is not None and not done.exists():
            return f"ended with exit status {child.returncode}"
        if time.monotonic() > end:
            return f"did not finish within {limit:g} s"
        time.sleep(0.02)
    try:
        child.wait(
            timeout=5
        )  # let stop() remove the shared memory; results are safe even if it hangs
    except subprocess.TimeoutExpired:
        pass
    return ""


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End every process of the child's session, wait for the child, and remove the shared memory
    they left.
    """
    for sign, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        end = time.monotonic() + patience
        try:
            os.killpg(child.pid, sign)
            while time.monotonic() < end:
                child.poll()
                os.killpg(child.pid, 0)
                time.sleep(0.02)
        except (ProcessLookupError, PermissionError):
            break
    if child.stdin is not None:
        child.stdin.close()
    child.wait()
    shared_memory.remove(child.pid)


def _last_words(output: str) -> str:
    """The end of a traceback, and where Lava's watchdog saw a channel blocked."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    blocked = [line for line in lines if "Blocked on" in line][-1:]
    noise = ("Blocked on", "Warning: ", "warnings.warn", "resource_tracker")
    spoken = [
        line
        for line in lines
        if not any(n in line for n in noise) and not line.startswith(("File ", "^"))
    ][-2:]
    return " | ".join(spoken + blocked) or "it wrote nothing to its error output"
