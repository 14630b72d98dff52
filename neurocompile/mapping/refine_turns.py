"""Refinement of instances of any size: some consecutive blocks at a time.

Within such a range it is exact: what a net's pins elsewhere cost does not change, and output lists of
vertices elsewhere keep the capacities of their blocks, which are part of the instance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.mapping.output_lists import OutputLists
from neurocompile.mapping.refine import Hypergraph, refine

__all__ = ["Turns", "refine_in_turn"]


def refine_in_turn(
    graph: Hypergraph,
    block: np.ndarray,
    blocks: int,
    *,
    together: int,
    steps: int,
    hot: float,
    cold: float,
    seed: int,
    tick: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """The same as ``refine``: ``together`` consecutive blocks at a time, then once more shifted by
    half of them.

    Args:
        steps: moves to try for each vertex, in each of the two turns.
        tick: called after each range of blocks.
    """
    turns = Turns(graph, block, blocks)
    for shift in (0, together // 2):
        for low in range(-shift, blocks, together):
            first, last = max(low, 0), min(low + together, blocks)
            order = np.flatnonzero((turns.block >= first) & (turns.block < last))
            if len(order) < 2:
                continue
            part, beyond = turns.part(order)
            found = refine(
                part,
                turns.block[order] - first,
                last - first,
                steps=steps * len(order),
                hot=hot,
                cold=cold,
                seed=seed + first,
                beyond=beyond,
            )
            turns.move(order, found + first)
            tick()
    return turns.block


class Turns:
    """An assignment, with what its output lists hold at every moment."""

    def __init__(self, graph: Hypergraph, block: np.ndarray, blocks: int) -> None:
        self.graph, self.block = graph, np.array(block, dtype=np.int64)
        self.lists = graph.lists
        self.first, self.nets = graph.by_vertex
        of, self.lists_of = graph.lists.by_vertex
        self.of = np.concatenate([of, np.full(graph.vertices + 2 - len(of), of[-1])])
        self.entries = self.lists.entries(self.block)
        """Entries of each vertex now."""
        self.used = np.zeros((blocks, len(graph.limit)), dtype=np.int64)
        np.add.at(self.used, self.block, graph.takes)
        self._book(np.arange(graph.vertices), self.entries)

    def _book(self, vertices: np.ndarray, entries: np.ndarray) -> None:
        """Entries that vertices have more."""
        for column in self.lists.columns:
            np.add.at(self.used[:, column], self.block[vertices], entries)

    def part(self, order: np.ndarray) -> tuple[Hypergraph, np.ndarray]:
        """The instance of some vertices, and what blocks hold that own lists of which these are pins."""
        graph = self.graph
        place, count = _ranges(self.first, order)
        net = self.nets[place]
        sorting = np.argsort(net, kind="stable")
        kept, start = np.unique(net[sorting], return_index=True)
        number = np.full(graph.vertices, -1, dtype=np.int64)
        number[order] = np.arange(len(order))
        lists, owners, entries = self._lists(order, number)
        takes = graph.takes[order].copy()
        constant = self.entries[order] - entries[: len(order)]
        for column in lists.columns:
            takes[:, column] += constant
        beyond = self.used[owners].copy()
        for column in lists.columns:
            beyond[:, column] -= entries[len(order) :]
        part = Hypergraph(
            np.append(start, len(net)),
            np.repeat(np.arange(len(order)), count)[sorting].astype(np.int32),
            graph.weight[kept],
            takes,
            graph.limit,
            np.unique(graph.group[order], return_inverse=True)[1].ravel(),
            graph.groups,
            lists,
        )
        return part, beyond

    def _lists(
        self, order: np.ndarray, number: np.ndarray
    ) -> tuple[OutputLists, np.ndarray, np.ndarray]:
        """Lists of which some vertices are pins; blocks elsewhere that own some of these, which are
        numbered behind the vertices; entries of these lists now, by owner.
        """
        chosen = distinct(self.lists_of[_ranges(self.of, order)[0]])
        place, count = _ranges(self.lists.offsets, chosen)
        row, pins = np.repeat(np.arange(len(chosen)), count), self.lists.pins[place]
        inside = number[pins] >= 0
        blocks = len(self.used)
        elsewhere = distinct(row[~inside] * blocks + self.block[pins[~inside]]) // blocks
        owner = self.lists.owner[chosen]
        away = number[owner] < 0
        owners, index = np.unique(self.block[owner[away]], return_inverse=True)
        placed = number[owner]
        placed[away] = len(order) + index.ravel()
        found = OutputLists(
            placed,
            self.lists.size[chosen],
            self.lists.extra[chosen] + np.bincount(elsewhere, minlength=len(chosen)),
            np.concatenate([[0], np.cumsum(np.bincount(row[inside], minlength=len(chosen)))]),
            number[pins[inside]],
            self.lists.least,
            self.lists.columns,
        )
        here = np.concatenate([self.block[order], owners])
        return found, owners, found.entries(here)

    def move(self, order: np.ndarray, found: np.ndarray) -> None:
        """Take the new blocks of some vertices."""
        np.add.at(self.used, self.block[order], -self.graph.takes[order])
        self._book(order, -self.entries[order])
        chosen = distinct(self.lists_of[_ranges(self.of, order)[0]])
        before = self._now(chosen)
        self.block[order] = found
        changed, owner = self._now(chosen) - before, self.lists.owner[chosen]
        np.add.at(self.entries, owner, changed)
        np.add.at(self.used, found, self.graph.takes[order])
        inside = np.zeros(self.graph.vertices, dtype=bool)
        inside[order] = True
        self._book(order, self.entries[order])
        self._book(owner[~inside[owner]], changed[~inside[owner]])

    def _now(self, chosen: np.ndarray) -> np.ndarray:
        """Entries of some lists, int64."""
        place, count = _ranges(self.lists.offsets, chosen)
        row = np.repeat(np.arange(len(chosen)), count)
        pairs = distinct(row * len(self.used) + self.block[self.lists.pins[place]])
        fan = np.bincount(pairs // len(self.used), minlength=len(chosen)) + self.lists.extra[chosen]
        return np.where(fan >= self.lists.least, fan * self.lists.size[chosen], 0)


def _ranges(offsets: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from ``offsets[i]`` to ``offsets[i + 1]`` of all chosen i, one after the other, and how
    many each has.
    """
    count = offsets[chosen + 1] - offsets[chosen]
    ends = np.cumsum(count)
    start = np.repeat(offsets[chosen] - (ends - count), count)
    return start + np.arange(len(start)), count
