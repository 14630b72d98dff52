"""Warnings for users: shown at the line of theirs that called us, each text once a line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["overheard", "warn"]

_listeners: ContextVar[tuple[list[str], ...]] = ContextVar("listeners", default=())


def warn(text: str) -> None:
    """A UserWarning at the first caller outside of neurocompile."""
    for texts in _listeners.get():
        texts.append(text)
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _ours(frame.f_globals.get("__name__", "")):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, stacklevel=depth + 1)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """The texts of the warnings that the body gives, which are shown all the same."""
    texts: list[str] = []
    before = _listeners.set((*_listeners.get(), texts))
    try:
        yield texts
    finally:
        _listeners.reset(before)


def _ours(module: str) -> bool:
    return module == "contextlib" or module.partition(".")[0] == "neurocompile"
