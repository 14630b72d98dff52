"""``neurocompile explain``: the long text of an error code."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from neurocompile.cli.common import Output, command
from neurocompile.errors import CATALOGUE
from neurocompile.errors import explain as long_text


@command
def explain(
    code: Annotated[str | None, typer.Argument(metavar="[NC####]", help="A code; without it, all are listed.")] = None,
) -> Output:
    """Explain an error code, or list all of them."""
    if code is None:
        return Output(None, [f"{key}  {title}" for key, (title, _) in sorted(CATALOGUE.items())])
    return Output(None, [textwrap.fill(part, 100) + "\n" for part in long_text(code).split("\n\n")])
