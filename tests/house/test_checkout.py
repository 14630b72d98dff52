"""A checkout needs no installation, and never answers with another one's models or targets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neurocompile

ROOT = Path(neurocompile.__file__).parent.parent

pytestmark = pytest.mark.skipif(
    not (ROOT / "hw_targets").is_dir(), reason="an installed wheel, no checkout"
)


FOLDERS = {p.name for p in (ROOT / "neurocompile").iterdir() if p.is_dir()} - {"targets"}
"""Of the package, which this test needs not."""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another checkout, with a target and a package of models of its own."""
    only = shutil.ignore_patterns("__pycache__", *FOLDERS)
    shutil.copytree(ROOT / "neurocompile", tmp_path / "neurocompile", ignore=only)
    shutil.copytree(ROOT / "hw_targets", tmp_path / "hw_targets")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    text = (tmp_path / "hw_targets" / "loihi2.yaml").read_text()
    own = text.replace("name: loihi2", "name: of_the_other", 1)
    assert own != text
    (tmp_path / "hw_targets" / "of_the_other.yaml").write_text(own)
    return tmp_path


def _said(code: str, folder: Path, **paths: str) -> str:
    env = {**os.environ, **paths}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_another_checkout_has_its_own_models_and_targets(other: Path) -> None:
    """This one is installed; in the other's folder, the other's are taken."""
    code = "import neurocompile, neurocompile.models as m; print(m.__file__); "
    code += "print(any(t == 'of_the_other' for t in neurocompile.list_targets()))"
    found, listed = _said(code, other).splitlines()
    assert Path(found) == other / "models" / "__init__.py"
    assert listed == "True"


def test_what_a_checkout_lacks_is_not_taken_from_another_one(other: Path) -> None:
    shutil.rmtree(other / "models")
    said = _said("import neurocompile.models", other)
    assert "ModuleNotFoundError: this checkout has no folder" in said
