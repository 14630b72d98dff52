"""Line and branch coverage of ``neurocompile/``: ``python tools/measure_coverage.py --jobs N``.

Runs the default suite (``--slow``: the slow tests too) under ``coverage``, child processes and
workers included, also those that end by ``os._exit``, and beside it the tests of the compiled
kernels once more with NUMBA_DISABLE_JIT=1, for compiled code leaves no trace. Both count together.
Needs ``coverage`` and pytest-xdist. Prints one line a package, the total, and the files with the
most lines missing; ``--json FILE`` keeps all. What is not done at ``--deadline`` is stopped, and
what ran counts. Exit code 1 below ``--lines`` or ``--branches`` (per cent). Tests that fail under
the tracer (those that watch a process's files or times) are counted in the output and change
nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
# what runs compiled loops on small sizes; without the compiler they take minutes, not hours
KERNEL_TESTS = (
    "tests/backends/test_emulator.py",
    "tests/backends/test_plan.py",
    "tests/ir/test_quick.py",
    "tests/mapping/test_cost_laws.py",
    "tests/mapping/test_map_circuit.py",
    "tests/mapping/test_refine_laws.py",
    "tests/images/test_small_machine.py",
    "tests/images/test_core_images.py",
    "tests/energy/test_mesh.py",
    "tests/energy/test_energy_arrivals.py",
    "tests/passes/test_compensated_rounding.py::test_whole_numbers_in_range_with_less_noise",
    "tests/passes/test_compensated_rounding.py::test_independent_inputs_are_rounded_to_the_nearest",
    "tests/gpu/test_exact.py",
    "tests/gpu/test_floats.py",
)
PURE = {
    "NUMBA_DISABLE_JIT": "1",
    "TRITON_INTERPRET": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}
# in every process that the tests start, whatever the version of coverage
START = "import coverage\ncoverage.process_startup()\n"
# xdist kills a worker that takes ten seconds to end, and what a killed process saw is lost: each
# writes while it works, and before it says that it is done
SAVE = """import time

import coverage

EACH = 60.0
last = [time.monotonic()]


def save():
    found = coverage.Coverage.current()
    if found is not None:
        found.save()
    last[0] = time.monotonic()


def pytest_runtest_logfinish():
    if time.monotonic() - last[0] > EACH:
        save()


def pytest_sessionfinish():
    save()
"""
CONFIGURATION = """[run]
branch = true
parallel = true
concurrency = multiprocessing,thread
sigterm = true
patch = _exit
source = {root}/neurocompile
data_file = {out}/data
omit =
    {root}/neurocompile/lanes.py
[report]
exclude_also =
    if TYPE_CHECKING:
    \\.\\.\\.$
    raise NotImplementedError
    raise AssertionError
    if __name__ == .__main__.
