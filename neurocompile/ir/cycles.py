"""Cycles of a folded circuit: its strongly connected components, in topological order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurocompile.ir.circuit import Population, Projection

__all__ = ["window_groups"]


def window_groups(
    populations: Sequence[Population], projections: Sequence[Projection]
) -> tuple[tuple[Population, ...], ...]:
    """Strongly connected components of the populations, sources first; the members of one in an
    order in which what arrives in the same window comes first.

    Raises:
        ValueError: for a cycle whose projections have no lag: it would need its own output.
    """
    outgoing: dict[str, list[str]] = {p.name: [] for p in populations}
    for q in projections:
        outgoing[q.src].append(q.dst)
    component = _components(outgoing)
    known = {p.name: p for p in populations}
    inside: dict[str, list[str]] = {p.name: [] for p in populations}
    for q in projections:
        if component[q.src] == component[q.dst] and not q.lag:
            inside[q.src].append(q.dst)
    order = _components(inside)
    if len(set(order.values())) < len(known) or any(n in out for n, out in inside.items()):
        raise ValueError("a cycle of projections without a lag")
    groups: dict[int, list[str]] = {}
    for name in sorted(known, key=lambda n: -order[n]):
        groups.setdefault(component[name], []).append(name)
    return tuple(
        tuple(known[name] for name in groups[number]) for number in sorted(groups, reverse=True)
    )


def _components(outgoing: dict[str, list[str]]) -> dict[str, int]:
    """Number of each name's strongly connected component; sources have larger numbers (Tarjan
    1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    found: dict[str, int] = {}
    stack: list[str] = []
    count = 0
    for root in outgoing:
        if root in index:
            continue
        work = [(root, iter(outgoing[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            name, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    work.append((other, iter(outgoing[other])))
                    break
                if other not in found:
                    low[name] = min(low[name], index[other])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[name])
                if low[name] == index[name]:
                    while True:
                        member = stack.pop()
                        found[member] = count
                        if member == name:
                            break
                    count += 1
    return found
