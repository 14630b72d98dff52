"""Which tests run which line, for ``nightly_mutants.py``: chosen for a fault, the quickest first."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

__all__ = ["MOST_TESTS", "Cover", "compiled_lines"]

ROOT = Path(__file__).resolve().parents[1]
COMPILED = frozenset({"kernel", "helper", "njit", "cached_njit", "intrinsic"})
MOST_TESTS = 60


class Cover:
    """Which tests run which line, and how long each takes."""

    def __init__(
        self, lines: dict[str, dict[int, list[str]]], seconds: dict[str, float], always: list[str]
    ) -> None:
        self.lines, self.seconds, self.always = lines, seconds, always
        self.chosen: tuple[str, ...] = ()
        """Files or tests that alone may judge; all if there are none."""

    @classmethod
    def read(cls, file: Path) -> Cover:
        found = json.loads(file.read_text())
        names = found["tests"]
        lines = {
            f: {int(n): [names[i] for i in tests] for n, tests in per.items()}
            for f, per in found["lines"].items()
        }
        return cls(lines, dict(zip(names, found["seconds"])), [])

    def ran(self) -> dict[str, dict[str, list[int]]]:
        """The lines of each test, as ``mutant_plugin.py`` writes them."""
        found: dict[str, dict[str, list[int]]] = {test: defaultdict(list) for test in self.seconds}
        for file, lines in self.lines.items():
            for number, tests in lines.items():
                for test in tests:
                    found[test][file].append(number)
        return found

    def tests(self, file: str, line: int, budget: float) -> list[str]:
        """Those that run the line (its file, or who imports it), the quickest first."""
        if self.always:
            return self.always
        found = [] if line in compiled_lines(file) else self.lines.get(file, {}).get(line, [])
        found = found or self.of_file(file, frozenset()) or self.importing(file)
        package = file.split("/")[1]
        if self.chosen:
            found = [t for t in found if t.startswith(self.chosen)]
        return self.within(found, budget, f"tests/{package}/")

    def importing(self, file: str) -> list[str]:
        """Tests of files that name the module: what runs at import alone is traced to no test."""
        module = file.removesuffix(".py").replace("/", ".")
        files = {t.partition("::")[0] for t in self.seconds}
        named = {f for f in files if (ROOT / f).exists() and module in (ROOT / f).read_text()}
        return [t for t in self.seconds if t.partition("::")[0] in named]

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
        order = {file: i for i, file in enumerate(files)}
        return sorted(found, key=lambda test: order[test.partition("::")[0]])  # fixtures are shared


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
