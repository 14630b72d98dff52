"""Outputs are whole or not there: kill -9 at random moments of commands that write, a full disk, a
folder that may not be written.

One process has everything imported and compiled; each trial is a fork of it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx_cases import small

import neurocompile
from neurocompile.reference.isolated import IN_PROCESS

pytestmark = pytest.mark.slow
if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

RUNNER = """
import json, os, resource, signal, sys, time, warnings
sys.path = [p for p in sys.path if p]
warnings.simplefilter("ignore")
from neurocompile.cli import main

def trial(job):
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1), os.dup2(null, 2)
    if job.get("bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["bytes"], job["bytes"]))
    if job.get("nobody") and os.getuid() == 0:
        os.setuid(65534)
    try:
        main(job["argv"])
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(0)

for line in sys.stdin:
    job = json.loads(line)
    if job.get("here"):  # what it imports and compiles, later forks have
        try:
            with open(os.devnull, "w") as sys.stdout:
                main(job["argv"])
        except SystemExit as end:
            sys.stdout = sys.__stdout__
            print(json.dumps([end.code, 0.0]), flush=True)
        continue
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        trial(job)
    if "delay" in job:
        time.sleep(job["delay"])
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, time.perf_counter() - begin]), flush=True)
"""


class Runner:
    def __init__(self) -> None:
        root = str(Path(neurocompile.__file__).parents[1])
        env = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", IN_PROCESS: "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root, **env},
        )

    def __call__(self, *argv: object, **job: object) -> tuple[int, float]:
        """(exit status, seconds) of one command; -9 if it was killed after ``delay`` seconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"argv": list(map(str, argv)), **job}) + "\n")
        self.process.stdin.flush()
        status, seconds = json.loads(self.process.stdout.readline())
        return status, seconds


@pytest.fixture(scope="module")
def run() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.process.kill()
    runner.process.wait()


@pytest.fixture(scope="module")
def artifact(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    onnx.save(small(), folder / "m.onnx")
    made = folder / "m.nca"
    assert run("build", folder / "m.onnx", "-o", made, here=True)[0] == 0
    for name, form in FORMS.items():
        run(*command(name, made, folder / form), here=True)
    return made


def command(name: str, artifact: Path, out: Path) -> tuple[object, ...]:
    return {
        "build": ("build", artifact.with_suffix(".onnx"), "-o", out),
        "report": ("report", artifact, "-o", out),
        "plot": ("plot", artifact, "--kind", "cores", "-o", out),
        "export": ("export", "cores", artifact, "-o", out),
    }[name]


FORMS = {"build": "a.nca", "report": "a.html", "plot": "a.png", "export": "a.cores"}
NEEDS = {"report": "jinja2", "plot": "matplotlib"}


@pytest.mark.parametrize("name", FORMS)
def test_a_killed_command_leaves_all_or_nothing(
    name: str, run: Runner, artifact: Path, tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS.get(name, "numpy"))
    out, old = tmp_path / FORMS[name], b"what was there before"
    argv = command(name, artifact, out)
    assert run(*argv)[0] == 0
    whole = out.read_bytes()
    status, seconds = run(*argv)
    assert status == 0 and out.read_bytes() == whole
    moments, seen = random.Random(name), set()
    for trial in range(60 if name == "build" else 20):
        out.unlink()
        if trial % 2:
            out.write_bytes(old)
        # most of what can go wrong lies at the end, where files are written
        part = moments.random() if trial % 3 else moments.uniform(0.8, 1.2)
        status, _ = run(*argv, delay=part * seconds)
        assert status in (0, -9)
        found = out.read_bytes() if out.exists() else None
        assert found == whole or found == (old if trial % 2 else None), (trial, part)
        assert status or found == whole
        seen.add(found == whole)
        if found is None:
            out.touch()
    assert False in seen
    assert run(*argv)[0] == 0 and out.read_bytes() == whole
    left = {p.name for p in tmp_path.iterdir()} - {out.name}
    assert all(p.startswith(f".{out.name}.") and p.endswith(".part") for p in left)


@pytest.mark.parametrize("name", FORMS)
def test_a_full_disk_is_said_and_nothing_is_left(
    name: str, run: Runner, artifact: Path, tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS.get(name, "numpy"))
    out = tmp_path / FORMS[name]
    argv = command(name, artifact, out)
    assert run(*argv)[0] == 0
    whole = out.read_bytes()
    assert run(*argv, bytes=len(whole) // 2)[0] == 2
    assert out.read_bytes() == whole and [*tmp_path.iterdir()] == [out]


@pytest.mark.parametrize("name", FORMS)
def test_a_folder_that_may_not_be_written_is_said(
    name: str, run: Runner, artifact: Path, tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS.get(name, "numpy"))
    folder = tmp_path / "closed"
    folder.mkdir()
    for path in (folder, *artifact.parents):  # nobody reads the model, and writes nothing
        if path.is_relative_to(tmp_path.parents[1]):
            path.chmod(0o555 if path == folder else 0o755)
    for path in artifact.parent.iterdir():
        path.chmod(0o644)
    try:
        assert run(*command(name, artifact, folder / FORMS[name]), nobody=True)[0] == 2
        assert not [*folder.iterdir()]
    finally:
        folder.chmod(0o755)
