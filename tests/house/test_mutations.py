"""The nightly mutation run plants what it says: real faults, one each, lines kept, texts left alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / "tools" / "mutations.py").is_file(), reason="outside of the repository"
)

SOURCE = b'''"""Doc < string."""
LIMIT: int = 3  # "\xc2\xb5" > 1


def f(a, b):
    if a < b and not b:
        raise ValueError(f"{a} < {b}" + "!")
    total = max(a,
                b + 1)
    total += 1
    print(total == 1)
    return total
'''


@pytest.fixture
def mutations():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import mutations

        yield mutations
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_each_is_one_fault_on_its_line(mutations) -> None:
    found = mutations.mutants(SOURCE)
    assert {m.what for m in found} == {
        "3 -> 4",
        "a < b and (not b) -> (a < b or not b)",
        "a < b -> (a <= b)",
        "not b -> b",
        "max -> min",
        "b + 1 -> (b - 1)",
        "1 -> 2",
        "total += 1 -> pass",
    }
    before = SOURCE.splitlines()
    for mutant in found:
        text = mutant.apply(SOURCE)
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))
        after = text.splitlines()
        changed = [i for i, (a, b) in enumerate(zip(before, after), 1) if a != b]
        assert len(after) == len(before) and changed[0] == mutant.line


def test_every_file_of_the_packages_gives_programs(mutations) -> None:
    for file in sorted((ROOT / "neurocompile" / "ir").glob("*.py"))[::4]:
        source = file.read_bytes()
        for mutant in mutations.mutants(source)[::25]:
            ast.parse(mutant.apply(source))
