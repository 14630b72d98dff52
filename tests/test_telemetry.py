"""Nothing of a user's model is written anywhere but where the user said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import neurocompile

PACKAGE = Path(neurocompile.__file__).parent


def test_onnxruntime_queues_no_telemetry_below_the_users_home(digits_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys, pathlib, numpy as np\n"
        "from neurocompile.reference.runtime import open_session\n"
        "session = open_session(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "session.run(None, {session.get_inputs()[0].name: np.zeros((2, 1, 8, 8), np.float32)})\n"
    )
    dropped = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    env = {k: v for k, v in os.environ.items() if k not in dropped} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", code, digits_model], env=env, check=True)
    left = [p for p in home.rglob("*") if p.is_file() and "onnxruntime" in str(p).lower()]
    assert not left


def test_onnxruntime_is_imported_in_one_place_alone():
    pattern = re.compile(r"^\s*(import onnxruntime|from onnxruntime)", re.M)
    importers = [p for p in PACKAGE.rglob("*.py") if pattern.search(p.read_text("utf-8"))]
    assert [p.relative_to(PACKAGE).as_posix() for p in importers] == ["reference/runtime.py"]
