"""Nothing of a user's model is written anywhere but where the user said."""

from __future__ import annotations

import os
import subprocess
import sys


def test_onnxruntime_queues_no_telemetry_below_the_users_home(digits_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys, numpy as np\n"
        "from neurocompile.pipeline import import_model, _check_import\n"
        "from neurocompile.reference.runtime import runtime\n"
        "loaded, imported = import_model(sys.argv[1], 4)\n"
        "_check_import(loaded, imported, None, np.zeros((1, 1, 8, 8), np.float32))\n"
        "assert runtime().__name__ == 'onnxruntime'\n"
    )
    dropped = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    env = {k: v for k, v in os.environ.items() if k not in dropped} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", code, digits_model], env=env, check=True)
    left = [p for p in home.rglob("*") if p.is_file() and "onnxruntime" in str(p).lower()]
    assert not left
