"""Every analysis and pass knows every kind of node of its stages, or refuses it by name; there is no
ladder of isinstance with an open default.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.tables import KindTable, tables

ROOT = Path(neurocompile.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))

for source in SOURCES:  # tables register when their module is imported
    if " = KindTable(" in source.read_text():
        parts = source.relative_to(ROOT.parent).with_suffix("").parts
        with contextlib.suppress(ImportError, NeurocompileError):  # of an extra that is not there
            importlib.import_module(".".join(parts))
importlib.import_module("neurocompile.passes.lower")  # fills the table of its rules

BY_NAME = {table.name: table for table in tables()}


def kinds_of(stage: str) -> list[type]:
    """Kinds of node at a stage, or of population or projection."""
    if stage in ("population", "projection"):
        base = c.Population if stage == "population" else c.Projection
        return [kind for kind in c.KINDS.values() if issubclass(kind, base)]
    return [kind for kind in s.KINDS.values() if stage in kind.stages]


def missing(table: KindTable) -> list[str]:
    kinds = {kind for stage in table.stages for kind in kinds_of(stage)}
    return sorted(kind.__name__ for kind in kinds if not table.knows(kind))


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_table_has_a_rule_for_each_kind_of_its_stages(name: str) -> None:
    assert missing(BY_NAME[name]) == [], f"add rules to the table '{name}'"


@dataclass(frozen=True, kw_only=True)
class Unknown(s.Node):
    """A kind that nobody has rules for."""

    x: s.Node | None = None


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_kind_without_a_rule_is_refused_by_name(name: str) -> None:
    with pytest.raises(NeurocompileError, match=f"NC2013 layer 'u': {name} .* kind Unknown"):
        BY_NAME[name].of(Unknown(name="u"))


def test_the_test_of_completeness_names_a_kind_without_rules(monkeypatch) -> None:
    monkeypatch.setitem(s.KINDS, "Unknown", Unknown)
    assert all(
        missing(table) == ["Unknown"] for table in tables() if "canonical" in table.stages
    ) and any(table.stages for table in tables())


def test_a_table_keeps_one_rule_a_kind() -> None:
    with pytest.raises(ValueError, match="shapes has a rule for Add already"):
        BY_NAME["shapes"].add(lambda graph, node, inputs: inputs[0], s.Add)
    with pytest.raises(ValueError, match="a table 'shapes' is there already"):
        KindTable("shapes", (), "its shape")


# ---- ladders ------------------------------------------------------------------------------------

LADDER = 3
"""Tests of one value's kind in one function, from which on they are a table in disguise."""


def kinds_tested(call: ast.AST) -> str | None:
    """What an ``isinstance(value, kind of node, population or projection)`` looks at."""
    if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "isinstance"):
        return None
    value, kinds = call.args
    names = {
        node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        for node in ast.walk(kinds)
    }
    return ast.unparse(value) if names & (s.KINDS.keys() | c.KINDS.keys()) else None


def refuses(function: ast.FunctionDef) -> bool:
    """Whether what no test took ends in an error."""
    last = function.body[-1]
    while isinstance(last, ast.If) and last.orelse:
        last = last.orelse[-1]
    return isinstance(last, ast.Raise)


def ladders() -> dict[str, int]:
    found = {}
    for source in SOURCES:
        for function in ast.walk(ast.parse(source.read_text())):
            if not isinstance(function, ast.FunctionDef) or refuses(function):
                continue
            tested = Counter(
                value for call in ast.walk(function) if (value := kinds_tested(call)) is not None
            )
            most = max(tested.values(), default=0)
            if most >= LADDER:
                name = f"{source.relative_to(ROOT).as_posix()}:{function.name}"
                found[name] = max(most, found.get(name, 0))
    return found


def test_there_is_no_ladder_with_an_open_default() -> None:
    assert ladders() == {}, "make it a table (neurocompile/ir/tables.py), or end it in an error"
