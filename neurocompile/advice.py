"""Warnings for users: shown at the line of theirs that called us, each text once a line."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]


def warn(text: str) -> None:
    """A UserWarning at the first caller outside of neurocompile."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _ours(frame.f_globals.get("__name__", "")):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, stacklevel=depth + 1)


def _ours(module: str) -> bool:
    return module == "contextlib" or module.partition(".")[0] == "neurocompile"
