"""The walks of docs/ run: every Python block in order, in one namespace, and what they print is what
the page shows.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
import types
import warnings
from importlib import resources
from pathlib import Path

import pytest

import neurocompile.pipeline  # noqa: F401 (every table is there)
from neurocompile.calibration import calibration_from_weights
from neurocompile.ir import spiking as s
from neurocompile.ir.tables import tables
from neurocompile.options import BuildOptions
from neurocompile.pass_order import all_passes
from neurocompile.targets import load_target

DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("an installed wheel has no docs", allow_module_level=True)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)


@pytest.fixture(autouse=True)
def restored():
    """Kinds and rules that a page registers are gone after it."""
    kinds, entries = dict(s.KINDS), {table.name: dict(table.entries) for table in tables()}
    yield
    s.KINDS.clear()
    s.KINDS.update(kinds)
    for table in tables():
        table.entries.clear()
        table.entries.update(entries.get(table.name, {}))


def walk(page: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a page; what its blocks printed. A ``text`` block is what the block before it prints."""
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    module = types.ModuleType("walk")
    monkeypatch.setitem(sys.modules, "walk", module)  # dataclasses look their module up
    printed = []
    for number, (kind, code) in enumerate(blocks):
        if kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(code, f"{page}, block {number}", "exec"), vars(module))
            printed.append(out.getvalue())
        elif kind == "text":
            assert printed[-1].strip() == code.strip(), f"{page}, block {number}"
    return printed


def test_an_operator_is_added_as_the_page_says(monkeypatch) -> None:
    printed = walk("new_operator.md", monkeypatch)
    assert "logits of the circuit are those of the definition" in printed[-1]
    assert "Upsample" in s.KINDS


def test_a_pass_is_added_as_the_page_says(monkeypatch) -> None:
    assert len(walk("new_pass.md", monkeypatch)) == 3


@pytest.mark.slow
def test_a_wrong_result_is_found_as_the_page_says(tmp_path, monkeypatch) -> None:
    zoo = resources.files("neurocompile.models") / "zoo" / "qkformer_digits"
    shutil.copy(str(zoo / "qkformer.onnx"), tmp_path / "model.onnx")
    shutil.copy(str(zoo / "test.npz"), tmp_path / "x.npz")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        printed = walk("bisect.md", monkeypatch)
    assert printed[0].count("\n") == 4 and "cores at least" in printed[-1]


def test_the_passes_that_the_pages_name_are_there() -> None:
    target = load_target("loihi2")
    known = all_passes(BuildOptions().settled(4, target), target, calibration_from_weights(4))
    named = set()
    for page in DOCS.glob("*.md"):
        for given in re.findall(r"--passes ([\w,-]+)", page.read_text(encoding="utf-8")):
            named.update(given.split(","))
    assert named and named <= {one.name for one in known}
