"""Compiled loops run as Python too, and machine code gives the same integers as they do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends.test_plan import Random

from neurocompile.backends.emulator import Emulator

SEEDS = range(24)


def digests() -> list[str]:
    """Of every population of random circuits."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        growing = Random(rng, steps := 1 + seed % 3)
        for _ in range(int(rng.integers(1, 8))):
            growing.add()
        circuit = growing.finish()
        host = circuit.inputs[0]
        shape = (1, steps, *host.shape) if host.stepwise else (1, *host.shape)
        x = rng.integers(host.low, host.high + 1, shape).astype(np.int32)
        x[rng.random(shape) < rng.choice([0, 0.5, 0.95])] = 0
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
