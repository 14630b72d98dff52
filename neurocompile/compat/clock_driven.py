"""``spikingjelly.clock_driven`` for a SpikingJelly that has only ``activation_based``.

Each module of the stand-in offers what the module of the same name offers, and for each of its
classes that knows step modes, ``MultiStepX``: ``X`` in multi-step mode.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["stand_in"]

_NAME = "spikingjelly.clock_driven"


@contextmanager
def stand_in(package: ModuleType) -> Iterator[None]:
    """``spikingjelly.clock_driven`` imports inside of the block, and is gone behind it.

    Args:
        package: ``spikingjelly.activation_based``, of which it is made.
    """
    finder = _Finder(package.__name__)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            vars(sys.modules.get(parent, finder)).pop(child, None)


class _Finder(MetaPathFinder, Loader):
    """Finds and makes the modules of the stand-in."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.made: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME and not fullname.startswith(f"{_NAME}."):
            return None
        found = importlib.util.find_spec(self._source_of(fullname))
        if found is None:
            return None
        packaged = found.submodule_search_locations is not None
        return ModuleSpec(fullname, self, is_package=packaged)

    def exec_module(self, module: ModuleType) -> None:
        source = importlib.import_module(self._source_of(module.__name__))
        self.made.append(module.__name__)
        names = {k: v for k, v in vars(source).items() if not k.startswith("__")}
        if module.__name__ == _NAME:
            names = {k: v for k, v in names.items() if not inspect.ismodule(v)}
        vars(module).update(names)
        for name, kind in names.items():
            multi = f"MultiStep{name}"
            if inspect.isclass(kind) and _knows_steps(kind) and multi not in names:
                vars(module)[multi] = _multi_step(multi, kind, module.__name__)

    def _source_of(self, fullname: str) -> str:
        return self.source + fullname.removeprefix(_NAME)


def _knows_steps(kind: type) -> bool:
    try:
        return "step_mode" in inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    except (TypeError, ValueError):
        return False


def _multi_step(name: str, kind: Any, module: str) -> type:
    """``kind`` in multi-step mode, as ``name`` of ``module``."""
    # clock_driven's arguments are the same up to where the step mode stands, and a backend behind.
    place = list(inspect.signature(kind.__init__).parameters).index("step_mode") - 1

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, *args[:place], **kwargs, step_mode="m")

    doc = f"``{kind.__name__}`` in multi-step mode."
    return type(name, (kind,), {"__init__": __init__, "__doc__": doc, "__module__": module})
