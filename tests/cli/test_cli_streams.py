"""Standard streams that are closed or full, seen from a shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")


def shell(command: str, folder) -> tuple[int, str]:
    """(exit code, what stands in err.txt)."""
    code = subprocess.run(["sh", "-c", command], cwd=folder).returncode
    error = folder / "err.txt"
    return code, error.read_text() if error.exists() else ""


@posix
@pytest.mark.parametrize(
    ("redirect", "expected"), [(">&- 2>err.txt", 0), (">out.txt 2>&-", 0), (">&- 2>&- <&-", 0)]
)
def test_a_closed_stream_is_no_error(redirect, expected, tmp_path):
    code, error = shell(f"'{sys.executable}' -m neurocompile targets {redirect}", tmp_path)
    assert code == expected and "NC9001" not in error


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["", " --json"])
def test_a_full_disk_behind_stdout_has_a_code_of_its_own(option, tmp_path):
    command = f"'{sys.executable}' -m neurocompile targets{option} >/dev/full 2>err.txt"
    code, error = shell(command, tmp_path)
    assert code == 2 and error.startswith("error: NC6003") and error.count("\n") == 1
