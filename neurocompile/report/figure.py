"""Pictures to files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from neurocompile.files import write_output

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
    write_output(path, buffer.getvalue())
