"""Everything that is wrong with the content of a target file: path, value and what is expected, one
line each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
from msgspec import Struct

__all__ = ["problems"]


def problems(content: Any, kind: Any, path: str = "$") -> Iterator[str]:
    """Lines ``path is value: what is expected``; none if ``content`` converts to ``kind``.

    What relates fields of a struct (a range's order, say) is checked where each of them is good by
    itself.
    """
    kind = _chosen(kind, content)
    good = True
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(content, dict):
        config, known = (
            kind.__struct_config__,
            {f.encode_name: f for f in msgspec.structs.fields(kind)},
        )
        for name in content:
            if name not in known and name != config.tag_field:
                good = False
                yield f"{path}.{_shown(name, quoted=False)} is unknown; known: {', '.join(known)}"
        for name, field in known.items():
            if name in content:
                for problem in problems(content[name], field.type, f"{path}.{name}"):
                    good = False
                    yield problem
            elif field.required:
                good = False
                yield f"{path}.{name} is missing"
    if good:
        try:
            msgspec.convert(content, kind, strict=True)
        except (msgspec.ValidationError, RecursionError, OverflowError) as error:
            why, _, inner = str(error).partition(" - at `$")
            inner = inner.rstrip("`")
            simple = not isinstance(content, dict)
            yield (
                f"{path}{inner} is {_shown(content)}: {why}" if simple else f"{path}{inner}: {why}"
            )


def _chosen(kind: Any, content: Any) -> Any:
    """The member of a union that ``content`` is meant as."""
    members = [
        member
        for member in get_args(kind)
        if isinstance(member, type) and issubclass(member, Struct)
    ]
    if not members or not isinstance(content, dict):
        return kind
    tagged = [
        m
        for m in members
        if m.__struct_config__.tag_field
        and content.get(m.__struct_config__.tag_field) == m.__struct_config__.tag
    ]
    return (tagged or (members if len(members) == 1 else [kind]))[0]


def _shown(value: Any, *, quoted: bool = True) -> str:
    try:
        text = repr(value) if quoted else str(value)
    except ValueError:  # more digits than Python prints
        return "a number of very many digits"
    return text if len(text) <= 60 else text[:57] + "..."
