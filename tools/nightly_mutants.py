"""How many planted faults the tests find: ``python tools/nightly_mutants.py --jobs N``.

1. Maps which tests run which line of the six packages (once, with ``coverage``; kept in ``--out``).
2. Plants ``--count`` faults chosen by ``--seed``, one at a time, each in a copy of the checkout, and
   runs the tests that run its line, the quickest first, as many as fit ``--budget`` seconds. A test
   that fails with the fault must pass without it, or it does not count.
3. Prints the share found, a line a package, and every fault that was not found.

Resumable: what was judged stands in ``OUT/log.jsonl`` and is not run again; after ``--deadline``
seconds what runs is stopped and not judged. ``--at FILE:LINE`` tries every fault of a line instead. Compiled code
leaves no trace, so its faults run the tests of whoever imports its file. Exit code 1 below
``--least`` per cent.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from queue import Queue

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mutations import Mutant, mutants  # noqa: E402

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("passes", "ir", "mapping", "backends", "artifact", "theory")
LINKED = ("models", "examples", "docs", "hw_targets", "tools", "benchmarks", "integrations")
COPIED = ("neurocompile", "tests")
COMPILED = frozenset({"kernel", "helper", "njit", "cached_njit", "intrinsic"})
MOST_TESTS = 60
# a pytest plugin: coverage's context is the test, what passed and how long it took is written down
PLUGIN = """import json, os, pytest, coverage
took = open(os.path.join(os.environ["MUTANT_MAP"], f"took.{os.getpid()}"), "a")
spent = {}

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    found = coverage.Coverage.current()
    if found is not None:
        found.switch_context(item.nodeid)
    result = yield
    if found is not None:
        found.switch_context("")
    return result

def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" not in os.environ and os.environ.get("MUTANT_WORKERS"):
        return
    seconds, passed = spent.pop(report.nodeid, (0.0, True))
    spent[report.nodeid] = seconds + report.duration, passed and report.outcome == "passed"
    if report.when == "teardown":
        took.write(json.dumps([report.nodeid, *spent.pop(report.nodeid)]) + "\\n")
        took.flush()
