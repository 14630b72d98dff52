"""Jobs without Slurm: the same code in a process of this machine, and everything before it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurocompile
from neurocompile.cli import main
from neurocompile.errors import NeurocompileError
from neurocompile.program import Program
from neurocompile.submission.job import run_job
from neurocompile.submission.sending import script_of
from neurocompile.submission.ticket import Done, Ticket, write_json

submitit = pytest.importorskip("submitit", reason="the extra slurm is not installed")

ASKED = {"job": "4194304", "cluster": "local", "backend": "emulator"}


def test_a_script_says_all_that_was_asked(tmp_path: Path) -> None:
    script = script_of(
        tmp_path,
        partition="loihi",
        time=30,
        backend="loihi",
        loihi_gen="N3C1",
        sbatch=("account=lab", "mem=8GB"),
    )
    for line in (
        "#SBATCH --partition=loihi",
        "#SBATCH --time=30",
        "#SBATCH --account=lab",
        "#SBATCH --mem=8GB",
        "export SLURM=1",
        "export LOIHI_GEN=N3C1",
        "export PARTITION=loihi",
    ):
        assert line in script.splitlines()
    assert "srun" not in script and str(tmp_path) in script


def test_a_board_takes_the_place_of_a_partition(tmp_path: Path) -> None:
    script = script_of(tmp_path, board="ncl-og-04", backend="loihi").splitlines()
    assert "export BOARD=ncl-og-04" in script and "#SBATCH --nodelist=ncl-og-04" in script
    assert not any(line.startswith("export PARTITION") for line in script)
    assert not any(line.startswith("export") for line in script_of(tmp_path).splitlines()[:-2])


def test_the_dry_run_needs_no_slurm(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["submit", "none.nca", "--input", "x.npz", "--dry-run", "--json", "--time", "3"])
    found = json.loads(capfd.readouterr().out)
    assert not end.value.code and "#SBATCH --time=3" in found["script"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"time": 0},
        {"time": True},
        {"time": "10"},
        {"partition": "a b"},
        {"partition": "a\n#SBATCH --x"},
        {"board": ""},
        {"loihi_gen": "N9"},
        {"cluster": "pbs"},
        {"sbatch": ("mem",)},
        {"sbatch": ("Mem=1",)},
        {"sbatch": ("wrap=a\nb",)},
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(NeurocompileError) as refused:
        script_of(tmp_path, **options)
    assert refused.value.code == "NC1015" and "\n" not in refused.value.message


def _ticket(folder: Path, **changes: Any) -> Path:
    (folder / "ticket.json").write_text(json.dumps({**ASKED, **changes}))
    return folder


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({**ASKED, "more": 1}),
        json.dumps({**ASKED, "job": "-1"}),
        json.dumps({**ASKED, "job": "1; rm"}),
        json.dumps({**ASKED, "cluster": "elsewhere"}),
    ],
)
def test_what_is_no_ticket(tmp_path: Path, content: str) -> None:
    (tmp_path / "ticket.json").write_text(content)
    with pytest.raises(NeurocompileError) as refused:
        Ticket.open(tmp_path)
    assert refused.value.code == "NC4014" and "\n" not in refused.value.message


def test_no_ticket(tmp_path: Path) -> None:
    with pytest.raises(NeurocompileError, match="NC1001"):
        neurocompile.fetch(tmp_path)


def test_results_are_checked(tmp_path: Path) -> None:
    ticket = Ticket.open(_ticket(tmp_path))
    (tmp_path / "done.json").write_text("{")
    with pytest.raises(NeurocompileError, match="NC4014"):
        ticket.result()
    write_json(tmp_path / "done.json", Done())
    for content in (b"", b"PK", np.arange(3).tobytes()):
        (tmp_path / "result.npz").write_bytes(content)
        with pytest.raises(NeurocompileError, match="NC4014"):
            ticket.result()
    np.savez(tmp_path / "result.npz", logits=np.array([object()]), allow_pickle=True)
    with pytest.raises(NeurocompileError, match="NC4014"):
        ticket.result()
    write_json(tmp_path / "done.json", Done(code="NC2002", message="too large"))
    with pytest.raises(NeurocompileError, match="NC2002 too large"):
        neurocompile.fetch(ticket)


def test_a_job_says_what_stops_it(tmp_path: Path) -> None:
    run_job(str(_ticket(tmp_path)))
    ticket = Ticket.open(tmp_path)
    assert ticket.state == "failed"
    with pytest.raises(NeurocompileError, match="NC1001.*program.nca"):
        ticket.result()


def test_a_lost_job_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurocompile.submission.ticket._GRACE", 0.1)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ticket = Ticket.open(_ticket(tmp_path, job=str(child.pid)))
    ticket.logs.mkdir()
    (ticket.logs / "7_0_log.err").write_text("first\nslurmstepd: oom-kill\n")
    with pytest.raises(NeurocompileError, match="was lost: slurmstepd: oom-kill") as lost:
        neurocompile.fetch(ticket, wait=True)
    assert lost.value.code == "NC4015"


@pytest.mark.slow
def test_a_local_job_gives_what_a_run_gives(
    tmp_path: Path, digits_program: Program, digits_data: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    x, y = digits_data.x[:3], digits_data.y[:3]
    wanted = digits_program.run(x, rasters=True)
    ticket = neurocompile.submit(digits_program, x, cluster="local", rasters=True, folder=tmp_path)
    states: list[str] = []
    found = ticket.wait(states.append).result()
    assert states[-1] == "done"
    np.testing.assert_array_equal(found.logits, wanted.logits)
    assert (found.spikes, found.neuron_steps) == (wanted.spikes, wanted.neuron_steps)
    assert (found.banner, found.outside) == (wanted.banner, wanted.outside)
    for layer, raster in wanted.rasters.items():
        np.testing.assert_array_equal(found.rasters[layer], raster)

    digits_program.save(tmp_path / "net.nca")
    np.savez(tmp_path / "x.npz", x=x, y=y)
    asked = ["submit", str(tmp_path / "net.nca"), "--input", str(tmp_path / "x.npz")]
    asked += ["--cluster", "local", "--folder", str(tmp_path), "--json"]
    told = _json(capfd, *asked, "--no-wait")
    assert told["state"] == "submitted" and (tmp_path / told["ticket"] / "x.npz").exists()
    out = tmp_path / "out.npz"
    got = _json(capfd, "fetch", told["ticket"], "--wait", "-o", str(out), "--json")
    assert got["state"] == "done" and got["predictions"] == wanted.predictions.tolist()
    with np.load(out) as file:
        np.testing.assert_array_equal(file["logits"], wanted.logits)
    assert _json(capfd, *asked)["accuracy"] == wanted.accuracy(y)


@pytest.mark.slow
def test_what_cannot_run_is_not_submitted(
    tmp_path: Path, digits_program: Program, digits_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = digits_data.x[:1]
    monkeypatch.setenv("PATH", str(tmp_path))
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (x[:, 0], {}, "NC1006"),
        (x, {"backend": "none"}, "NC4"),
        (x, {"backend": "loihi", "rasters": True}, "NC1015"),
        (x, {}, "NC4013"),
    ]
    for given, options, code in wrong:
        with pytest.raises(NeurocompileError) as refused:
            neurocompile.submit(digits_program, given, folder=tmp_path / "jobs", **options)
        assert refused.value.code.startswith(code)
    assert not list(tmp_path.glob("jobs/*"))


def _json(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    told: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert not end.value.code, told
    return told
