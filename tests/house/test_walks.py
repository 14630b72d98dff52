"""docs/new_frontend.md and docs/new_backend.md, executed: their packages installed, their last code run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import small

import neurocompile
from neurocompile import backends
from neurocompile.errors import NeurocompileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

DOCS = Path(__file__).parents[2] / "docs"
if not DOCS.is_dir():
    pytest.skip("an installed wheel has no docs", allow_module_level=True)

HEAD = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
MODEL, X = "model.onnx", np.random.default_rng(0).random((3, 4), dtype=np.float32)
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
    onnx.save(small(), tmp_path / "model.onnx")
    assert used.count("assert") >= 3
    done = run(used, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> neurocompile.Program:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(small(), path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return neurocompile.compile(path)


WRONG = """
from stepper import Run, Stepper as Right
class Stepper(Right):
    def open(self, circuit):
        return Wrong(circuit)
class Wrong(Run):
    def run(self, x, record=None):
        trace = super().run(x, record)
        name = max(trace)
        {what}
        return trace
"""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("trace[name] = trace[name][:, :1]", "gives '.*' as .*is needed"),
        ("trace[name] = trace[name] * 0.5", "gives .*; integers are needed"),
        ("del trace[name]", "gives no trace of population"),
        ("raise OSError('the board is off')", "fails: OSError: the board is off"),
        ("trace[name] = 1 - trace[name]", ""),
    ],
)
def test_what_a_backend_gives_is_checked(what, said, program, tmp_path, monkeypatch) -> None:
    """Another type, shape or set of populations is NC4009; other integers are parity's to find."""
    installed("new_backend.md", tmp_path)
    (tmp_path / "wrong.py").write_text(WRONG.format(what=what))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("stepper", "wrong"):
        sys.modules.pop(name, None)
    entry = EntryPoint("stepper", "wrong:Stepper", backends.GROUP)
    monkeypatch.setattr(backends, "entry_points", lambda group: [entry])
    assert backends.backend_names() == (*backends.BACKENDS, "stepper")
    x = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    if not said:
        found = program.parity(x, against=("stepper",))
        assert not found.exact
        return
    with pytest.raises(NeurocompileError, match=f"NC4009 backend 'stepper' {said}"):
        program.run(x, backend="stepper")


def test_a_backend_that_does_not_load_is_named(monkeypatch) -> None:
    entries = [EntryPoint("broken", "nowhere_at_all:it", backends.GROUP)]
    entries.append(EntryPoint("lava", "nowhere_at_all:it", backends.GROUP))  # ours stays ours
    monkeypatch.setattr(backends, "entry_points", lambda group: entries)
    with pytest.raises(NeurocompileError, match="NC4009 backend 'broken' .*does not load: Module"):
        backends.get_backend("broken")
    assert backends.get_backend("emulator").name == "emulator"
    with pytest.raises(NeurocompileError, match="NC4005 there is no backend 'x'; .*loihi, broken"):
        backends.get_backend("x")