"""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--out", type=Path, default=ROOT / ".coverage_run")
    parser.add_argument("--slow", action="store_true", help="the tests marked slow too")
    parser.add_argument("--lines", type=float, default=0, help="least per cent of lines")
    parser.add_argument("--branches", type=float, default=0, help="least per cent of branches")
    parser.add_argument("--json", type=Path, help="write coverage's own JSON here")
    parser.add_argument("--limit", type=int, default=120, help="seconds a kernel test may take")
    parser.add_argument("--deadline", type=float, help="seconds after which tests are stopped")
    parser.add_argument("tests", nargs="*", help="these tests alone, without the kernels' run")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("data*"):
        old.unlink()
    shutil.rmtree(out / "numba", ignore_errors=True)
    (out / "start").mkdir(exist_ok=True)
    (out / "start" / "sitecustomize.py").write_text(START)
    (out / "start" / "save_coverage.py").write_text(SAVE)
    (out / "coveragerc").write_text(CONFIGURATION.format(root=ROOT, out=out))
    common = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "save_coverage"]
    common += ["--tb=line", "--dist=worksteal"]
    few = 0 if given.tests or given.jobs < 2 else max(given.jobs // 5, 1)
    runs = {"suite": start(out, "suite", [*common, "-n", str(given.jobs - few), *given.tests], {})}
    if not given.tests:
        kernels = ["--slow", "-n", str(few or 1), f"--timeout={given.limit}", *KERNEL_TESTS]
        runs["kernels"] = start(out, "kernels", [*common, *kernels], PURE)
    if given.slow and not given.tests:  # in what the others leave idle
        slow = ["-n", str(max(given.jobs // 2, 1)), "--slow", "-m", "slow and not nightly"]
        runs["slow"] = start(out, "slow", [*common, *slow], {}, nice=15)
    finish(out, runs, given.deadline)
    return report(out, given)


def start(
    out: Path, name: str, arguments: list[str], more: dict[str, str], nice: int = 0
) -> subprocess.Popen[bytes]:
    """pytest with ``arguments`` below the tracer, in a session of its own; it prints to a file."""
    paths = [str(out / "start"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | more | {"COVERAGE_PROCESS_START": str(out / "coveragerc")}
    # compiled anew, for what writes machine code is code of ours too
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "NUMBA_CACHE_DIR": str(out / "numba")}
    environment["CI"] = "1"
    with (out / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            ["nice", "-n", str(nice), sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(out: Path, runs: dict[str, subprocess.Popen[bytes]], deadline: float | None) -> None:
    """Wait; stop what is late (each process writes what it has); print what failed."""
    end = time.monotonic() + (deadline or float("inf"))
    while any(each.poll() is None for each in runs.values()) and time.monotonic() < end:
        time.sleep(0.5)
    for name, process in runs.items():
        if process.poll() is None:
            print(f"{name}: stopped after {deadline:g} s", flush=True)
            os.killpg(process.pid, signal.SIGTERM)
        else:
            print(f"{name}: ended by itself", flush=True)
    for name, process in runs.items():
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = (out / f"{name}.log").read_text(errors="replace").splitlines()
        for line in [*(x for x in lines if x.startswith("FAILED"))][:40] + lines[-1:]:
            print(f"{name}: {line}", flush=True)


def report(out: Path, given: argparse.Namespace) -> int:
    """Combine what every process left, print it, and judge it."""
    tool = [sys.executable, "-m", "coverage"]
    rc = f"--rcfile={out / 'coveragerc'}"
    subprocess.run([*tool, "combine", "-q", rc], cwd=ROOT, check=True)
    file = given.json or out / "coverage.json"
    subprocess.run([*tool, "json", "-q", rc, "-o", str(file)], cwd=ROOT, check=True)
    found = json.loads(file.read_text())
    packages: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    missing = []
    for path, entry in found["files"].items():
        parts = Path(path).parts
        start = parts.index("neurocompile")
        package = parts[start + 1] if len(parts) > start + 2 else "(top)"
        counts = counts_of(entry["summary"])
        packages[package] = [a + b for a, b in zip(packages[package], counts)]
        lost = counts[1] - counts[0]
        missing.append((lost, "/".join(parts[start:]), entry["missing_lines"][:12]))
    print(f"{'package':14} {'lines':>7} {'':>7} {'branches':>9}")
    for package in sorted(packages):
        print(row(package, packages[package]))
    total = [sum(each) for each in zip(*packages.values())]
    print(row("all", total))
    for lost, path, lines in sorted(missing, reverse=True)[:40]:
        print(f"  {lost:4} lines missing in {path}: {lines}")
    enough = share(*total[:2]) >= given.lines and share(*total[2:]) >= given.branches
    return 0 if enough else 1


def counts_of(summary: dict[str, int]) -> list[int]:
    """Lines covered, lines; branches covered, branches."""
    return [
        summary["covered_lines"],
        summary["num_statements"],
        summary["covered_branches"],
        summary["num_branches"],
    ]


def share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 100.0


def row(name: str, counts: list[int]) -> str:
    lines, branches = share(*counts[:2]), share(*counts[2:])
    return f"{name:14} {lines:6.1f} % of {counts[1]:5} {branches:6.1f} % of {counts[3]:5}"


if __name__ == "__main__":
    sys.exit(main())
