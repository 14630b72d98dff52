"""Compiled loops run as Python too, and machine code gives the same integers as they do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from backends.test_plan import random_case

from neurocompile.backends.emulator import Emulator

SEEDS = range(24)


def digests() -> list[str]:
    """Of every population of random circuits."""
    found = []
    for seed in SEEDS:
        circuit, x = random_case(seed, 1 + seed % 3, samples=1)
        trace = Emulator(1).open(circuit).run(x)
        octets = b"".join(trace[name].tobytes() for name in sorted(trace))
        found.append(hashlib.sha256(octets).hexdigest())
    return found


@pytest.mark.slow
def test_compiled_loops_are_their_python() -> None:
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("nothing is compiled")
    here = Path(__file__).parent
    command = f"import sys; sys.path[:0] = [{str(here)!r}]; import conftest; "
    command += "import test_plain_kernels as t; print('\\n'.join(t.digests()))"
    plain = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert plain.returncode == 0, plain.stderr[-2000:]
    assert plain.stdout.split() == digests()
