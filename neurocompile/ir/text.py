"""The text form of both graphs: prints, parses back, and is what golden tests and artifacts hold.

One item a line, ``%name = Kind {field = value, ...}``, fields in the order of the dataclass,
defaults left out::

    circuit digits {steps = 4}
    %x = HostInput {shape = [8, 8, 1], layer = "x", low = 0, high = 240}
    %p = Conv2d {src = %x, dst = %y, weight = @conv.weight}
    @conv.weight : int16[8, 3, 3, 1]

``%`` refers to an item, ``@`` to a tensor. Tensor values are not part of the text; they travel
beside it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError

__all__ = ["Ref", "TensorRef", "build", "parse", "print_graph", "print_item", "unique_name"]

NAME = r"[A-Za-z0-9_.\-/:<>+]+"


class Ref(str):
    """The name of another item of the same graph, printed ``%name``."""

    __slots__ = ()


class TensorRef(str):
    """The name of a tensor of the graph, printed ``@name``."""

    __slots__ = ()


def unique_name(wanted: str, taken: Callable[[str], bool]) -> str:
    """``wanted`` as a plain str, or with the first number behind it (``wanted.2``, ...) that is not
    ``taken``.
    """
    name = wanted = str(wanted)
    count = 1
    while taken(name):
        count += 1
        name = f"{wanted}.{count}"
    return name


def _print_value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, TensorRef):
        return f"@{value}"
    if isinstance(value, Ref):
        return f"%{value}"
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return repr(int(value))
    if isinstance(value, (float, np.floating)):
        return repr(float(value))  # numpy 2 would print np.float64(...)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_print_value, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no text form")


def _print_fields(item: Any, skip: tuple[str, ...]) -> str:
    shown = []
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if field.name in skip or (
            field.default is not dataclasses.MISSING and value == field.default
        ):
            continue
        shown.append(f"{field.name} = {_print_value(value)}")
    return "{" + ", ".join(shown) + "}"


def print_item(item: Any) -> str:
    """One line for a frozen dataclass that has a ``name``."""
    return f"%{item.name} = {type(item).__name__} {_print_fields(item, ('name',))}"


def print_graph(keyword: str, graph: Any, items: Iterable[Any], skip: tuple[str, ...]) -> str:
    """The whole text: a header, the items, then the tensors' dtypes and shapes (sorted by name)."""
    lines = [f"{keyword} {json.dumps(graph.name)} {_print_fields(graph, ('name', *skip))}"]
    lines += [print_item(item) for item in items]
    lines += [
        f"@{name} : {tensor.dtype.name}[{', '.join(map(str, tensor.shape))}]"
        for name, tensor in sorted(graph.tensors.items())
    ]
    return "\n".join(lines) + "\n"


_TOKEN = re.compile(
    rf"""\s*(?:(?P<ref>%{NAME})|(?P<tensor>@{NAME})|(?P<string>"(?:[^"\\]|\\.)*")"""
    r"""|(?P<number>[+-]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))"""
    r"""|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[\[\]{},=]))"""
)
_WORDS = {"none": None, "true": True, "false": False}
_DEEPEST = 8
"""Levels of nested lists; graphs have two."""


