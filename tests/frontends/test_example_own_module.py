"""examples/03_your_own_module.py, run as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import neurocompile

EXAMPLE = Path(__file__).parents[2] / "examples" / "03_your_own_module.py"
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"


@pytest.mark.slow
def test_the_example_compiles_a_module_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("spikingjelly")
    pytest.importorskip("lava")
    found = subprocess.run(
        [sys.executable, str(EXAMPLE), "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert float(re.match(r"trained +([\d.]+)%", lines[0])[1]) > 80
    exact = [line.split()[0] for line in lines if " 0 differences from " in line]
    assert exact == ["emulator", "lava"]
    refused = [line.split()[:4] for line in lines if line.startswith("NC")]
    assert refused == [
        ["NC1003", "activation", "SELU", "Selu"],
        ["NC1003", "norm", "UnitLength", "ReduceL2"],
    ]
    assert neurocompile.load(tmp_path / "net.nca").manifest.model == "net"


def test_without_torch_the_example_says_what_to_install() -> None:
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 1 and found.stdout == ""
    assert (
        found.stderr == "this example needs the package torch: pip install 'neurocompile[torch]'\n"
    )
