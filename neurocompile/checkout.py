"""The model zoo and the target files of a checkout.

In a wheel ``neurocompile.models`` and ``neurocompile.hw_targets`` lie inside of the package; in a
checkout they are the folders ``models/`` and ``hw_targets/`` beside it. There they are found without
an installation, and only there: an editable installation of another checkout, which would answer
for the same names, is not asked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__ = ["find_beside"]

_PACKAGE = Path(__file__).parent
_BESIDE = {f"neurocompile.{name}": _PACKAGE.parent / name for name in ("models", "hw_targets")}


class _Beside:
    """A finder of the two packages, for ``sys.meta_path``."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The package's own; ModuleNotFoundError where this checkout has none."""
        if name not in _BESIDE:
            return None
        folder = _BESIDE[name]
        found = spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if found is None or not (folder / "__init__.py").is_file():
            raise ModuleNotFoundError(f"this checkout has no folder {folder}", name=name)
        return found


def find_beside() -> None:
    """In a checkout, take both packages from beside this one; called by ``import neurocompile``."""
    inside = (_PACKAGE / "hw_targets").is_dir()
    if not inside and _Beside not in sys.meta_path:
        sys.meta_path.insert(0, _Beside)
