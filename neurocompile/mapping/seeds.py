"""Assignments of other people's partitioners, and their repair: they know one weight a vertex, a
core has many limits.
"""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.mapping.refine import Hypergraph

__all__ = ["mtkahypar_blocks", "repair", "share"]

SMALLEST, LARGEST, MOST_BLOCKS = 4, 20_000, 256
"""Vertices a block below which, and vertices and blocks above which, no partitioner is asked (its
time grows with both).
"""


@lru_cache(maxsize=1)
def _initialized() -> Any:
    import mtkahypar

    with contextlib.redirect_stdout(io.StringIO()):
        return mtkahypar.initialize(1)


def share(graph: Hypergraph) -> np.ndarray:
    """For each vertex the largest part that it takes of a capacity, float64."""
    if not graph.takes.size:
        return np.zeros(graph.vertices)
    return (graph.takes / np.maximum(graph.limit, 1)).max(axis=1)


def mtkahypar_blocks(
    graph: Hypergraph, blocks: int, seed: int, imbalance: float | None = None
) -> np.ndarray | None:
    """Block of each vertex by mt-KaHyPar's deterministic preset (km1), int64; None without it or if
    it does not apply.

    Args:
        graph: the instance.
        blocks: number of blocks.
        seed: of its generator.
        imbalance: allowed, as a part of the mean block; by default what the capacities leave.
    """
    if find_spec("mtkahypar") is None or graph.vertices > LARGEST:
        return None
    if not 2 <= blocks <= min(MOST_BLOCKS, graph.vertices // SMALLEST):
        return None
    import mtkahypar

    weight = np.ones(graph.vertices, dtype=np.int64)
    if imbalance is None:
        weight = np.maximum(1, np.rint(share(graph) * 10_000)).astype(np.int64)
    if imbalance is None:
        imbalance = max(0.03, 10_000 * blocks / float(weight.sum()) - 1)
    whole = graph.whole_weights()
    keep = np.flatnonzero((np.diff(graph.offsets) > 1) & (whole > 0))
    if not len(keep):
        return None
    pins = graph.pins.tolist()
    nets = [
        pins[a:b]
        for a, b in zip(graph.offsets[keep].tolist(), graph.offsets[keep + 1].tolist(), strict=True)
    ]
    library = _initialized()
    context = library.context_from_preset(mtkahypar.PresetType.DETERMINISTIC)
    context.set_partitioning_parameters(blocks, imbalance, mtkahypar.Objective.KM1)
    context.logging = False
    mtkahypar.set_seed(seed)
    instance = library.create_hypergraph(
        context, graph.vertices, len(nets), nets, weight.tolist(), whole[keep].tolist()
    )
    found = instance.partition(context)
    return np.array([found.block_id(v) for v in range(graph.vertices)], dtype=np.int64)


def repair(graph: Hypergraph, block: np.ndarray, blocks: int) -> np.ndarray | None:
    """The assignment with vertices moved out of overfull blocks into ones with room; None where
    that does not succeed.

    Smallest vertices leave first; each goes to the block that holds most of its nets' weight, of
    those where it fits.
    """
    block = block.copy()
    takes = graph.takes.copy()  # output lists as they are at first; at last all is counted again
    takes[:, graph.lists.columns] += graph.lists.entries(block)[:, None]
    used = np.zeros((blocks, len(graph.limit)), dtype=np.int64)
    np.add.at(used, block, takes)
    held: list[dict[int, int]] = [{} for _ in range(blocks)]
    for v, b in enumerate(block.tolist()):
        held[b][int(graph.group[v])] = held[b].get(int(graph.group[v]), 0) + 1
    first, net_of = graph.by_vertex
    size = share(graph)
    for b in range(blocks):
        for v in np.flatnonzero(block == b)[np.argsort(size[block == b], kind="stable")].tolist():
            if (used[b] <= graph.limit).all() and len(held[b]) <= graph.groups:
                break
            group = int(graph.group[v])
            near: dict[int, float] = {}
            for e in net_of[first[v] : first[v + 1]]:
                for other in set(
                    block[graph.pins[graph.offsets[e] : graph.offsets[e + 1]]].tolist()
                ):
                    near[other] = near.get(other, 0.0) + float(graph.weight[e])
            room = np.flatnonzero((used <= graph.limit - takes[v]).all(axis=1)).tolist()
            room = [c for c in room if c != b and (group in held[c] or len(held[c]) < graph.groups)]
            if not room:
                continue
            best = max(room, key=lambda c: (near.get(c, 0.0), -c))
            block[v] = best
            used[b] -= takes[v]
            used[best] += takes[v]
            held[best][group] = held[best].get(group, 0) + 1
            held[b][group] -= 1
            if not held[b][group]:
                del held[b][group]
    return block if len(distinct(block)) == blocks and graph.fits(block) else None
