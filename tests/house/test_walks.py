"""docs/new_frontend.md and docs/new_backend.md, executed: their packages installed, their last code run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

DOCS = Path(__file__).parents[2] / "docs"
MODEL = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits" / "qkformer.onnx"
if not DOCS.is_dir():
    pytest.skip("an installed wheel has no docs", allow_module_level=True)

HEAD = f"""
import warnings
warnings.simplefilter("ignore")
import numpy as np
MODEL, X = {str(MODEL)!r}, np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
"""


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def installed(page: str, folder: Path) -> str:
    """The page's package, as pip leaves one; the code that uses it."""
    text = (DOCS / page).read_text(encoding="utf-8")
    project = tomllib.loads(*blocks(text, "toml"))["project"]
    module, used = blocks(text, "python")
    (folder / f"{project['name']}.py").write_text(module)
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return used


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(DOCS.parent)])}
    command = [sys.executable, "-c", HEAD + code]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("page", ["new_frontend.md", "new_backend.md"])
def test_the_page_works_as_written(page: str, tmp_path: Path) -> None:
    used = installed(page, tmp_path)
    assert used.count("assert") >= 3
    done = run(used, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
