"""What an analysis or a pass knows of each kind of node, population or projection: one table, a rule a
kind, and no default.

A rule is looked up by the exact kind. A kind without one is refused when it comes (NC2013), never
passed through, and named before it comes by a test: every table says which stages' kinds it has to
know (``tests/ir/test_completeness.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from neurocompile.errors import NeurocompileError

__all__ = ["KindTable", "tables"]

Rule = TypeVar("Rule")
Kinds = TypeVar("Kinds", bound=Callable[..., Any])

_TABLES: dict[str, KindTable[Any]] = {}


class KindTable(Generic[Rule]):
    """Rules by kind of node.

    Args:
        name: of the analysis or pass, in the words of its errors.
        stages: of SpikingGraphs whose kinds it has to know; ``population`` or ``projection`` for
            those of circuits.
        what: what a rule says, for the reader of NC2013: "its shape".
    """

    def __init__(self, name: str, stages: Iterable[str], what: str) -> None:
        if name in _TABLES:
            raise ValueError(f"a table '{name}' is there already")
        self.name, self.stages, self.what = name, tuple(stages), what
        self.entries: dict[type, Rule] = {}
        _TABLES[name] = self

    def rule(self, *kinds: type) -> Callable[[Kinds], Kinds]:
        """Decorator: the function is the rule of each of ``kinds``."""

        def register(function: Kinds) -> Kinds:
            self.add(function, *kinds)  # type: ignore[arg-type]
            return function

        return register

    def add(self, rule: Rule, *kinds: type) -> None:
        """``rule`` holds for each of ``kinds``; ValueError if one has a rule already."""
        for kind in kinds:
            if kind in self.entries:
                raise ValueError(f"{self.name} has a rule for {kind.__name__} already")
            self.entries[kind] = rule

    def of(self, item: Any) -> Rule:
        """The rule of ``item``'s kind; NC2013 if there is none."""
        try:
            return self.entries[type(item)]
        except KeyError:
            raise NeurocompileError(
                "NC2013",
                f"layer '{item.name}': {self.name} has no rule for the kind {type(item).__name__}, "
                f"and cannot say {self.what}; register one in its table (docs/new_operator.md)",
                layer=item.name,
            ) from None

    def get(self, item: Any) -> Rule | None:
        """The rule of ``item``'s kind, None without one: for a search that ends, safely, at what it
        does not know. Such a table is of no stage.
        """
        return self.entries.get(type(item))

    def knows(self, kind: type) -> bool:
        """Whether there is a rule for ``kind``."""
        return kind in self.entries


def tables() -> tuple[KindTable[Any], ...]:
    """All tables of the modules imported so far, by name."""
    return tuple(_TABLES[name] for name in sorted(_TABLES))
