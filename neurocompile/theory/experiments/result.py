"""What an experiment gives back, in one form for text, JSON and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Result", "Table"]


@dataclass(frozen=True)
class Table:
    """Rows of numbers and words under ``columns`` (``>`` aligns right, as in ``cli.tables``)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Result:
    """An experiment: its tables, what differs from the paper's and why, and how to draw it."""

    name: str
    setting: str
    """What was run, in one line."""
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)
    """For JSON."""
    draw: Callable[[], Figure] | None = None
