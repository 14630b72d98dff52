"""What becomes of each answer of Slurm's programs: small scripts of their names say it, for a real
Slurm (test_slurm.py) seldom gives all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_cases
import pytest

import neurocompile
from neurocompile.cli import main
from neurocompile.errors import NeurocompileError
from neurocompile.program import Program
from neurocompile.submission import ticket as tickets
from neurocompile.submission.job import run_job
from neurocompile.submission.ticket import STARTED, Ticket

pytest.importorskip("submitit", reason="the extra slurm is not installed")

Answer = Callable[[str, str], None]


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Have the program of a name do what a shell script says; PATH holds no other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tickets, "_GRACE", 0.1)

    def write(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (folder / name).chmod(0o755)

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a ticket of Slurm's job 7."""
    asked = {"job": "7", "cluster": "slurm", "backend": "emulator", "partition": "loihi"}
    (tmp_path / "ticket.json").write_text(json.dumps(asked))
    return tmp_path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(onnx_cases.small(), path)
    return neurocompile.compile(path, T=4, calibration=np.eye(4, dtype=np.float32))


def called(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return int(end.value.code or 0), *capfd.readouterr()


def test_a_job_that_waits_is_told_with_exit_code_1(
    answer: Answer, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answer("squeue", 'echo "$*" > asked; echo PENDING')
    code, out, _ = called(capfd, "fetch", folder)
    assert code == 1 and "job 7 is PENDING; --wait waits for it" in out
    assert (folder / "asked").read_text() == "-h -j 7 -o %T\n"
    code, out, _ = called(capfd, "fetch", folder, "--json")
    told = json.loads(out)
    assert code == 1 and (told["state"], told["partition"]) == ("PENDING", "loihi")
    with pytest.raises(NeurocompileError, match="job 7 of .* is PENDING; its logs: ") as early:
        neurocompile.fetch(folder)
    assert early.value.code == "NC4015"


def test_a_cancelled_job_is_lost(
    answer: Answer, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unknown = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    answer("squeue", f"[ -e ended ] || {{ echo RUNNING; exit; }}; {unknown}")
    answer("scancel", 'echo "$*" > ended')
    code, out, err = called(capfd, "fetch", folder, "--cancel", "--wait")
    assert code == 2 and not out and "error: NC4015 job 7" in err and "was lost" in err
    assert (folder / "ended").read_text() == "7\n"
    answer("scancel", "exit 9")
    Ticket.open(folder).cancel()  # it has ended: nobody is asked


@pytest.mark.parametrize(
    "script, why",
    [
        ("echo 'squeue: error:  Unable to\nreach' >&2; exit 1", "squeue: error: Unable to reach"),
        ("exit 3", "squeue: exit code 3"),
        ("exec /bin/sleep 20", "squeue does not answer within 0.2 s"),
        (None, "no Slurm on this machine (squeue is not found)"),
    ],
)
def test_a_slurm_out_of_reach_is_named(
    answer: Answer, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, why: str
) -> None:
    if script is not None:
        answer("squeue", script)
    monkeypatch.setattr(tickets, "_PATIENCE", 0.2 if "sleep" in (script or "") else 60.0)
    with pytest.raises(NeurocompileError) as refused:
        _ = Ticket.open(folder).state
    assert refused.value.code == "NC4013" and why in refused.value.message


def test_a_job_that_slurm_takes_gives_its_result_to_who_fetches(
    answer: Answer, tmp_path: Path, program: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    x = np.eye(4, dtype=np.float32)
    program.save(tmp_path / "net.nca")
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(4, np.int64))
    answer("srun", "exit 1")
    answer("sbatch", 'echo "$*" > asked; echo Submitted batch job 12')
    answer("squeue", "echo RUNNING")
    asked = ["submit", tmp_path / "net.nca", "--input", tmp_path / "x.npz", "--no-wait"]
    asked += ["--folder", tmp_path / "jobs", "--board", "node3", "--sbatch", "mem=1GB"]
    code, out, _ = called(capfd, *asked)
    (own,) = (tmp_path / "jobs").iterdir()
    assert code == 0 and f"job 12: neurocompile fetch {own}" in out
    script = Path((tmp_path / "asked").read_text().strip()).read_text()
    assert "#SBATCH --nodelist=node3" in script and "#SBATCH --mem=1GB" in script
    assert called(capfd, "fetch", own)[0] == 1
    run_job(str(own))  # as the node does
    code, out, _ = called(capfd, "fetch", own, "-o", tmp_path / "out.npz", "--json")
    told, wanted = json.loads(out), program.run(x)
    assert code == 0 and told["state"] == "done" and told["job"] == "12"
    assert told["predictions"] == wanted.predictions.tolist()
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_array_equal(file["logits"], wanted.logits)
    code, out, _ = called(capfd, "fetch", own)
    assert code == 0 and out.startswith(f"job 12 on {told['host']}")


@pytest.mark.parametrize(
    "programs, why",
    [
        ({}, "no Slurm on this machine (sbatch is not found)"),
        (
            {"sbatch": "echo 'sbatch: error: invalid partition' >&2; exit 1", "srun": ""},
            "the job is not submitted: ",
        ),
    ],
)
def test_what_is_not_submitted_leaves_nothing(
    answer: Answer, tmp_path: Path, program: Program, programs: dict[str, str], why: str
) -> None:
    for name, script in programs.items():
        answer(name, script)
    with pytest.raises(NeurocompileError) as refused:
        neurocompile.submit(program, np.eye(4, dtype=np.float32), folder=tmp_path / "jobs")
    assert refused.value.code == "NC4013" and why in refused.value.message
    assert "\n" not in refused.value.message and not list((tmp_path / "jobs").iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, program: Program) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NeurocompileError, match="NC5005 cannot make '.*file/.*': Not a directory"):
        neurocompile.submit(
            program, np.eye(4, dtype=np.float32), cluster="local", folder=tmp_path / "file" / "jobs"
        )


@pytest.mark.parametrize("own", [True, False], ids=["ours", "anothers"])
def test_a_process_of_this_machine_is_ended(folder: Path, own: bool, monkeypatch: Any) -> None:
    """One that this process started, and one that only its number is known of."""
    monkeypatch.setattr(tickets, "_GRACE", 0.1)
    script = "import subprocess; c = subprocess.Popen(['sleep', '50']); print(c.pid, flush=True); c.wait()"
    command = ["sleep", "50"] if own else [sys.executable, "-c", script]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    number = child.pid if own else int(child.stdout.readline())
    if own:
        STARTED[number] = child
    asked = json.loads((folder / "ticket.json").read_text())
    (folder / "ticket.json").write_text(
        json.dumps({**asked, "cluster": "local", "job": str(number)})
    )
    found = Ticket.open(folder)
    try:
        assert found.state == "RUNNING"
        start = time.monotonic()
        with pytest.raises(NeurocompileError, match="was lost"):
            neurocompile.fetch(found, cancel=True, wait=True)
        assert time.monotonic() - start < 20
    finally:
        STARTED.pop(number, None)
        child.kill()
        child.wait()
