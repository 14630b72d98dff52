"""Reads target files: those shipped in ``hw_targets/``, and the user's own. A file may come from a
stranger.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import yaml

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.files import open_input
from neurocompile.targets.problems import problems
from neurocompile.targets.schema import Target

__all__ = ["hardware_targets", "list_targets", "load_target", "parse_target", "target_schema"]

SIZE_LIMIT = 256 * 1024
"""Bytes; the shipped files have under 10 KiB."""
MOST = 50
"""Problems of a file that are listed."""


class _Loader(yaml.SafeLoader):
    """Safe loading, and neither aliases (which can grow exponentially) nor keys given twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"line {self.peek_event().start_mark.line + 1}: aliases are not allowed"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: key {twice[:40]!r} is given twice"
            )
        return super().construct_mapping(node, deep)


def list_targets() -> list[str]:
    """Names of the shipped targets, sorted."""
    files = resources.files("neurocompile.hw_targets").iterdir()
    return sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml"))


@cache
def hardware_targets() -> tuple[str, ...]:
    """Names of the shipped targets that exist, the one with the fewest cores first: somebody
    published a number of each.
    """
    found = [
        target for name in list_targets() if (target := load_target(name)).chips.status != "assumed"
    ]
    return tuple(
        target.name
        for target in sorted(found, key=lambda target: (target.cores, not target.graded))
    )


def load_target(name_or_path: str | Path) -> Target:
    """The shipped target of that name, or the one in the YAML file of that path; NC3001 or NC3002
    on failure.
    """
    name, known = str(name_or_path), list_targets()
    if name in known:
        file = resources.files("neurocompile.hw_targets").joinpath(f"{name}.yaml")
        return parse_target(file.read_bytes(), f"{name}.yaml")
    try:
        path = Path(name)
        if not path.exists():
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'? " if close else ""
            raise NeurocompileError(
                "NC3001",
                f"target {name[:200]!r} is neither a shipped target nor a file. {hint}Shipped: {', '.join(known)}.",
            )
        with open_input(path, "NC3001") as opened:
            data = opened.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise NeurocompileError(
            "NC3001", f"target file {name[:200]!r} cannot be read: {_line(error)}"
        ) from error
    return parse_target(data, path.name)


def parse_target(data: bytes, label: str) -> Target:
    """A target from the bytes of its file; NC3002 with path and value of each wrong field, a line
    each.

    Args:
        data: UTF-8 YAML.
        label: how messages call the file.
    """
    if len(data) > SIZE_LIMIT:
        raise _invalid(label, f"is larger than {SIZE_LIMIT:,} bytes, the limit of a target file")
    try:
        content = yaml.load(data.decode("utf-8"), _Loader)  # a subclass of SafeLoader
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: bad UTF-8, dates, endless digits
        raise _invalid(label, f"is not plain YAML: {_line(error)}") from error
    try:
        return msgspec.convert(content, Target, strict=True)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        lines = list(islice(problems(content, Target), MOST + 1)) or [str(error)]
        if len(lines) > MOST:
            lines[MOST:] = ["and more"]
        raise ViolationList(
            "NC3002", [f"target file {label[:200]!r}: {_line(line)}" for line in lines]
        ) from error


def target_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a target file, from the types of
    :mod:`neurocompile.targets.schema`.

    It cannot say what relates two fields (a range's order, say): :func:`load_target` checks that
    too.
    """
    schema = msgspec.json.schema(Target)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "neurocompile target",
        **schema,
    }


def _invalid(label: str, why: str) -> NeurocompileError:
    return NeurocompileError("NC3002", f"target file {label[:200]!r} {why}")


def _line(error: BaseException | str) -> str:
    """The text of an error in one printable line."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in text)[:300] or type(error).__name__
