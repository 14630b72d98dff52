"""What build, run and parity ask of the operating system: no network, and no file but the outputs,
the cache of compiled kernels, and what is temporary.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neurocompile

pytestmark = pytest.mark.nightly
STRACE = shutil.which("strace")
CALL = re.compile(r"^\d+ +(\w+)\((.*)")
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")
CODE = """
import sys
from neurocompile.cli import main
for argv in ({commands}):
    try:
        main(argv)
    except SystemExit as end:
        assert not end.code, argv
"""


def quoted(text: str) -> list[str]:
    return re.findall(r'"((?:[^"\\]|\\.)*)"', text)


@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_no_network_and_no_file_elsewhere(digits_model: Path, tmp_path: Path) -> None:
    for name in ("out", "home", "cache", "tmp"):
        (tmp_path / name).mkdir()
    samples = Path(digits_model).with_name("test.npz")
    made, log = tmp_path / "out" / "m.nca", tmp_path / "calls.txt"
    given = ("--input", str(samples), "--samples", "2")
    commands = (
        ["build", str(digits_model), "-o", str(made)],
        ["run", str(made), *given, "-o", str(tmp_path / "out" / "y.npz")],
        ["parity", str(made), *given, "--against", "emulator"],
    )
    root = str(Path(neurocompile.__file__).parents[1])
    places = {
        "HOME": str(tmp_path / "home"),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    kept = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
    env = {**kept, **places, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
    traced = "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,socket,connect,sendto"
    done = subprocess.run(
        [str(STRACE), "-f", "-qq", "-s", "4096", "-e", traced, "-o", str(log)]
        + [sys.executable, "-c", CODE.format(commands=", ".join(map(repr, commands)))],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr and not log.stat().st_size:
        pytest.skip("this system lets nobody trace")
    assert done.returncode == 0, done.stderr
    here = [str(tmp_path / name) for name in ("out", "cache", "tmp")]
    network, elsewhere, seen = [], [], 0
    for line in log.read_text(errors="replace").splitlines():
        found = CALL.match(line)
        if found is None or " = -1 " in line:
            continue
        call, arguments = found.groups()
        if call in ("socket", "connect", "sendto"):
            if "AF_INET" in line or "AF_NETLINK" in line:
                network.append(line)
        elif not call.startswith("open") or WRITES.search(arguments):
            seen += 1
            path = quoted(arguments)[-1]
            harmless = path.startswith(("/dev/null", "/dev/tty", "/dev/shm/", "/proc/self/"))
            if not harmless and not any(path.startswith(f"{place}/") for place in here):
                elsewhere.append(line)
    assert seen, "nothing was traced"
    assert not network
    assert not elsewhere
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]
    assert not [*(tmp_path / "tmp").iterdir()]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["m.nca", "y.npz"]
