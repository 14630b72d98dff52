"""Imports run down only: a module reads those of lower floors, and of its own package without circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import neurocompile

ROOT = Path(neurocompile.__file__).parent

FLOORS = """
error_codes
errors checkout lanes
files guard jit progress notebook frames advice arrays distinct compat parameters zoo discretization aedat tracking
archive data events
run_result
ir
targets dumps stage_cache
gpu
backends calibration moments
circuits reference
host
passes
mapping
images
folding
options
frontends
pass_order precision
build_steps
placing manifest running
proof
program
summary
artifact
energy parity check qat
report gate testing exports submission
theory.bounds
theory.measure
stages
pipeline
sweeping
theory.experiments
doctor
cli
neurocompile theory
__main__ pytest_plugin
"""
"""Packages and modules from the lowest floor to the highest; those of one line do not read each
other.
"""

DOORS = {
    (
        "backends",
        "images",
    ): "get_backend('cores'): it runs a mapping, which lies above all circuits",
    ("program", "summary"): "Program.summary()",
    ("program", "artifact"): "Program.save()",
    ("program", "energy"): "Program.energy()",
    ("program", "parity"): "Program.parity()",
    ("program", "report"): "Program.report(), Program.plot()",
    ("program", "exports"): "Program.export_lava(), Program.export_nir(), Program.export_sanafe()",
}
"""A program is plain data; these of its methods are the public doors to what reads it, imported
when they are called.
"""


BESIDE = (["models"], ["hw_targets"])
"""Models of a user's kind and data: they lie on no floor."""


@dataclass(frozen=True)
class Import:
    """``source`` reads ``target``, both full module names; ``lazy`` inside of a function,
    ``typing`` for annotations alone.
    """

    source: str
    target: str
    line: int
    lazy: bool
    typing: bool


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    found = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}
    return {name: path for name, path in found.items() if name.split(".")[1:2] not in BESIDE}


def _walk(tree: ast.AST) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Every node, whether it is inside of a function, and whether for annotations alone."""
    stack: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while stack:
        node, lazy, typing = stack.pop()
        yield node, lazy, typing
        lazy |= isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        typing |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not isinstance(node, ast.expr):
            stack += ((child, lazy, typing) for child in ast.iter_child_nodes(node))


def _imports(source: str, text: str, known: frozenset[str]) -> Iterator[Import]:
    for node, lazy, typing in _walk(ast.parse(text)):
        targets: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno} imports relatively"
            base = node.module or ""
            full = (f"{base}.{alias.name}" for alias in node.names)
            targets = [name if name in known else base for name in full]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        for target in dict.fromkeys(targets):
            if target.partition(".")[0] == "neurocompile":
                yield Import(source, target, node.lineno, lazy, typing)


@cache
def imports() -> tuple[Import, ...]:
    known = frozenset(modules())
    return tuple(
        found
        for name, path in modules().items()
        for found in _imports(name, path.read_text(encoding="utf-8"), known)
    )


@cache
def floors() -> dict[str, int]:
    return {unit: i for i, line in enumerate(FLOORS.split("\n")) for unit in line.split()}


def unit_of(module: str) -> str:
    """The most specific entry of FLOORS that holds ``module``."""
    parts = module.split(".")[1:]
    for size in range(len(parts), 0, -1):
        if ".".join(parts[:size]) in floors():
            return ".".join(parts[:size])
    return "neurocompile" if not parts else parts[0]


def test_every_module_has_a_floor() -> None:
    assert {m for m in modules() if unit_of(m) not in floors()} == set()
    assert floors().keys() <= {unit_of(m) for m in modules()}, "a floor of nothing"


def rising(found: tuple[Import, ...]) -> list[Import]:
    """Imports that do not run down."""
    rank, at = floors(), unit_of
    return [
        i
        for i in found
        if i.target.split(".")[1:2] not in BESIDE
        and at(i.source) != at(i.target)
        and rank[at(i.target)] >= rank[at(i.source)]
    ]


def test_imports_run_down_only() -> None:
    up = [i for i in rising(imports()) if (unit_of(i.source), unit_of(i.target)) not in DOORS]
    assert not up, "\n".join(f"{i.source}:{i.line} reads {i.target}, a higher floor" for i in up)


def test_the_doors_are_lazy_and_each_is_needed() -> None:
    used = {(unit_of(i.source), unit_of(i.target)): i for i in rising(imports())}
    assert used.keys() == DOORS.keys()
    assert all(i.lazy or i.typing for i in rising(imports()))


def circles(found: tuple[Import, ...]) -> list[list[str]]:
    """Sets of modules that reach each other, but for annotations and doors (Tarjan)."""
    reads: dict[str, set[str]] = {}
    for i in found:
        door = (unit_of(i.source), unit_of(i.target)) in DOORS
        if not i.typing and not door and i.source != i.target:
            reads.setdefault(i.source, set()).add(i.target)
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(reads.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                result.append(sorted(stack[at:]))
            del stack[at:]

    for name in sorted(reads):
        if name not in order:
            visit(name)
    return result


def test_there_are_no_circles() -> None:
    assert circles(imports()) == []


@pytest.mark.parametrize(
    ("source", "text", "up"),
    [
        ("neurocompile.ir.circuit", "from neurocompile.passes import lower", True),
        ("neurocompile.ir.circuit", "def f():\n    import neurocompile.passes.lower", True),
        ("neurocompile.passes.lower", "from neurocompile.ir import circuit", False),
        ("neurocompile.backends.base", "from neurocompile.calibration import value_grid", True),
        (
            "neurocompile.theory.bounds.shares",
            "from neurocompile.theory.measure import sweep",
            True,
        ),
    ],
)
def test_the_check_itself(source: str, text: str, up: bool) -> None:
    found = tuple(_imports(source, text, frozenset(modules())))
    assert bool(rising(found)) is up and len(found) == 1


def test_a_circle_is_found() -> None:
    a, b = "neurocompile.ir.text", "neurocompile.ir.layout"
    assert circles((Import(a, b, 1, False, False), Import(b, a, 1, True, False))) == [[b, a]]
