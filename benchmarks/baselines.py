"""Other ways to assign vertices of a hypergraph to blocks, for the mapping benchmarks. All keep
every capacity, or say None.
"""

from __future__ import annotations

import heapq

import numpy as np

from neurocompile.mapping.refine import Hypergraph
from neurocompile.mapping.seeds import mtkahypar_blocks, repair

__all__ = ["creation_order", "greedy_growth", "kahypar", "metis"]


class _Room:
    """What is used of blocks."""

    def __init__(self, graph: Hypergraph) -> None:
        self.graph, self.used, self.groups = (
            graph,
            np.zeros(len(graph.limit), dtype=np.int64),
            set[int](),
        )

    def takes(self, v: int) -> bool:
        """Book v if it fits."""
        group = int(self.graph.group[v])
        if (self.used + self.graph.takes[v] > self.graph.limit).any() or len(
            self.groups | {group}
        ) > self.graph.groups:
            return False
        self.used += self.graph.takes[v]
        self.groups.add(group)
        return True


def creation_order(graph: Hypergraph) -> np.ndarray:
    """Vertices as they come; the next block once one does not fit."""
    block, number, room = np.zeros(graph.vertices, dtype=np.int64), 0, _Room(graph)
    for v in range(graph.vertices):
        if not room.takes(v):
            number, room = number + 1, _Room(graph)
            room.takes(v)
        block[v] = number
    return block


def greedy_growth(graph: Hypergraph) -> np.ndarray:
    """A block grows by the vertex that exchanges most with it, until that does not fit: how
    nengo-loihi's GreedyInterchip fills a chip with blocks (written anew from its description)."""
    first, nets = graph.by_vertex
    block, number = np.full(graph.vertices, -1, dtype=np.int64), -1
    for seed in range(graph.vertices):
        if block[seed] >= 0:
            continue
        number += 1
        room, pull, heap = _Room(graph), dict[int, float](), [(0.0, seed)]
        while heap:
            strength, v = heapq.heappop(heap)
            if block[v] >= 0 or -strength < pull.get(v, 0.0):
                continue
            if not room.takes(v):
                break
            block[v] = number
            for e in nets[first[v] : first[v + 1]].tolist():
                for w in graph.pins[graph.offsets[e] : graph.offsets[e + 1]].tolist():
                    if block[w] < 0 and w != v:
                        pull[w] = pull.get(w, 0.0) + float(graph.weight[e])
                        heapq.heappush(heap, (-pull[w], w))
    return block


def metis(graph: Hypergraph, blocks: int) -> np.ndarray | None:
    """METIS on pairs (the edge cut; a net is a star around its first pin), then repaired. None if
    that breaks a capacity.
    """
    import pymetis

    size = np.diff(graph.offsets)
    hub = np.repeat(graph.pins[graph.offsets[:-1]], size)
    weight = np.repeat(
        np.maximum(1, np.rint(graph.weight * 1000 / max(graph.weight.max(), 1e-300))).astype(
            np.int64
        ),
        size,
    )
    apart = hub != graph.pins
    source = np.concatenate([hub[apart], graph.pins[apart]]).astype(np.int64)
    target = np.concatenate([graph.pins[apart], hub[apart]]).astype(np.int64)
    key, inverse = np.unique(source * graph.vertices + target, return_inverse=True)
    total = np.bincount(inverse.ravel(), np.concatenate([weight[apart]] * 2)).astype(np.int64)
    start = np.searchsorted(key // graph.vertices, np.arange(graph.vertices + 1))
    share = np.maximum(
        1, np.rint((graph.takes / np.maximum(graph.limit, 1)).max(axis=1) * 10_000)
    ).astype(int)
    adjacency = pymetis.CSRAdjacency(start.tolist(), (key % graph.vertices).tolist())
    _, found = pymetis.part_graph(
        blocks, adjacency, eweights=total.tolist(), vweights=share.tolist()
    )
    return repair(graph, np.array(found), blocks)


def kahypar(
    graph: Hypergraph, blocks: int, seed: int = 42, imbalance: float | None = None
) -> np.ndarray | None:
    """mt-KaHyPar's deterministic preset on km1, then repaired."""
    found = mtkahypar_blocks(graph, blocks, seed, imbalance)
    return None if found is None else repair(graph, found, blocks)
