"""No code decides by the text of an error: codes and kinds are for programs, messages for people."""

from __future__ import annotations

import ast
from pathlib import Path

import neurocompile

ROOT = Path(neurocompile.__file__).parent
LOOKS = frozenset({"startswith", "endswith", "find", "index", "search", "match", "fullmatch"})

ALLOWED = {
    "build_steps.py": "takes the name of the layer to name the user's module beside it; decides nothing"
}
"""File -> why it may read a message."""


def _is_message(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("message", "messages")


def compared(tree: ast.AST) -> list[int]:
    """Lines where the message of an error is compared, or searched."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            parts = [node.func.value, *node.args] if node.func.attr in LOOKS else []
        else:
            continue
        if any(_is_message(part) for part in parts):
            found.append(node.lineno)
    return found


def test_no_code_compares_message_texts() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in ROOT.rglob("*.py")
        if "models" not in path.parts
        and (lines := compared(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found.keys() == ALLOWED.keys(), found


def test_the_check_itself() -> None:
    for text in (
        "if error.message.startswith('a'): pass",
        "if 'a' in error.message: pass",
        "re.search('a', error.message)",
        "error.message == 'a'",
    ):
        assert compared(ast.parse(text)), text
    assert not compared(ast.parse("raise E(error.code, f'{error.message} (here)')"))


def test_an_error_has_a_kind_where_a_code_is_not_enough() -> None:
    error = neurocompile.NeurocompileError("NC1013", "no trace", kind="torch.export")
    assert (error.code, error.kind, str(error)) == ("NC1013", "torch.export", "NC1013 no trace")
    assert neurocompile.NeurocompileError("NC1013", "no trace").kind == ""
