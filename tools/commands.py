"""The manual of the command line, made from the command line itself.

    python tools/commands.py [-o commands.md]

A section for each command as a manual page has it: name, synopsis, arguments and options with their
defaults, then exit codes and the environment.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from neurocompile.cli import main as _  # noqa: F401 (registers the commands)
from neurocompile.cli.common import app

ENDS = """## Exit codes

0: all is well. 1: a check found something (`parity` a difference, `gate` a limit, `doctor` a problem). 2: an error with its code
(`neurocompile explain NC####`), or wrong usage. 130: Ctrl-C.
"""


def sections(root: Any) -> Iterator[tuple[str, Any]]:
    """(name as typed, command), groups before what they hold."""
    todo = [("neurocompile", root)]
    while todo:
        name, command = todo.pop(0)
        held = getattr(command, "commands", {})
        if name != "neurocompile":
            yield name, command
        todo = [(f"{name} {key}", held[key]) for key in sorted(held)] + todo


def page(name: str, command: Any) -> Iterator[str]:
    """The lines of one command."""
    text = re.sub(r"\s+", " ", (command.help or "").replace("\b", "")).strip()
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    shown = " ".join(_argument(p) for p in arguments)
    yield f"## {name}\n"
    yield f"{text}\n"
    yield f"    {name}{' ' if shown else ''}{shown}{' [OPTIONS]' if options else ''}\n"
    for p in (*arguments, *options):
        words = [_argument(p)] if p in arguments else [*p.opts]
        if p in options:
            words += p.secondary_opts
        help_ = re.sub(r"\s+", " ", getattr(p, "help", None) or "").strip()
        default = (
            "" if p.default in (None, False, (), []) or p.required else f" [{_plain(p.default)}]"
        )
        yield f"- `{'`, `'.join(words)}`{default}: {help_}"
    yield ""


def _argument(p: Any) -> str:
    text = p.metavar or p.name.upper()
    return text if p.required else f"[{text}]"


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))


def reference() -> str:
    """The whole manual, Markdown."""
    lines = [
        "# Commands\n",
        "Made by `python tools/commands.py`; `neurocompile COMMAND --help` says the same.\n",
    ]
    for name, command in sections(get_command(app)):
        lines += page(name, command)
    return "\n".join([*lines, ENDS])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    output = parser.parse_args().output
    if output is None:
        sys.stdout.write(reference())
    else:
        output.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
