"""Compiled kernels, kept on disk where that is possible.

numba keeps machine code beside the source or below the user's cache folder. Where it can write
neither (a read-only installation without HOME), it refuses to compile at all; where what it kept
is cut short or of another user, it fails at the first call. Here both cost time and nothing else:
a kernel is compiled anew, and `neurocompile doctor` says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["cached_njit", "not_kept"]

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
        cache = getattr(kernel, "_cache", None)
        if cache is not None:
            cache.load_overload = _tolerant(cache.load_overload)
            cache.save_overload = _tolerant(cache.save_overload)
        return kernel

    return decorate


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
