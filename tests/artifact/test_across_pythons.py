"""The same model gives the same bytes under every supported Python, but for the member that names
the Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.10", "3.11", "3.12")
BUILD = (
    "import sys, neurocompile as n; n.compile(sys.argv[1], target='loihi2', T=4).save(sys.argv[2])"
)


def interpreter(version: str) -> str | None:
    """Path of a Python of that version: what uv finds, or one of pyenv's."""
    found = subprocess.run(
        ["uv", "python", "find", version],
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | {"UV_PYTHON_DOWNLOADS": "never"},
    )
    if found.returncode == 0:
        return found.stdout.strip()
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(p) for p in sorted(root.glob(f"{version}.*/bin/python"))), None)


def build(python: str, model: Path, path: Path) -> dict[str, bytes]:
    """Members of the artifact that ``python`` builds, in an environment of its own."""
    command = [
        "uv",
        "run",
        "--quiet",
        "--isolated",
        "--frozen",
        "--no-dev",
        "--python",
        python,
        "python",
        "-c",
        BUILD,
    ]
    environment = {
        k: v
        for k, v in os.environ.items()
        if k not in ("VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT")
    }
    try:
        done = subprocess.run(
            [*command, str(model), str(path)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"no environment for {python} within ten minutes")
    if done.returncode and "neurocompile" not in done.stderr:
        pytest.skip(f"uv cannot make an environment for {python}: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_every_member_but_versions_is_identical_under_every_python(digits_model, tmp_path):
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    pythons = {v: path for v in VERSIONS if (path := interpreter(v))}
    if len(pythons) < 2:
        pytest.skip(f"only Python {', '.join(pythons) or 'none'} of {', '.join(VERSIONS)} is here")
    built = {v: build(path, digits_model, tmp_path / f"{v}.nca") for v, path in pythons.items()}
    for version, members in built.items():
        assert json.loads(members["versions.json"])["versions"]["python"].startswith(version)
    for a, b in combinations(built, 2):
        assert list(built[a]) == list(built[b])
        assert [name for name in built[a] if built[a][name] != built[b][name]] == ["versions.json"]
