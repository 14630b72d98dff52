"""``neurocompile explain``: the long text of an error code."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from neurocompile.cli.common import Json, Output, command
from neurocompile.errors import CATALOGUE
from neurocompile.errors import explain as long_text


@command
def explain(
    code: Annotated[str | None, typer.Argument(metavar="[NC####]", help="A code; without it, all are listed.")] = None,
    json_output: Json = False,
) -> Output:
    """Explain an error code, or list all of them."""
    if code is None:
        return Output(
            {"codes": {key: title for key, (title, _) in sorted(CATALOGUE.items())}},
            [f"{key}  {title}" for key, (title, _) in sorted(CATALOGUE.items())],
        )
    lines = long_text(code).split("\n\n")
    title, text = CATALOGUE[code.upper()]
    return Output({"code": code.upper(), "title": title, "text": text}, [textwrap.fill(part, 100) + "\n" for part in lines])
