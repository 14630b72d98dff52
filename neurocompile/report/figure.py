"""Pictures to files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figure"]

_NO_DATES = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a .png or .svg whose bytes depend on the picture alone; NC5005 if that fails."""
    from matplotlib import rc_context

    kind, buffer = path.suffix.lower()[1:], io.BytesIO()
    with rc_context({"svg.hashsalt": "neurocompile"}):
        figure.savefig(buffer, format=kind, metadata=_NO_DATES[kind])
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            part.write_bytes(buffer.getvalue())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise NeurocompileError(
            "NC5005", f"cannot write '{path}': {error.strerror or error}"
        ) from error
