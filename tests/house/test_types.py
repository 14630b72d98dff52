"""The list of type errors that are left may only shrink (the check itself runs in .ci/run)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_types.py"
if not TOOL.is_file():
    pytest.skip("an installed wheel has no tools", allow_module_level=True)
SPEC = importlib.util.spec_from_file_location("check_types", TOOL)
assert SPEC is not None and SPEC.loader is not None
check_types = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_types)

FILE = "neurocompile/cli/build.py"


@pytest.mark.parametrize(
    ("found", "listed", "said"),
    [
        ({FILE: 2}, {FILE: 2}, []),
        ({}, {}, []),
        ({FILE: 3}, {FILE: 2}, ["3 type errors, 2 allowed"]),
        ({FILE: 1}, {FILE: 2}, ["1 type errors of 2 are left; run --update"]),
        ({}, {FILE: 2}, ["0 type errors of 2 are left; run --update"]),
        ({"neurocompile/ir/text.py": 1}, {}, ["1 type errors, 0 allowed"]),
    ],
)
def test_a_count_may_neither_grow_nor_shrink_unsaid(found, listed, said) -> None:
    complaints = check_types.complaints(found, listed)
    assert len(complaints) == len(said)
    assert all(text in line for text, line in zip(said, complaints))


def test_exact_packages_cannot_be_listed() -> None:
    assert check_types.complaints({"neurocompile/ir/text.py": 1}, {"neurocompile/ir/text.py": 1})


def test_the_list_names_files_that_exist() -> None:
    listed = check_types.allowed(check_types.LIST.read_text(encoding="utf-8"))
    root = TOOL.parents[1]
    assert listed and all((root / name).is_file() and n > 0 for name, n in listed.items())
    assert not [name for name in listed if name.split("/")[1] in check_types.EXACT]
