"""How many planted faults the tests find: ``python tools/nightly_mutants.py --jobs N``.

1. Runs the suite once without a fault and keeps which tests run which line of the six packages, how
   long each takes and whether it passes (``mutant_plugin.py``; in a copy of the checkout, which
   stays in ``--out``).
2. Plants ``--count`` faults chosen by ``--seed``, one at a time, each in a copy of the checkout, and
   runs the tests that run its line and passed without it, the quickest first, as many as fit
   ``--budget`` seconds.
3. Runs the tests that failed once more without a fault: what one finds that fails then does not count.
4. Prints the share found, a line a package, and every fault that was not found; those that change
   nothing a law could see (``equivalent_mutants.yaml``) are counted apart.

Resumable: what was judged stands in ``OUT/log.jsonl`` and is not run again; after ``--deadline``
seconds what runs is stopped and not judged. ``--only survivors`` judges again, with today's tests,
what the log says was not found, or only by running out of time, which a busy machine does too
(``--tests`` are added to its map first, and judge alone); first and last verdicts both stay in the log and in the
summary. ``--at FILE:LINE`` tries every fault of a line instead.
Compiled code leaves no trace, so its faults run the tests of whoever imports its file. Exit code 1
below ``--least`` per cent.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

sys.path.insert(0, str(Path(__file__).resolve().parent))

import mutant_verdicts as verdicts  # noqa: E402
from mutant_cover import MOST_TESTS, Cover, compiled_lines  # noqa: E402
from mutant_verdicts import faults, key, read, summary  # noqa: E402
from mutations import Mutant  # noqa: E402

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("passes", "ir", "mapping", "backends", "artifact", "theory")
LINKED = ("models", "examples", "docs", "hw_targets", "tools", "benchmarks", "integrations")
COPIED = ("neurocompile", "tests")
CHECK_SECONDS = 45  # before the deadline, for the last run of the tests that failed


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
    parser.add_argument("--only", choices=["survivors"])
    parser.add_argument("--map-only", action="store_true")
    parser.add_argument("--map-limit", type=float, help="seconds that the map may take")
    given = parser.parse_args()
    begun = time.monotonic()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if given.at and given.tests:
        cover = Cover({}, {}, given.tests)
    else:
        known = out / "map.json"
        names = Cover.read(known).seconds if known.exists() else ()
        new = [t for t in given.tests if not any(name.startswith(t) for name in names)]
        if not known.exists() or (given.only and new):
            make_map(out, given, new)
        cover = Cover.read(known)
        cover.chosen = tuple(given.tests) if given.only else ()
    if given.map_only:
        return 0
    end = begun + given.deadline
    if given.only:
        return again(out / "log.jsonl", cover, given, end)
    chosen = at(given.at) if given.at else choose(given.count, given.seed)
    log = out / ("at.jsonl" if given.at else "log.jsonl")
    done = {} if given.at else read(log)
    left = [(key(*m), *m) for m in chosen if key(*m) not in done]
    if left:
        judge_all(left, cover, log, given, end)
    done = read(log)
    return summary([done[key(*m)] for m in chosen if key(*m) in done], len(chosen), given.least)


def again(log: Path, cover: Cover, given: argparse.Namespace, end: float) -> int:
    """Judge once more what the log says was not found, under the names it has there, and what of the
    sample was not judged; what has to be compiled comes last."""
    apart, left, gone = verdicts.equivalents(), list[tuple[str, str, Mutant]](), 0
    done = read(log)
    for name, (*_, entry) in done.items():
        if entry["state"] == "killed" or (entry["state"] == "timeout" and entry.get("again")):
            continue
        today = verdicts.located(entry)
        if today is None:
            gone += 1
        elif key(*today) not in apart:
            left.append((name, *today))
    fresh = [m for m in choose(given.count, given.seed) if key(*m) not in done]
    left += [(key(*m), *m) for m in fresh if key(*m) not in apart]
    left.sort(key=lambda m: m[2].line in compiled_lines(m[1]))
    print(
        f"{len(left)} to judge again; of {gone} that were not found the line is no more", flush=True
    )
    if left:
        judge_all(left, cover, log, given, end)
    judged = list(read(log).values())
    return summary(judged, max(len(judged), given.count), given.least)


def choose(count: int, seed: int) -> list[tuple[str, Mutant]]:
    """``count`` faults, as many of each package as its share of all possible ones, mixed."""
    everything = [
        (str(file.relative_to(ROOT)), mutant)
        for package in PACKAGES
        for file in sorted((ROOT / "neurocompile" / package).rglob("*.py"))
        if "plot" not in file.name
        for mutant in faults(str(file.relative_to(ROOT)))
    ]
    return random.Random(seed).sample(everything, count)


def at(places: list[str]) -> list[tuple[str, Mutant]]:
    found = []
    for place in places:
        file, _, line = place.rpartition(":")
        found += [(file, m) for m in faults(file) if m.line == int(line)]
    return found


def make_map(out: Path, given: argparse.Namespace, tests: list[str]) -> None:
    """Run the suite (or ``tests``) once, and keep which test ran which line.

    With ``--only`` the tests join the map that is there.
    """
    lines = out / "lines"
    shutil.rmtree(lines, ignore_errors=True)
    lines.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutant_plugin", "--tb=no"]
    command += ["-p", "no:cacheprovider", "-n", str(given.jobs), "--dist=worksteal", *tests]
    base = Copy(out / "base")  # what fails in a copy is no evidence
    environment = surroundings(base.folder, base.folder / "cache") | {
        "MUTANT_LINES": str(lines),
        "MUTANT_ROOT": str(base.folder),
    }
    with (out / "suite.log").open("wb") as log:
        with subprocess.Popen(
            command,
            cwd=base.folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process:
            try:
                process.wait(timeout=given.map_limit)
            except subprocess.TimeoutExpired:  # what has run is known
                os.killpg(process.pid, 9)
    write_map(out, join=bool(given.only))


def write_map(out: Path, join: bool = False) -> None:
    seconds: dict[str, float] = {}
    ran: dict[str, dict[str, list[int]]] = {}
    failed = 0
    if join and (out / "map.json").exists():
        before = Cover.read(out / "map.json")
        seconds, ran = before.seconds, before.ran()
    for file in (out / "lines").glob("lines.*"):
        for line in file.read_text().splitlines():
            try:
                test, took, passed, found = json.loads(line)
            except ValueError:  # cut short
                continue
            failed += not passed
            seconds.pop(test, None)
            ran.pop(test, None)
            if passed:
                seconds[test] = took
                ran[test] = {f: n for f, n in found.items() if f.split("/")[1] in PACKAGES}
    names = sorted(seconds, key=lambda t: seconds[t])
    lines: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, name in enumerate(names):
        for f, numbers in ran[name].items():
            for number in numbers:
                if len(lines[f][number]) < 4 * MOST_TESTS:
                    lines[f][number].append(i)
    found = {"tests": names, "seconds": [seconds[n] for n in names], "lines": lines}
    (out / "map.json").write_text(json.dumps(found))
    print(
        f"map: {len(names)} tests passed, {failed} did not (skipped ones among them), "
        f"{sum(map(len, lines.values()))} lines",
        flush=True,
    )


def surroundings(folder: Path, cache: Path) -> dict[str, str]:
    """The environment of tests in a copy of the checkout."""
    tools = str(Path(__file__).resolve().parent)
    paths = [str(folder), tools, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "CI": "1",
    }


def judge_all(
    left: list[tuple[str, str, Mutant]],
    cover: Cover,
    log: Path,
    given: argparse.Namespace,
    end: float,
) -> None:
    copies = [Copy(log.parent / f"copy{i}") for i in range(min(given.jobs, len(left)))]
    free: Queue[Copy] = Queue()
    for copy in copies:
        if (log.parent / "base").exists():
            copy.take_kernels(log.parent / "base")
        free.put(copy)
    lock, before = threading.Lock(), set(read(log))
    last = end - CHECK_SECONDS
    found: list[dict] = []

    def one(which: tuple[str, str, Mutant]) -> None:
        if time.monotonic() > last:
            return
        copy = free.get()
        try:
            name, file, mutant = which
            tests = cover.tests(file, mutant.line, given.budget)
            if cover.chosen and not tests:  # none of the named ones says anything of it
                return
            entry = {"mutant": name, **copy.judge(file, mutant, tests, given.budget, last)}
            entry |= verdicts.place(file, mutant) | ({"again": True} if name in before else {})
        finally:
            free.put(copy)
        if entry["state"] == "timeout" and time.monotonic() > last:
            return
        with lock, log.open("a") as stream:
            found.append(entry)
            stream.write(json.dumps(entry) + "\n")
            print(f"{entry['state']:9} {entry['seconds']:6.1f} s  {entry['mutant']}", flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(one, left))
    check_killers(found, copies, log, end)


def check_killers(found: list[dict], copies: list[Copy], log: Path, end: float) -> None:
    """A test that fails without a fault too is no evidence."""
    killers = sorted({e["by"] for e in found if e["state"] == "killed" and "::" in e["by"]})
    parts = [killers[i :: len(copies)] for i in range(len(copies))]

    def failing(copy: Copy, tests: list[str]) -> list[str]:
        bad: list[str] = []
        while left := [t for t in tests if t not in bad]:
            state, by = copy.run(
                left, copy.folder / "cache", min(max(end - time.monotonic(), 5), 600)
            )
            if state == "timeout":
                return [*bad, *left]
            if state == "survived" or by not in left:
                break
            bad.append(by)
        return bad

    with ThreadPoolExecutor(len(copies)) as pool:
        bad = {t for some in pool.map(failing, copies, parts) for t in some}
    print(f"{len(killers)} tests found something; without a fault {len(bad)} of them fail too")
    with log.open("a") as stream:
        for entry in found:
            if entry["state"] == "killed" and entry["by"] in bad:
                stream.write(json.dumps(entry | {"state": "unsound"}) + "\n")


class Copy:
    """A copy of the checkout that holds one fault at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy2(ROOT / name, folder / name)

    def take_kernels(self, base: Path) -> None:
        """What was compiled in another copy, under the names that numba gives it here."""
        from numba.core.caching import _CacheLocator

        for package in [base / "neurocompile", *(base / "neurocompile").rglob("*")]:
            if package.is_dir():
                old, new = (
                    _CacheLocator.get_suitable_cache_subpath(str(place / "x.py"))
                    for place in (package, self.folder / package.relative_to(base))
                )
                if (base / "cache" / old).is_dir():
                    linked(base / "cache" / old, self.folder / "cache" / new)

    def judge(self, file: str, mutant: Mutant, tests: list[str], budget: float, end: float) -> dict:
        begun = time.monotonic()
        limit = min(2 * budget + 30, max(end - begun, 1))
        if not tests:
            return {"state": "no tests", "by": "", "seconds": 0.0, "tests": 0}
        place, kept = self.folder / file, (ROOT / file).read_bytes()
        cache = self.folder / "cache"
        if compiled_lines(file):  # so that the sound ones stay compiled
            shutil.rmtree(self.folder / "cache.one", ignore_errors=True)
            if cache.exists():
                linked(cache, self.folder / "cache.one")
            cache = self.folder / "cache.one"
        try:
            place.write_bytes(mutant.apply(kept))
            state, by = self.run(tests, cache, limit)
        finally:
            place.write_bytes(kept)
            os.utime(place, ns=(stamp := (ROOT / file).stat().st_mtime_ns, stamp))
        seconds = round(time.monotonic() - begun, 1)
        return {"state": state, "by": by, "seconds": seconds, "tests": len(tests)}

    def run(self, tests: list[str], cache: Path, limit: float) -> tuple[str, str]:
        """(killed, survived, timeout or error; the first test that failed)."""
        chosen = self.folder / "chosen.json"
        chosen.write_text(json.dumps(tests))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-rfE", "--tb=no"]
        command += ["-p", "no:cacheprovider", "-p", "mutant_plugin", "--no-header"]
        files = sorted({test.partition("::")[0] for test in tests})
        with subprocess.Popen(
            [*command, *files],
            cwd=self.folder,
            env=surroundings(self.folder, cache) | {"MUTANT_TESTS": str(chosen)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                text, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.communicate()
                return "timeout", ""
        if process.returncode == 0:
            return "survived", ""
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
        if process.returncode in (1, 2) and failed:  # 2: a file cannot be imported with the fault
            return "killed", failed[1]
        if "Error while loading conftest" in text or "ImportError while loading" in text:
            return "killed", "conftest.py"
        if process.returncode < 0 or "Fatal Python error" in text:
            return "killed", f"ended by signal {-process.returncode}"
        return "error", text[-300:]


def linked(source: Path, target: Path) -> None:
    """The same files under another name: who writes one replaces it."""
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
