"""What only a process of its own shows: imports, pipes, Ctrl-C, defects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("numpy", "onnx", "onnxruntime", "numba", "torch", "lava", "matplotlib")
"""Not msgspec: the options of commands are the fields of a struct of it."""


def spawn(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own."""
    command = [sys.executable, "-m", "neurocompile", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["build", "--help"], ["explain", "NC1003"], ["--version"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom neurocompile.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0 and found.stderr == "[]\n"


def test_help_is_fast() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        spawn("--help", check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.6  # 0.2 s on an idle machine


def test_process_has_the_exit_code_and_no_traceback(tmp_path: Path) -> None:
    found = spawn("verify", tmp_path / "absent.nca")
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.startswith("error: NC1001 ") and found.stderr.count("\n") == 1


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "neurocompile", "explain"]
    found = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert found.returncode == 141 and found.stderr == ""


def test_ctrl_c_is_quiet(model: Path, tmp_path: Path) -> None:
    script = (
        # a background job of a shell starts with SIGINT ignored, and its children with it
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import neurocompile.pipeline as pipeline\nfrom neurocompile.cli import main\n"
        "pipeline.compile_model = lambda *_, **__: [print('compiling', file=sys.stderr, flush=True), time.sleep(60)]\n"
        f"main(['build', {str(model)!r}, '-o', 'a.nca'])"
    )
    command = [sys.executable, "-c", script]
    child = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None and child.stderr.readline() == "compiling\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and out == "" and err == "" and not list(tmp_path.iterdir())


def test_a_defect_is_one_line(cli, artifact: Path, data: Path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a line\nand another\x1b[31m")

    monkeypatch.setattr("neurocompile.data.load_samples", broken)
    monkeypatch.delenv("NEUROCOMPILE_TRACEBACK", raising=False)
    found = cli("run", artifact, "--input", data, "--json")
    assert found.code == 2 and found.json["error"]["code"] == "NC9001"
    assert (
        all(line.startswith("error: ") for line in found.err.splitlines())
        and "\x1b" not in found.err
    )
