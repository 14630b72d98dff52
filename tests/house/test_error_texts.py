"""No code decides by the text of an error: codes and kinds are for programs, messages for people."""

from __future__ import annotations

import ast
from pathlib import Path

import neurocompile

ROOT = Path(neurocompile.__file__).parent
LOOKS = frozenset(
    "startswith endswith find index search match fullmatch findall get partition count".split()
)
ERRORS = ("error", "err", "e", "exception", "reason", "refused")
ALLOWED = {
    "frontends/torch/trace.py": "torch.export has one class for all that it refuses",
    "targets/problems.py": "msgspec says where in a file only in its text",
}
"""File -> why it may read a message of somebody else's."""


def _is_message(node: ast.AST) -> bool:
    """``error.message``, or ``str(error)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str":
        return [n.id in ERRORS for n in node.args if isinstance(n, ast.Name)] == [True]
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
        "advice.get(str(error), '')",
    ):
        assert compared(ast.parse(text)), text
    assert not compared(ast.parse("raise E(error.code, f'{error.message} (here)')"))


def test_an_error_has_a_kind_where_a_code_is_not_enough() -> None:
    error = neurocompile.NeurocompileError("NC1013", "no trace", kind="torch.export")
    assert (error.code, error.kind, str(error)) == ("NC1013", "torch.export", "NC1013 no trace")
    assert neurocompile.NeurocompileError("NC1013", "no trace").kind == ""


def test_an_error_names_its_layer_apart_from_its_text() -> None:
    """What knows a layer by its node lets the door name the user's module beside it."""
    error = neurocompile.NeurocompileError("NC2002", "layer 'a' is too wide", layer="a")
    assert error.layer == "a" and neurocompile.NeurocompileError("NC2002", "b").layer == ""
    missing = {}
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] not in ("passes", "circuits", "folding"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func) == "NeurocompileError"
            if called and "layer '{" in ast.unparse(node):
                if "NC9001" not in ast.unparse(node) and "layer=" not in ast.unparse(node):
                    missing[f"{path.name}:{node.lineno}"] = ast.unparse(node)[:80]
    assert missing == {}