class _Line:
    """A cursor over the tokens of one line."""

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text
        self.tokens: list[tuple[str, str]] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"unexpected {text[position : position + 12]!r}")
            self.tokens.append((match.lastgroup or "", match.group(match.lastgroup or 0)))
            position = match.end()
        self.at = 0

    def error(self, why: str) -> NeurocompileError:
        return NeurocompileError(
            "NC2005", f"line {self.number}: {why} in {self.text.strip()[:80]!r}"
        )

    def next(self, *expected: str) -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise self.error("the line ends too early")
        kind, token = self.tokens[self.at]
        if (
            expected
            and kind not in expected
            and (token not in expected or token in _TOKEN.groupindex)
        ):
            raise self.error(f"expected {' or '.join(expected)}, found {token!r}")
        self.at += 1
        return kind, token

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def string(self, token: str) -> str:
        try:
            return str(json.loads(token))
        except ValueError as error:
            raise self.error(f"not a JSON string: {token[:40]}") from error

    def value(self, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            raise self.error(f"lists nest deeper than {_DEEPEST}")
        kind, token = self.next("ref", "tensor", "string", "number", "word", "[")
        if kind == "ref":
            return Ref(token[1:])
        if kind == "tensor":
            return TensorRef(token[1:])
        if kind == "string":
            return self.string(token)
        if kind == "number":
            try:
                return int(token) if re.fullmatch(r"[+-]?\d+", token) else float(token)
            except ValueError as error:  # Python refuses thousands of digits
                raise self.error("a number of too many digits") from error
        if kind == "word":
            if token not in _WORDS:
                raise self.error(f"unknown word {token!r}")
            return _WORDS[token]
        values = []
        while self.peek() != "]":
            values.append(self.value(depth + 1))
            if self.peek() != "]":
                self.next(",")
        self.next("]")
        return tuple(values)

    def fields(self) -> dict[str, Any]:
        self.next("{")
        fields: dict[str, Any] = {}
        while self.peek() != "}":
            _, key = self.next("word")
            if key in fields:
                raise self.error(f"field {key!r} is given twice")
            self.next("=")
            fields[key] = self.value()
            if self.peek() != "}":
                self.next(",")
        self.next("}")
        if self.peek():
            raise self.error("text after the closing brace")
        return fields


def parse(
    text: str, keyword: str, kinds: Mapping[str, type], tensors: Mapping[str, np.ndarray]
) -> tuple[str, dict[str, Any], list[Any]]:
    """Read what :func:`print_graph` wrote.

    Returns the graph's name, its header fields and its items. Raises NC2005 with the line for any
    error: an unknown kind or field, a tensor that is missing in ``tensors`` or has another dtype or
    shape.
    """
    lines = [
        _Line(i, line)
        for i, line in enumerate(text.splitlines(), 1)
        if line.strip() and line[0] != "@"
    ]
    if not lines:
        raise NeurocompileError("NC2005", "line 1: the text is empty")
    header = lines[0]
    header.next(keyword)
    name = header.string(header.next("string")[1])
    fields = header.fields()
    items = []
    for line in lines[1:]:
        _, item_name = line.next("ref")
        line.next("=")
        _, kind = line.next("word")
        if kind not in kinds:
            raise line.error(f"unknown kind {kind!r}")
        try:
            items.append(kinds[kind](name=item_name[1:], **line.fields()))
        except TypeError as error:
            raise line.error(f"{kind}: {error}") from error
    for number, line_text in enumerate(text.splitlines(), 1):
        if line_text.startswith("@"):
            _check_tensor(number, line_text, tensors)
    return name, fields, items


def build(make: Callable[..., Any], name: str, **fields: Any) -> Any:
    """``make(name, **fields)`` with the fields of a header; NC2005 for an unknown or a missing one."""
    try:
        return make(name, **fields)
    except TypeError as error:
        raise NeurocompileError("NC2005", f"line 1: header of {name!r}: {error}") from error


def _check_tensor(number: int, line: str, tensors: Mapping[str, np.ndarray]) -> None:
    match = re.fullmatch(rf"@({NAME}) : (\w+)\[([\d, ]*)\]", line.strip())
    if match is None:
        raise NeurocompileError("NC2005", f"line {number}: not a tensor declaration: {line[:80]!r}")
    name, dtype, shape = match.groups()
    if name not in tensors:
        raise NeurocompileError("NC2005", f"line {number}: tensor @{name} has no values")
    found = f"{tensors[name].dtype.name}[{', '.join(map(str, tensors[name].shape))}]"
    if found != f"{dtype}[{shape}]":
        raise NeurocompileError(
            "NC2005", f"line {number}: tensor @{name} is {found}, the text says {dtype}[{shape}]"
        )
