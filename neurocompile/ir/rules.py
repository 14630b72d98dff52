"""What a rule of legality is, and how tables of them are checked: a text that a hardware person can
read, and a check that yields a complaint for each item that breaks it.

:mod:`neurocompile.ir.spiking_rules` and :mod:`neurocompile.ir.circuit_rules` have the tables. NC2004
lists every broken rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError

__all__ = ["Rule", "broken", "divides", "raise_broken", "unless", "unmet"]


@dataclass(frozen=True)
class Rule:
    """``check(graph, item)`` returns what is wrong with ``item`` (of one of ``kinds``), or None."""

    text: str
    kinds: tuple[type[Any], ...]
    check: Callable[[Any, Any], str | None]
    stages: tuple[str, ...] = ()
    """Stages the rule holds at; all if empty."""


def unless(good: bool, why: str) -> str | None:
    """None if ``good``, else ``why``."""
    return None if good else why


def divides(weight: np.ndarray, exponent: int) -> bool:
    """True if ``2^-exponent``, up to 128, divides every weight."""
    return -7 <= exponent < 0 and not (weight & ((1 << -exponent) - 1)).any()


def broken(
    rules: tuple[Rule, ...], graph: Any, items: tuple[Any, ...], stage: str
) -> Iterator[str]:
    """What is wrong with each of ``items`` by the rules that hold at ``stage``."""
    for rule in rules:
        if rule.stages and stage not in rule.stages:
            continue
        for item in items:
            if isinstance(item, rule.kinds) and (why := rule.check(graph, item)):
                yield f"%{item.name}: {why} (rule: {rule.text})"


def unmet(rules: tuple[Rule, ...], graph: Any) -> Iterator[tuple[Rule, str]]:
    """(rule, what is wrong) for each of ``rules`` that ``graph``, of any stage, does not keep."""
    for rule in rules:
        for item in (graph, *graph.items):
            if isinstance(item, rule.kinds) and (why := rule.check(graph, item)):
                yield rule, f"%{item.name} {why}"
                break


def raise_broken(complaints: list[str], after: str) -> None:
    """NC2004 with the first of ``complaints``, if there are any."""
    if complaints:
        more = f" and {len(complaints) - 5} more" if len(complaints) > 5 else ""
        raise NeurocompileError("NC2004", f"after {after}: " + "; ".join(complaints[:5]) + more)
