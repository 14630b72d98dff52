"""Every error code of the source is in the catalogue, and every code of the catalogue is raised
somewhere.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import neurocompile
from neurocompile.error_codes import CATALOGUE

SOURCE = Path(neurocompile.__file__).parent
CODE = re.compile(r"NC\d{4}")
RESERVED: dict[str, str] = {}
"""Codes that nothing raises, and why they are kept."""


def texts() -> dict[str, str]:
    return {
        str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


def raised() -> set[str]:
    """Codes that are a whole string in the source, keys of dictionaries (the catalogue) aside."""
    found = set()
    for text in texts().values():
        tree = ast.parse(text)
        keys = {
            id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in keys
            ):
                found |= {node.value} if CODE.fullmatch(node.value) else set()
    return found


def test_codes_of_the_source_are_in_the_catalogue() -> None:
    unknown = {
        (code, name)
        for name, text in texts().items()
        for code in CODE.findall(text)
        if code not in CATALOGUE
    }
    assert not unknown


def test_codes_of_the_catalogue_are_raised() -> None:
    assert set(CATALOGUE) - raised() == set(RESERVED)
