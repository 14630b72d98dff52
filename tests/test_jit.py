"""Kernels compile wherever neurocompile is installed: no cache costs time, never a result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = """
import sys
from neurocompile.jit import cached_njit, not_kept

@cached_njit(nogil=True)
def double(x):
    return 2 * x

assert double(21) == 42
print(not_kept() or "kept")
"""


def run(script: Path, **changes: str) -> str:
    """What the script prints, with ``changes`` to the environment."""
    env = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    root = str(Path(__file__).parents[1])
    env |= {"PYTHONPATH": root, **changes}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import runpy, sys; sys.path.insert(0, {str(script.parent)!r}); import {script.stem}",
        ],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def script(tmp_path) -> Path:
    (tmp_path / "kernels_of_a_test.py").write_text(SOURCE)
    return tmp_path / "kernels_of_a_test.py"


def test_where_nothing_can_be_written_kernels_are_compiled_anew(script, tmp_path):
    (tmp_path / "__pycache__").write_text("a file in the cache's place")
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    said = run(script, HOME=str(nowhere), PYTHONDONTWRITEBYTECODE="1")
    assert "cannot cache function" in said


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_cache_is_no_cache(suffix, script, tmp_path):
    cache = tmp_path / "cache"
    assert run(script, NUMBA_CACHE_DIR=str(cache)) == "kept"
    files = list(cache.rglob(f"*{suffix}"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert run(script, NUMBA_CACHE_DIR=str(cache)) != ""
    assert run(script, NUMBA_CACHE_DIR=str(cache)) != ""


def test_what_a_kernel_imports_is_part_of_its_key(tmp_path):
    """numba keeps a kernel by its own file; a helper, an intrinsic or a number of another one is
    compiled into it."""
    package = tmp_path / "kernels_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("from kernels_of_a_test import outer\n")
    (package / "outer.py").write_text(
        "from neurocompile.jit import cached_njit\n"
        "from kernels_of_a_test.inner import helper\n"
        "@cached_njit()\ndef outer(x):\n    return helper(x)\n"
        "print(outer(2), sum(outer.stats.cache_hits.values()))\n"
    )
    (package / "inner.py").write_text(
        "from numba import njit\nfrom kernels_of_a_test import numbers\nFACTOR = numbers.FACTOR\n"
        "@njit\ndef helper(x):\n    return FACTOR * x\n"
    )
    for factor, said in ((21, "42 0"), (21, "42 1"), (5_000, "10000 0")):
        numbers = package / "numbers.py"
        if not numbers.exists() or numbers.read_text() != f"FACTOR = {factor}\n":
            numbers.write_text(f"FACTOR = {factor}\n")
        assert run(package, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == said
