"""Jobs of a real Slurm: a slurmctld and a slurmd of this machine, started here and ended again.

apt-get install slurm-wlm
pytest --slow --nightly -n 0 tests/submission/test_slurm.py
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurocompile
from neurocompile.cli import main
from neurocompile.errors import NeurocompileError
from neurocompile.program import Program

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
JOB_ENVIRONMENT = {"SLURM": "1", "LOIHI_GEN": "N3B3", "PARTITION": "loihi"}
DAEMONS = [shutil.which(n) or shutil.which(f"/usr/sbin/{n}") for n in ("slurmctld", "slurmd")]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=other Nodes={host} Default=YES MaxTime=5 State=UP
PartitionName=loihi Nodes={host} MaxTime=60 State=UP
"""


Small = tuple[Program, np.ndarray]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the node; SLURM_CONF is set."""
    if None in DAEMONS or shutil.which("sbatch") is None:
        pytest.skip("no Slurm here (apt-get install slurm-wlm)")
    pytest.importorskip("submitit")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(
        host=host, user=getpass.getuser(), ports=_free_ports(2), folder=folder
    )
    (folder / "slurm.conf").write_text(text)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    with open(folder / "daemons.log", "w") as log:
        daemons = [
            subprocess.Popen([str(program), "-D"], stdout=log, stderr=log) for program in DAEMONS
        ]
    try:
        for _ in range(300):
            found = subprocess.run(
                ["sinfo", "-h", "-p", "loihi", "-o", "%T"], capture_output=True, text=True
            )
            if found.stdout.strip() == "idle":
                break
            time.sleep(0.2)
        else:
            logs = "\n".join(path.read_text()[-800:] for path in folder.glob("*.log"))
            pytest.fail(f"Slurm does not come up: {found.stdout} {found.stderr}\n{logs}")
        yield host
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(20)
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)


@pytest.fixture
def small(digits_program: Program, digits_data: Any) -> Small:
    return digits_program, digits_data.x[:3]


def command_line(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard output."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0), capfd.readouterr().out


def test_a_job_gives_what_a_run_gives(slurm: str, tmp_path: Path, small: Small) -> None:
    program, x = small
    ticket = neurocompile.submit(
        program, x, partition="loihi", time=3, rasters=True, folder=tmp_path
    )
    assert ticket.state in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "done")
    found, wanted = ticket.wait().result(), program.run(x, rasters=True)
    np.testing.assert_array_equal(found.logits, wanted.logits)
    assert found.spikes == wanted.spikes and found.neuron_steps == wanted.neuron_steps
    for layer, raster in wanted.rasters.items():
        np.testing.assert_array_equal(found.rasters[layer], raster)
    np.testing.assert_array_equal(neurocompile.fetch(ticket.folder).logits, wanted.logits)


def test_the_dry_run_is_the_script(
    slurm: str, tmp_path: Path, small: Small, capfd: pytest.CaptureFixture[str]
) -> None:
    program, x = small
    program.save(tmp_path / "net.nca")
    np.savez(tmp_path / "x.npz", x=x)
    options = ["--partition", "loihi", "--time", "7", "--sbatch", "comment=lab"]
    options += ["--folder", str(tmp_path / "jobs")]
    files = ["submit", str(tmp_path / "net.nca"), "--input", str(tmp_path / "x.npz"), *options]
    code, shown = command_line(capfd, *files, "--dry-run")
    assert code == 0
    code, told = command_line(capfd, *files)
    assert code == 0 and f"on {slurm}" in told, told
    (submitted,) = (tmp_path / "jobs").glob("*/slurm/*_submission.sh")
    own = submitted.parents[1].name
    assert submitted.read_text().strip() == shown.replace("/jobs/JOB/", f"/jobs/{own}/").strip()
    assert "#SBATCH --partition=loihi" in shown and "#SBATCH --comment=lab" in shown


def test_lavas_variables_reach_the_node(slurm: str, tmp_path: Path, small: Small) -> None:
    """Intel's extension is not there, so the job says so; its environment is the one that Lava reads."""
    program, x = small
    ticket = neurocompile.submit(
        program, x, partition="loihi", backend="loihi", time=2, folder=tmp_path
    )
    with pytest.raises(NeurocompileError, match="lava-loihi") as missing:
        ticket.wait().result()
    assert missing.value.code == "NC4002" and ticket.state == "failed"
    script = next(ticket.logs.glob("*_submission.sh")).read_text()
    job = f"{script.split('# command')[0]}\nenv > {tmp_path}/environment\n"
    (tmp_path / "job.sh").write_text(job)
    subprocess.run(["sbatch", "--wait", str(tmp_path / "job.sh")], check=True, capture_output=True)
    held = dict(
        line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines()
    )
    assert {k: held[k] for k in JOB_ENVIRONMENT} == JOB_ENVIRONMENT
    assert held["SLURM_JOB_PARTITION"] == "loihi"


def test_what_slurm_refuses_is_one_line(slurm: str, tmp_path: Path, small: Small) -> None:
    program, x = small
    for options in ({"partition": "nowhere"}, {"partition": "loihi", "board": "nowhere"}):
        with pytest.raises(NeurocompileError) as refused:
            neurocompile.submit(program, x, folder=tmp_path, **options)
        assert refused.value.code == "NC4013" and "\n" not in refused.value.message
    assert not list(tmp_path.iterdir())


def test_a_sweep_over_dask(slurm: str, digits_model: Path, digits_data: Any) -> None:
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    x, y = digits_data.x[:20], digits_data.y[:20]
    asked: dict[str, Any] = {"data": x, "labels": y, "timesteps": (1, 2), "calibration": x}
    asked |= {"place": False, "jobs": 1}
    where = {"queue": "loihi", "walltime": "00:05:00", "memory": "1GB", "interface": "lo"}
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in where.items()}):
        found = neurocompile.sweep(digits_model, cluster="slurm", **asked)
    here = neurocompile.sweep(digits_model, **asked)
    assert [p.evaluation for p in found] == [p.evaluation for p in here]


def test_a_job_that_is_cancelled_is_lost(
    slurm: str, tmp_path: Path, small: Small, capfd: pytest.CaptureFixture[str]
) -> None:
    program, x = small
    first = neurocompile.submit(program, x, time=2, partition="loihi", folder=tmp_path)
    later = ("begin=now+1hour",)
    held = neurocompile.submit(program, x, time=2, partition="loihi", sbatch=later, folder=tmp_path)
    assert held.state == "PENDING"
    code, told = command_line(capfd, "fetch", str(held.folder))
    assert code == 1 and re.search("PENDING", told)
    with pytest.raises(NeurocompileError, match="is PENDING") as early:
        held.result()
    assert early.value.code == "NC4015"
    with pytest.raises(NeurocompileError, match="was lost"):
        neurocompile.fetch(held, cancel=True, wait=True)
    assert len(first.wait().result().logits) == len(x)
