"""Cycles of a circuit: what recurrent projections, or windows, tie together, in topological order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurocompile.ir.circuit import Population, Projection

__all__ = ["step_groups", "window_groups"]


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


def step_groups(
    populations: Sequence[Population], projections: Sequence[Projection]
) -> tuple[tuple[Population, ...], ...]:
    """Populations that recurrent projections tie together, in topological order of all others.

    Raises:
        ValueError: for a cycle of these.
    """
    root = _joined([p.name for p in populations], [q for q in projections if q.recurrent])
    members: dict[str, list[Population]] = {}
    for p in populations:
        members.setdefault(root[p.name], []).append(p)
    waiting = dict.fromkeys(members, 0)
    outgoing: dict[str, list[str]] = {name: [] for name in members}
    for q in projections:
        if not q.recurrent:
            waiting[root[q.dst]] += 1
            outgoing[root[q.src]].append(root[q.dst])
    ready = [name for name in reversed(members) if not waiting[name]]
    order = []
    while ready:
        order.append(ready.pop())
        for dst in reversed(outgoing[order[-1]]):
            waiting[dst] -= 1
            if not waiting[dst]:
                ready.append(dst)
    if len(order) != len(members):
        raise ValueError("a cycle")
    return tuple(tuple(members[name]) for name in order)


def _joined(names: Sequence[str], ties: Sequence[Projection]) -> dict[str, str]:
    """Of each name, one that stands for all that ``ties`` join with it."""
    root = {name: name for name in names}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for q in ties:
        root[find(q.src)] = find(q.dst)
    return {name: find(name) for name in names}


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
