"""Small faults to plant in a source file, one at a time, for ``tools/nightly_mutants.py``.

A mutant changes one expression or drops one statement: a comparison by one, an operation, a
constant, a condition, ``min`` for ``max``, a call whose result nobody reads. Texts, annotations,
docstrings, arguments of errors and what only prints are left alone: a test that fails on those
would hold wording, not meaning.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants"]

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Pow: ast.Mult,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum"}
NAMES |= {"maximum": "minimum", "floor": "ceil", "ceil": "floor", "argmin": "argmax"}
SILENT = frozenset({"print", "warn", "simplefilter", "TypeVar", "debug", "progress"})
DRAWN = frozenset({"axes", "ax", "panels", "panel", "figure", "plt", "legend"})


@dataclass(frozen=True)
class Mutant:
    """``text`` in place of the bytes ``start`` to ``end`` of a source file."""

    line: int  # the first it changes, from 1
    what: str  # "a < b -> a <= b", one line
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The mutated file; every other line keeps its number."""
        lost = source[self.start : self.end].count(b"\n")
        return source[: self.start] + self.text.encode() + _rest(source, self.end, lost)


def _rest(source: bytes, end: int, lost: int) -> bytes:
    """What follows; line ends that the change swallowed come back after its own line."""
    stop = source.find(b"\n", end)
    stop = len(source) if stop < 0 else stop
    return source[end:stop] + b"\n" * lost + source[stop:]


def mutants(source: bytes) -> list[Mutant]:
    """Every mutant of a file, in the file's order."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in _meaning(tree):
        for new in _changes(node):
            start = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
            end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
            text = _text(new)
            what = f"{_short(ast.unparse(node))} -> {_short(text)}"
            found.append(Mutant(node.lineno, what, start, end, text))  # type: ignore[attr-defined]
    return sorted(set(found), key=lambda m: (m.start, m.end, m.text))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 70 else f"{text[:67]}..."


def _text(node: ast.AST) -> str:
    text = ast.unparse(node)
    return f"({text})" if isinstance(node, ast.expr) and not isinstance(node, _ATOMS) else text


_ATOMS = (ast.Constant, ast.Name, ast.Call, ast.Attribute)


def _meaning(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose change changes what is computed."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _wording(child):
                continue
            yield child
            yield from _meaning(child)


def _wording(node: ast.AST) -> bool:
    """Texts, errors, what prints, what only types see, the kinds of a signature."""
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Import, ast.ImportFrom, ast.Assert)):
        return True
    if isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "__str__"):
        return True
    if isinstance(node, ast.Expr):
        return _wording(node.value)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return True
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (str, bytes)) or node.value is None or node.value is Ellipsis
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        first, last = called.replace("[", ".").partition(".")[0], called.rpartition(".")[2]
        return last in SILENT or last.endswith("Error") or (first in DRAWN and "." in called)
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return isinstance(target, ast.Name) and target.id == "__all__"
    return False


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    new = copy.deepcopy(node)
    if isinstance(new, (ast.Compare, ast.BinOp, ast.BoolOp)):
        yield from _operations(new)
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, (ast.Not, ast.USub)):
        yield new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, (bool, int, float)):
        value = new.value
        yield ast.Constant(not value if isinstance(value, bool) else value + 1)
    elif isinstance(new, ast.Name) and isinstance(new.ctx, ast.Load) and new.id in NAMES:
        yield ast.Name(NAMES[new.id], ast.Load())
    elif isinstance(new, ast.Attribute) and isinstance(new.ctx, ast.Load) and new.attr in NAMES:
        new.attr = NAMES[new.attr]
        yield new
    elif isinstance(new, ast.IfExp) and not (_text_of(new.body) or _text_of(new.orelse)):
        new.body, new.orelse = new.orelse, new.body
        yield new
    elif isinstance(new, (ast.AugAssign, ast.Continue, ast.Break)):
        yield ast.Pass()
    elif isinstance(new, ast.Expr) and isinstance(new.value, ast.Call):
        yield ast.Pass()


def _operations(new: ast.Compare | ast.BinOp | ast.BoolOp) -> Iterator[ast.AST]:
    if isinstance(new, ast.Compare):
        if type(new.ops[0]) in COMPARISONS:
            new.ops[0] = COMPARISONS[type(new.ops[0])]()
            yield new
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        yield new
    elif type(new.op) in OPERATIONS and not _texts(new):
        new.op = OPERATIONS[type(new.op)]()
        yield new


def _texts(node: ast.BinOp) -> bool:
    """Whether an operation joins or formats texts."""
    return _text_of(node.left) or _text_of(node.right)


def _text_of(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
