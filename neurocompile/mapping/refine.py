"""Moves and swaps of vertices between blocks of a hypergraph under several capacities: km1 by
simulated annealing.

The cost of a net is its weight times (distinct blocks of its pins - 1). A step takes a random
vertex and the block of a random neighbour; the vertex moves there if every capacity allows it,
otherwise it changes places with a random vertex of that block if that is allowed. A change for the
worse is taken with probability exp(-change / temperature). The best assignment of the run is
returned, so the result is never worse than the start.

All arithmetic is on whole numbers (but the temperature), one thread runs it, and chance comes from
a generator of its own: the same input gives the same bytes on any machine and any number of
threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.mapping.output_lists import OutputLists, no_lists

__all__ = ["Hypergraph", "exponential_table", "km1", "refine"]

SCALE = 1 << 20
"""Net weights are whole numbers up to this."""
TABLE_LIMIT = 1 << 27
"""Most entries (nets x blocks) of the table of pin counts: 256 MiB."""


class Kept(NamedTuple):
    """Nets that can cost something, as the kernels take them."""

    offsets: np.ndarray
    """int64 (nets + 1)."""
    pins: np.ndarray
    """int64."""
    weight: np.ndarray
    """int64 (nets)."""
    vertex_offsets: np.ndarray
    """int64 (vertices + 1): where a vertex's nets begin."""
    nets_of: np.ndarray
    """int64."""


@dataclass(frozen=True)
class Hypergraph:
    """Vertices with what they take of a block, and nets."""

    offsets: np.ndarray
    """int64 (nets + 1): where a net's pins begin."""
    pins: np.ndarray
    """int32: vertices of each net, each once."""
    weight: np.ndarray
    """float64 (nets), at least 0."""
    takes: np.ndarray
    """int64 (vertices, resources)."""
    limit: np.ndarray
    """int64 (resources): capacity of a block."""
    group: np.ndarray
    """int32 (vertices): vertices of one group take one of a block's places for groups together."""
    groups: int
    """Places for groups of a block."""
    lists: OutputLists = field(default_factory=no_lists)
    """What vertices take beside ``takes``, as it depends on the blocks of others."""

    @property
    def vertices(self) -> int:
        """Number of vertices."""
        return len(self.takes)

    @cached_property
    def by_vertex(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each vertex's nets begin, int64 (vertices + 1), and these nets, int64."""
        order = np.argsort(self.pins, kind="stable")
        net = np.repeat(np.arange(len(self.weight), dtype=np.int64), np.diff(self.offsets))[order]
        return np.searchsorted(self.pins[order], np.arange(self.vertices + 1)), net

    @cached_property
    def kept(self) -> Kept:
        """Nets of two pins at least with a weight, in whole numbers."""
        keep = (np.diff(self.offsets) > 1) & (self.weight > 0)
        net = np.repeat(np.arange(len(keep)), np.diff(self.offsets))
        chosen = keep[net]
        net, pins = (np.cumsum(keep) - 1)[net[chosen]], self.pins[chosen].astype(np.int64)
        order = np.argsort(pins, kind="stable")
        return Kept(
            np.searchsorted(net, np.arange(int(keep.sum()) + 1)),
            pins,
            self.whole_weights()[keep],
            np.searchsorted(pins[order], np.arange(self.vertices + 1)),
            net[order],
        )

    def used(self, block: np.ndarray) -> np.ndarray:
        """What each block holds, its output lists included, int64 (blocks, resources)."""
        found = np.zeros((int(block.max(initial=-1)) + 1, len(self.limit)), dtype=np.int64)
        takes = self.takes.copy()
        takes[:, self.lists.columns] += self.lists.entries(block)[: self.vertices, None]
        np.add.at(found, block, takes)
        return found

    def fits(self, block: np.ndarray) -> bool:
        """Whether every block keeps every capacity."""
        pairs = distinct(block * (int(self.group.max(initial=0)) + 1) + self.group)
        held = np.bincount(pairs // (int(self.group.max(initial=0)) + 1), minlength=1)
        return bool((self.used(block) <= self.limit).all() and held.max() <= self.groups)

    def whole_weights(self) -> np.ndarray:
        """Weights as whole numbers, int64."""
        most = float(self.weight.max(initial=0.0))
        if most == 0:
            return np.zeros(len(self.weight), dtype=np.int64)
        exact = self.weight == np.rint(self.weight)
        return (
            self.weight if exact.all() and most < 1 << 40 else np.rint(self.weight * (SCALE / most))
        ).astype(np.int64)


def km1(graph: Hypergraph, block: np.ndarray) -> float:
    """Sum over nets of weight x (distinct blocks - 1)."""
    from neurocompile.mapping.ledger import distinct_blocks

    blocks = int(block.max(initial=0)) + 1
    distinct = distinct_blocks(graph.offsets, graph.pins, np.asarray(block, dtype=np.int64), blocks)
    return float((graph.weight * np.maximum(distinct - 1, 0)).sum())


def refine(
    graph: Hypergraph,
    block: np.ndarray,
    blocks: int,
    *,
    steps: int,
    hot: float,
    cold: float,
    seed: int,
    beyond: np.ndarray | None = None,
) -> np.ndarray:
    """A better assignment, int64 (vertices); the given one where none is found or the instance is
    too large.

    Args:
        block: int (vertices): the start, within all capacities.
        blocks: number of blocks.
        steps: moves to try.
        hot: temperature at first, in units of the mean weight of a net.
        cold: temperature at last.
        seed: of the generator.
        beyond: int64 (fixed, resources): what is used of further blocks, whose one vertex each does not
            move and owns lists (numbered behind the others).
    """
    block = np.array(block, dtype=np.int64)
    if beyond is None:
        beyond = np.zeros((0, len(graph.limit)), dtype=np.int64)
    rows = max(len(graph.weight), len(graph.lists.owner))
    if rows * blocks > TABLE_LIMIT or graph.vertices < 2 or blocks < 2 or steps < 1:
        return block
    kept = graph.kept
    if not len(kept.weight):
        return block
    scale = float(kept.weight.mean())
    from neurocompile.mapping.refine_kernels import Cooling, anneal  # numba: a second to import

    return anneal(
        graph,
        kept,
        block,
        blocks,
        Cooling(steps, hot * scale, cold * scale, exponential_table()),
        seed,
        beyond,
    )


def exponential_table() -> np.ndarray:
    """Quantiles of -log(u), u uniform: 4,096 values, rounded so that they are the same on every
    machine.
    """
    return np.round(-np.log((np.arange(4096) + 0.5) / 4096), 6)