"""
START = "import coverage\ncoverage.process_startup()\n"
CONFIGURATION = """[run]
parallel = true
concurrency = thread
include = {include}
data_file = {out}/data
"""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests a fault")
    parser.add_argument("--deadline", type=float, default=float("inf"))
    parser.add_argument("--least", type=float, default=0, help="per cent that must be found")
    parser.add_argument("--out", type=Path, default=ROOT / ".mutants")
    parser.add_argument("--at", action="append", default=[], metavar="FILE:LINE")
    parser.add_argument("--tests", nargs="*", default=[], help="map (or, with --at, run) these")
    parser.add_argument("--map-only", action="store_true")
    given = parser.parse_args()
    begun = time.monotonic()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if given.at and given.tests:
        cover = Cover({}, {}, given.tests)
    else:
        if not (out / "map.json").exists():
            make_map(out, given)
        cover = Cover.read(out / "map.json")
    if given.map_only:
        return 0
    chosen = at(given.at) if given.at else choose(given.count, given.seed)
    log = out / ("at.jsonl" if given.at else "log.jsonl")
    done = {} if given.at else read(log)
    left = [m for m in chosen if key(*m) not in done]
    if left:
        judge_all(left, cover, log, given, begun + given.deadline)
    done = read(log)
    return summary([done[key(*m)] for m in chosen if key(*m) in done], len(chosen), given.least)


def key(file: str, mutant: Mutant) -> str:
    return f"{file}:{mutant.line}:{mutant.start}: {mutant.what}"


def read(log: Path) -> dict[str, dict]:
    """What was judged so far; a line cut short by an interrupt is not counted."""
    found = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["mutant"]] = entry
    return found


def choose(count: int, seed: int) -> list[tuple[str, Mutant]]:
    """``count`` faults, as many of each package as its share of all possible ones, mixed."""
    everything = [
        (str(file.relative_to(ROOT)), mutant)
        for package in PACKAGES
        for file in sorted((ROOT / "neurocompile" / package).rglob("*.py"))
        if "plot" not in file.name
        for mutant in mutants(file.read_bytes())
    ]
    return random.Random(seed).sample(everything, count)


def at(places: list[str]) -> list[tuple[str, Mutant]]:
    found = []
    for place in places:
        file, _, line = place.rpartition(":")
        source = (ROOT / file).read_bytes()
        found += [(file, m) for m in mutants(source) if m.line == int(line)]
    return found


class Cover:
    """Which tests run which line, and how long each takes."""

    def __init__(
        self, lines: dict[str, dict[int, list[str]]], seconds: dict[str, float], always: list[str]
    ) -> None:
        self.lines, self.seconds, self.always = lines, seconds, always

    @classmethod
    def read(cls, file: Path) -> Cover:
        found = json.loads(file.read_text())
        names = found["tests"]
        lines = {
            f: {int(n): [names[i] for i in tests] for n, tests in per.items()}
            for f, per in found["lines"].items()
        }
        return cls(lines, dict(zip(names, found["seconds"])), [])

    def tests(self, file: str, line: int, budget: float) -> list[str]:
        """Those that run the line (its file, or who imports it), the quickest first."""
        if self.always:
            return self.always
        found = [] if line in compiled_lines(file) else self.lines.get(file, {}).get(line, [])
        package = file.split("/")[1]
        return self.within(found or self.of_file(file, frozenset()), budget, f"tests/{package}/")

    def of_file(self, file: str, seen: frozenset[str]) -> list[str]:
        counts = Counter(t for tests in self.lines.get(file, {}).values() for t in tests)
        for other in importers(file) if len(counts) < MOST_TESTS else ():
            if other not in seen and len(seen) < 6:
                counts.update(self.of_file(other, seen | {file}))
        return list(counts)

    def within(self, tests: list[str], budget: float, near: str) -> list[str]:
        """As many as fit; those of the package itself may take three times as long as others."""
        found, total, files = [], 0.0, Counter[str]()
        cost = {t: self.seconds[t] * (1 if t.startswith(near) else 3) for t in tests}
        for test in sorted(tests, key=lambda t: cost[t]):
            if files[test.partition("::")[0]] >= MOST_TESTS // 3 or len(found) >= 2 * MOST_TESTS:
                continue
            total += self.seconds[test]
            if found and total > budget:
                break
            files[test.partition("::")[0]] += 1
            found.append(test)
        return found


@lru_cache(None)
def compiled_lines(file: str) -> frozenset[int]:
    """Lines of functions that numba compiles."""
    found: set[int] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_bytes())):
        if isinstance(node, ast.FunctionDef):
            names = {re.split(r"[.(]", ast.unparse(d))[0] for d in node.decorator_list}
            if names & COMPILED:
                found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(found)


@lru_cache(None)
def importers(file: str) -> tuple[str, ...]:
    module = file.removesuffix(".py").replace("/", ".")
    package, _, name = module.rpartition(".")
    pattern = re.compile(
        rf"from {re.escape(module)} import|from {re.escape(package)} import.*\b{name}\b"
    )
    return tuple(
        str(f.relative_to(ROOT))
        for f in sorted((ROOT / "neurocompile").rglob("*.py"))
        if pattern.search(f.read_text())
    )


def make_map(out: Path, given: argparse.Namespace) -> None:
    """Run the suite (or ``--tests``) once, and keep which test ran which line."""
    for old in [*out.glob("data*"), *out.glob("took.*")]:
        old.unlink()
    start = out / "start"
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text(START)
    (start / "mutant_map.py").write_text(PLUGIN)
    include = ",".join(f"{ROOT}/neurocompile/{package}/*" for package in PACKAGES)
    (out / "coveragerc").write_text(CONFIGURATION.format(include=include, out=out))
    environment = os.environ | {
        "COVERAGE_PROCESS_START": str(out / "coveragerc"),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(start), str(ROOT), os.environ.get("PYTHONPATH")])
        ),
        "MUTANT_MAP": str(out),
        "MUTANT_WORKERS": "1",
        "CI": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutant_map", "-p", "no:cacheprovider"]
    command += ["--tb=no", "-n", str(given.jobs), *given.tests]
    subprocess.run(command, cwd=ROOT, env=environment)
    rc = f"--rcfile={out / 'coveragerc'}"
    subprocess.run([sys.executable, "-m", "coverage", "combine", "-q", rc], cwd=ROOT, check=True)
    write_map(out)


def write_map(out: Path) -> None:
    from coverage import CoverageData

    seconds: dict[str, float] = {}
    for file in out.glob("took.*"):
        for line in file.read_text().splitlines():
            test, took, passed = json.loads(line)
            if passed:
                seconds[test] = took
    names = sorted(seconds, key=lambda t: seconds[t])
    index = {name: i for i, name in enumerate(names)}
    data = CoverageData(str(out / "data"))
    data.read()
    lines: dict[str, dict[int, list[int]]] = {}
    for file in data.measured_files():
        per: dict[int, list[int]] = defaultdict(list)
        for line, contexts in data.contexts_by_lineno(file).items():
            tests = sorted(index[c] for c in contexts if c in index)
            if tests:
                per[line] = tests[: 4 * MOST_TESTS]
        lines[str(Path(file).relative_to(ROOT))] = per
    found = {"tests": names, "seconds": [round(seconds[n], 3) for n in names], "lines": lines}
    (out / "map.json").write_text(json.dumps(found))
    print(f"map: {len(names)} tests, {sum(map(len, lines.values()))} lines", flush=True)


def judge_all(
    left: list[tuple[str, Mutant]], cover: Cover, log: Path, given: argparse.Namespace, end: float
) -> None:
    free: Queue[Copy] = Queue()
    for i in range(min(given.jobs, len(left))):
        free.put(Copy(log.parent / f"copy{i}"))
    lock = threading.Lock()
    prove(log.parent / "copy0", cover)

    def one(which: tuple[str, Mutant]) -> None:
        if time.monotonic() > end:
            return
        copy = free.get()
        try:
            file, mutant = which
            tests = cover.tests(file, mutant.line, given.budget)
            entry = {"mutant": key(*which), **copy.judge(file, mutant, tests, given.budget, end)}
        finally:
            free.put(copy)
        if time.monotonic() > end:
            return
        with lock, log.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
            print(f"{entry['state']:9} {entry['seconds']:6.1f} s  {entry['mutant']}", flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(one, left))


def prove(folder: Path, cover: Cover) -> None:
    """Some quick tests of three packages pass where there is no fault, or nothing is worth judging."""
    by_file: dict[str, str] = {}
    for test in sorted(cover.seconds, key=lambda t: cover.seconds[t]):
        if test.startswith(("tests/passes", "tests/mapping", "tests/ir")):
            by_file.setdefault(test.partition("::")[0], test)
    state, why = Copy.run_in(folder, list(by_file.values())[:12], folder / "cache", 200)
    if by_file and state != "survived":
        raise SystemExit(f"tests do not run here without a fault ({state}): {why}")


class Copy:
    """A copy of the checkout that holds one fault at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sound: set[str] = set()  # tests seen to pass here without a fault
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy2(ROOT / name, folder / name)

    def judge(self, file: str, mutant: Mutant, tests: list[str], budget: float, end: float) -> dict:
        begun = time.monotonic()
        limit = min(2 * budget + 60, max(end - begun, 1))
        if not tests:
            return {"state": "no tests", "seconds": 0.0, "tests": 0}
        place, kept = self.folder / file, (ROOT / file).read_bytes()
        # faulty kernels go into a cache of their own, so that the sound ones stay compiled
        cache, kept_there = self.folder / "cache", self.folder / "cache.one"
        if compiled_lines(file):
            shutil.rmtree(kept_there, ignore_errors=True)
            if cache.exists():
                shutil.copytree(cache, kept_there)
            cache = kept_there
        by = ""
        try:
            place.write_bytes(mutant.apply(kept))
            state, by = self.run(tests, cache, limit)
        finally:
            place.write_bytes(kept)
            os.utime(place, ns=(stamp := (ROOT / file).stat().st_mtime_ns, stamp))
        # without a name nothing was even collected: then all of the tests have to run without it
        blamed = [by] if by else tests
        if state == "killed" and not self.sound.issuperset(blamed):
            again, why = self.run(blamed, self.folder / "cache", limit)
            if again != "survived":
                return {"state": "unsound", "by": why or by, "seconds": 0.0, "tests": len(tests)}
            self.sound.update(blamed)
        seconds = round(time.monotonic() - begun, 1)
        return {"state": state, "by": by, "seconds": seconds, "tests": len(tests)}

    def run(self, tests: list[str], cache: Path, limit: float) -> tuple[str, str]:
        return self.run_in(self.folder, tests, cache, limit)

    @staticmethod
    def run_in(folder: Path, tests: list[str], cache: Path, limit: float) -> tuple[str, str]:
        """(killed, survived, timeout or error; the first test that failed)."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(folder), os.environ.get("PYTHONPATH")])
            ),
            "NUMBA_CACHE_DIR": str(cache),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
            "CI": "1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-rfE", "--tb=no"]
        command += ["-p", "no:cacheprovider", "--no-header"]
        with subprocess.Popen(
            [*command, *tests],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                text, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.communicate()
                return "timeout", ""
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
        first = failed[1] if failed else ""
        if process.returncode == 0:
            return "survived", ""
        gone = re.findall(
            r"^ERROR: (?:not found|found no collectors for).*?(tests/\S+)", text, re.M
        )
        if process.returncode == 4 and gone:  # names that did not stay
            files = {name.partition("[")[0] for name in gone}
            left = [t for t in tests if t.partition("[")[0] not in files]
            if left and len(left) < len(tests):
                return Copy.run_in(folder, left, cache, limit)
        if process.returncode in (4, 5):
            # the conftest itself cannot be imported with the fault: nothing would run
            broken = "Error while loading conftest" in text or "ImportError" in text
            return ("killed", "") if broken else ("error", text[-300:])
        return "killed", first if "::" in first else ""


def summary(entries: list[dict], wanted: int, least: float) -> int:
    """The score, by package; every fault that no test found."""
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        states[entry["mutant"].split("/")[1]][entry["state"]] += 1
    found = 0
    for package, counts in sorted(states.items()):
        dead = counts["killed"] + counts["timeout"]
        found += dead
        print(f"{package:10} {dead:4} of {sum(counts.values()):4} found  {dict(counts)}")
    share = 100 * found / max(len(entries), 1)
    print(f"found {found} of {len(entries)} faults ({share:.1f} %), {wanted - len(entries)} left")
    for entry in sorted(entries, key=lambda e: e["mutant"]):
        if entry["state"] not in ("killed", "timeout"):
            print(f"  {entry['state']} ({entry['tests']} tests): {entry['mutant']}")
    return 0 if share >= least else 1


if __name__ == "__main__":
    sys.exit(main())
