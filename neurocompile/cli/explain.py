"""``neurocompile explain``: the long text of an error code."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from neurocompile.cli.common import Json, Output, command
from neurocompile.cli.flags import as_flags
from neurocompile.error_codes import CATALOGUE
from neurocompile.errors import explain as long_text


@command
def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[NC####]", help="A code; without it, all are listed.")
    ] = None,
    json_output: Json = False,
) -> Output:
    """Explain an error code, or list all of them."""
    if code is None:
        codes = [{"code": key, "title": title} for key, (title, _) in sorted(CATALOGUE.items())]
        return Output(
            {"codes": codes}, [f"{key}  {title}" for key, (title, _) in sorted(CATALOGUE.items())]
        )
    found = long_text(code)
    code = code.upper()
    title, text = CATALOGUE[code]
    data = {"code": code, "title": as_flags(title), "text": as_flags(text)}
    return Output(data, [textwrap.fill(part, 100) + "\n" for part in found.split("\n\n")])
