"""Tables in one style: plain, aligned, and never cut when the output is a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from neurocompile.cli.streams import clean

__all__ = ["facts", "print_table", "table"]

_FILE_WIDTH = 400
"""Columns if stdout is no terminal; tables are as wide as their content."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; columns whose name starts with ``>`` are right-aligned (numbers)."""
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        found.add_column(
            name.removeprefix(">"),
            justify="right" if name.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        found.add_row(*map(clean, row))
    return found


def facts(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Name, value, remark: without a header."""
    found = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column()
    found.add_column(justify="right")
    found.add_column(style="dim", overflow="fold")
    for row in rows:
        found.add_row(*map(clean, row))
    return found


def print_table(found: Table) -> None:
    """Print to stdout; names in square brackets are no markup."""
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    console = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(found)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))
