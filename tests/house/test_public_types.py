"""Everything that a user imports from neurocompile says what it takes and gives."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator

import pytest

import neurocompile

ANY = {"frames_from_events.events": "structured arrays and other packages' objects, told apart"}
"""Argument -> why it is of no type."""


def public_functions() -> Iterator[tuple[str, object]]:
    for name in neurocompile.__all__:
        value = getattr(neurocompile, name)
        found = {name: value}
        if inspect.isclass(value):
            own = ((k, v) for k, v in vars(value).items() if not k.startswith("_"))
            found = {f"{name}.{k}": v for k, v in own}
        for path, part in found.items():
            part = getattr(part, "fget", None) or getattr(part, "func", part)  # properties
            part = inspect.unwrap(getattr(part, "__func__", part))
            if inspect.isfunction(part):
                yield path, part


def test_names_are_functions_whatever_was_imported_before() -> None:
    """A submodule of the same name (check, gate) took its function's place once it was imported."""
    code = (
        "import neurocompile, neurocompile.gate\n"
        "from neurocompile.check import check_model\n"
        "for _ in range(2):\n"
        "    assert neurocompile.check is check_model and callable(neurocompile.gate)\n"
        "from neurocompile import check, gate\n"
        "assert check is check_model and callable(gate)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_functions_are_typed() -> None:
    for extra in ("torch", "onnxscript"):  # export_onnx and finetune
        pytest.importorskip(extra)
    seen, missing = 0, []
    for path, function in public_functions():
        typed, code = function.__annotations__, function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        missing += [
            f"{path}.{name}"
            for name in (*names, "return")
            if name not in ("self", "cls") and "Any" in str(typed.get(name, "Any"))
        ]
        seen += 1
    assert seen > 40
    assert sorted(missing) == sorted(ANY)
