"""Messages of the library name Python's arguments; flags are the command line's to add."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import neurocompile
from neurocompile.cli import app
from neurocompile.cli.flags import FLAGS, as_flags
from neurocompile.error_codes import CATALOGUE
from neurocompile.errors import argument

ROOT = Path(neurocompile.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z]")
THEIRS = re.compile(r"--(extra|ignore-requires-python|python)\b")
"""Flags of uv and pip, which messages may name."""
OWN = {
    "exports/lava.py": "writes a program with a command line of its own",
    "pytest_plugin.py": "registers the options of pytest itself",
}
"""File -> why its texts hold flags."""


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is no docstring."""
    bare = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.lineno, node.value


def library() -> Iterator[tuple[str, int, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] not in ("cli", "models", "hw_targets") and str(place) not in OWN:
            for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
                yield str(place), line, text


def test_no_text_outside_the_command_line_holds_a_flag() -> None:
    found = [(p, n, t) for p, n, t in library() if FLAG.search(THEIRS.sub("", t))]
    assert not found


def test_the_check_itself() -> None:
    for text in ("give --budget", "(--budget)", "'--budget'", "--budget takes"):
        assert FLAG.search(text), text
    assert not FLAG.search("a---b") and not FLAG.search("x--y")


def options() -> set[str]:
    """Every flag of every command."""
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    return {
        flag
        for command in commands
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


def test_every_argument_has_a_flag_of_some_command() -> None:
    assert set(FLAGS.values()) <= options()


def test_arguments_that_messages_name_have_flags() -> None:
    named = set()
    for path, line, text in library():
        for name in re.findall(r"`(\w+)(?:=[^`]*)?`", text):
            assert name in FLAGS, (path, line, name)
            named.add(name)
    made = re.compile(r"argument\(['\"](\w+)['\"]")
    for path in ROOT.rglob("*.py"):
        inside = path.relative_to(ROOT)
        if str(inside) not in OWN and "models" not in inside.parts:
            found = made.findall(path.read_text(encoding="utf-8"))
            assert set(found) <= set(FLAGS), path
            named.update(found)
    assert named == set(FLAGS)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"use {argument('weight_bits', 4)}", "use --weight-bits 4"),
        (f"or {argument('fold', 'none')}.", "or --fold none."),
        (argument("budget"), "--budget"),
        (argument("train", False), "--no-train"),
        (argument("train", True), "--train"),
        (argument("budget", "epsilon=0.1"), "--budget epsilon=0.1"),
        ("`unknown=3` and `x y`", "`unknown=3` and `x y`"),
    ],
)
def test_the_command_line_shows_flags(said: str, shown: str) -> None:
    assert as_flags(said) == shown


def test_the_catalogue_can_be_shown_as_flags() -> None:
    for code, (title, text) in CATALOGUE.items():
        assert "`" not in as_flags(f"{title} {text}"), code
