"""No function has more than 12 ways through it (McCabe), but for those listed with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import neurocompile

ROOT = Path(neurocompile.__file__).parent

_WHOLE = "compiled: numba compiles a function again in each that calls it"
_SEARCH = "compiled: one sweep of a search, its state in local variables"
LISTED = {
    "backends/interpreter.py:run_samples": (18, _WHOLE),
    "backends/interpreter.py:_gated": (21, _WHOLE),
    "backends/interpreter.py:_valued": (16, _WHOLE),
    "backends/interpreter.py:_events": (15, _WHOLE),
    "images/kernels.py:_send": (14, _WHOLE),
    "images/kernels.py:run_steps": (14, _WHOLE),
    "mapping/relaxed_kernels.py:_anneal": (17, _SEARCH),
    "mapping/packing_kernels.py:_lists_fit": (13, _SEARCH),
}
"""Function -> (its number, why). It may only shrink; pyproject.toml has the limit."""


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is a tool of development")
def test_complex_functions_are_listed() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "C901", "--ignore-noqa"]
    command += ["--output-format", "json", "--no-cache", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent, timeout=100)
    found = {}
    for one in json.loads(done.stdout):
        _, name, rest = one["message"].split("`")
        place = Path(one["filename"]).relative_to(ROOT).as_posix()
        found[f"{place}:{name}"] = int(rest.split("(")[1].split()[0])
    assert found == {name: number for name, (number, _) in LISTED.items()}
