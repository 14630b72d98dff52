"""The digits model: start-up, build, emulation, and the same network under Lava, as ratios of one
run.

    uv run python benchmarks/bench_digits.py [--runtime-samples 4] [--json]

Emulation and both Lava executions run the same program on the same inputs, one after another on the
same machine; absolute times depend on that machine, the ratios much less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ZOO = Path(__file__).resolve().parents[1] / "models" / "zoo" / "qkformer_digits"


def best(function: Callable[[], Any], repeats: int = 3) -> float:
    """Least wall time of some calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(runtime_samples: int) -> dict[str, float]:
    """Seconds and ratios by name."""
    import neurocompile
    from neurocompile.backends import get_backend
    from neurocompile.backends.encoding import encode

    command = shutil.which("neurocompile") or str(Path(sys.executable).with_name("neurocompile"))
    found = {
        "help, s": best(
            lambda: subprocess.run([command, "--help"], capture_output=True, check=True)
        )
    }
    with tempfile.TemporaryDirectory() as folder:
        build = [
            command,
            "build",
            "--no-cache",
            str(ZOO / "qkformer.onnx"),
            "--target",
            "loihi2",
            "--T",
            "4",
            "-o",
            f"{folder}/d.nca",
        ]
        nothing_compiled = {
            **os.environ,
            "NUMBA_CACHE_DIR": f"{folder}/kernels",
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
        }
        first = best(
            lambda: subprocess.run(build, capture_output=True, check=True, env=nothing_compiled), 1
        )
        found["very first build, no kernel and no bytecode compiled, s"] = first
        found["build, fresh process, s"] = best(
            lambda: subprocess.run(build, capture_output=True, check=True)
        )
        program = neurocompile.load(f"{folder}/d.nca")
    with np.load(ZOO / "test.npz", allow_pickle=False) as data:
        x = encode(program.circuit, data["x"])
    record = [v.src for v in program.circuit.views]
    per_sample = {}
    for name, samples in (
        ("emulator", len(x)),
        ("lava", len(x)),
        ("lava-runtime", runtime_samples),
    ):
        with get_backend(name).open(program.circuit) as executor:
            executor.run(x[:1], record)  # compiled kernels, imports
            seconds = best(
                lambda n=samples: executor.run(x[:n], record), 3 if name == "emulator" else 1
            )
        found[f"{name}, {samples} images, s"] = seconds
        per_sample[name] = seconds / samples
    for name in ("lava", "lava-runtime"):
        found[f"{name} / emulator, time per image"] = per_sample[name] / per_sample["emulator"]
    return found


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runtime-samples", type=int, default=4, help="images for Lava's multi-process runtime"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.runtime_samples)
    if options.json:
        print(json.dumps({k: round(v, 4) for k, v in found.items()}))
        return
    for name, value in found.items():
        print(f"{name:<56} {value:10.3f}")


if __name__ == "__main__":
    main()
