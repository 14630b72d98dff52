"""``neurocompile cache``: the finished stages of builds that are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, command

if TYPE_CHECKING:
    from neurocompile.stage_cache import StageCache


class Wish(str, Enum):
    """What ``neurocompile cache`` is asked."""

    list = "list"
    clear = "clear"
    path = "path"


@command
def cache(
    wish: Annotated[
        Wish,
        typer.Argument(
            metavar="list|clear|path", help="What is kept; remove all of it; or where it lies."
        ),
    ],
    json_output: Json = False,
) -> Output:
    """Show or empty the cache that builds keep finished stages in."""
    from neurocompile.stage_cache import opened

    found = opened()
    if found.folder is None:
        return Output({"folder": None, "why": found.why}, [f"nothing is kept: {found.why}"])
    folder = str(found.folder)
    if wish is Wish.path:
        return Output({"folder": folder, "limit_bytes": found.limit}, [folder])
    if wish is Wish.clear:
        freed = sum(entry.bytes for entry in found.entries())
        count = found.clear()
        text = f"removed {count} finished stages ({freed / 1e6:,.1f} MB) from '{folder}'"
        return Output({"folder": folder, "removed": count, "bytes": freed}, [text])
    entries = found.entries()
    data = {"folder": folder, "limit_bytes": found.limit, "entries": entries}
    return Output(data, _listed(found))


def _listed(found: StageCache) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    entries = found.entries()
    total = sum(entry.bytes for entry in entries)
    yield table(
        ("stage", "key", ">MB", "last used"),
        [
            (
                entry.stage,
                entry.key[:16],
                f"{entry.bytes / 1e6:,.2f}",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
            )
            for entry in entries
        ],
    )
    yield f"{total / 1e6:,.1f} MB of at most {found.limit / 1e6:,.0f} MB in '{found.folder}'"
