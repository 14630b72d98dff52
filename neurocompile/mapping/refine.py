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

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Hypergraph", "exponential_table", "km1", "refine", "refine_in_turn"]

SCALE = 1 << 20
"""Net weights are whole numbers up to this."""
TABLE_LIMIT = 1 << 27
"""Most entries (nets x blocks) of the table of pin counts: 256 MiB."""


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
    from neurocompile.mapping.refine_kernels import distinct_blocks

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
    """
    block = np.array(block, dtype=np.int64)
    if len(graph.weight) * blocks > TABLE_LIMIT or graph.vertices < 2 or blocks < 2 or steps < 1:
        return block
    keep = (np.diff(graph.offsets) > 1) & (graph.weight > 0)
    if not keep.any():
        return block
    net = np.repeat(np.arange(len(keep)), np.diff(graph.offsets))
    number = np.cumsum(keep) - 1
    chosen = keep[net]
    net, pins = number[net[chosen]], graph.pins[chosen].astype(np.int64)
    offsets = np.searchsorted(net, np.arange(int(keep.sum()) + 1))
    weight = graph.whole_weights()[keep]
    order = np.argsort(pins, kind="stable")
    vertex_offsets = np.searchsorted(pins[order], np.arange(graph.vertices + 1))
    scale = float(weight.mean())
    from neurocompile.mapping.refine_kernels import anneal  # numba takes a second to import

    return anneal(
        offsets,
        pins,
        weight,
        vertex_offsets,
        net[order],
        block,
        blocks,
        graph.takes,
        graph.limit,
        graph.group.astype(np.int64),
        graph.groups,
        steps,
        hot * scale,
        cold * scale,
        np.uint64(seed),
        exponential_table(),
    )


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
) -> np.ndarray:
    """The same for instances of any size: ``together`` consecutive blocks at a time, then once more
    shifted by half of them.

    Within such a range it is exact: what a net's pins elsewhere cost does not change.

    Args:
        steps: moves to try for each vertex, in each of the two turns.
    """
    block = np.array(block, dtype=np.int64)
    first, nets = graph.by_vertex
    for shift in (0, together // 2):
        for low in range(-shift, blocks, together):
            order = np.flatnonzero((block >= low) & (block < low + together))
            if len(order) < 2:
                continue
            count = first[order + 1] - first[order]
            ends = np.cumsum(count)
            place = np.repeat(first[order] - (ends - count), count) + np.arange(int(count.sum()))
            net = nets[place]
            sorting = np.argsort(net, kind="stable")
            kept, start = np.unique(net[sorting], return_index=True)
            part = Hypergraph(
                np.append(start, len(net)),
                np.repeat(np.arange(len(order)), count)[sorting].astype(np.int32),
                graph.weight[kept],
                graph.takes[order],
                graph.limit,
                np.unique(graph.group[order], return_inverse=True)[1].ravel(),
                graph.groups,
            )
            offset = max(low, 0)
            size = min(low + together, blocks) - offset
            moves = steps * len(order)
            found = refine(
                part,
                block[order] - offset,
                size,
                steps=moves,
                hot=hot,
                cold=cold,
                seed=seed + max(low, 0),
            )
            block[order] = found + offset
    return block


def exponential_table() -> np.ndarray:
    """Quantiles of -log(u), u uniform: 4,096 values, rounded so that they are the same on every
    machine.
    """
    return np.round(-np.log((np.arange(4096) + 0.5) / 4096), 6)
