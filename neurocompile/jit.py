"""Compiled kernels, kept on disk where that is possible.

numba keeps machine code beside the source or below the user's cache folder. Where it can write
neither (a read-only installation without HOME), it refuses to compile at all; where what it kept
is cut short or of another user, it fails at the first call. Here both cost time and nothing else:
a kernel is compiled anew, and `neurocompile doctor` says why.

numba asks only whether the kernel's own file changed. What the file imports is compiled into the
kernel too (helpers, intrinsics, constants), so here a change there compiles it anew as well.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["cached_njit", "not_kept", "stamp_of"]

_IMPORTED = re.compile(r"^(?:from|import) +([\w.]+)(?: +import +([\w, ]+))?", re.MULTILINE)
"""A module that is imported when a file is, and names from it, which may be modules."""

_not_kept: list[str] = []


def not_kept() -> str:
    """Why kernels are compiled anew in every process; empty if they are kept."""
    return _not_kept[0] if _not_kept else ""


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(cache=True, **options)`` that falls back to no cache."""
    from numba import njit

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            kernel = njit(cache=True, **options)(function)
        except (RuntimeError, OSError) as error:  # no place to keep it
            _not_kept.append(str(error).splitlines()[0])
            return njit(**options)(function)
        kept = getattr(kernel, "_cache", None)
        if kept is not None:
            index = getattr(kept, "_cache_file", None)
            if index is not None and hasattr(index, "_source_stamp"):
                index._source_stamp = (index._source_stamp, stamp_of(function.__module__))
            kept.load_overload = _tolerant(kept.load_overload)
            kept.save_overload = _tolerant(kept.save_overload)
        return kernel

    return decorate


@cache
def stamp_of(module: str) -> tuple[tuple[str, int, int], ...]:
    """Name, time of change (ns) and size (octets) of each module of the same package that a module
    imports, and that these import; only what is imported when the files are.
    """
    package, found = module.partition(".")[0], dict[str, Path]()
    left = [module]
    while left:
        name = left.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in found or name.partition(".")[0] != package or not file:
            continue
        found[name] = Path(file)
        for where, names in _imports(found[name]):
            left += [where, *(f"{where}.{each.strip()}" for each in names.split(","))]
    stats = [(name, file.stat()) for name, file in sorted(found.items()) if file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@cache
def _imports(file: Path) -> list[tuple[str, str]]:
    """Modules that a file imports, each with names from it."""
    try:
        return _IMPORTED.findall(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):  # in an archive, say: such files do not change
        return []


def _tolerant(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of numba's cache for which a file that is damaged, locked or away is no file."""

    def attempt(*arguments: Any) -> Any:
        try:
            return step(*arguments)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # whatever a damaged pickle or a full disk raises
            folder = os.path.basename(str(getattr(step, "__self__", "")))
            _not_kept.append(f"{type(error).__name__}: {error} {folder}".strip())
            return None

    return attempt
