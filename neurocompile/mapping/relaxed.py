"""Simulated annealing on km1 that may exceed capacities at a price which rises: full blocks are then
no walls.

Moves that keep every capacity (:mod:`neurocompile.mapping.refine`) get stuck where blocks are full:
two vertices of 2,049 neurons never trade places with three of 1,366 in blocks of 4,096. Here the
energy is

    km1 + price x sum over blocks and resources of (used - limit) / limit where that is positive,

and the price rises from a few times what a block sends to a thousand times that. The best assignment
within all capacities is returned.
"""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.refine import TABLE_LIMIT, Hypergraph, exponential_table

__all__ = ["refine_relaxed"]


def refine_relaxed(
    graph: Hypergraph,
    block: np.ndarray,
    blocks: int,
    *,
    steps: int,
    hot: float,
    cold: float,
    light: float,
    heavy: float,
    seed: int,
    beyond: np.ndarray | None = None,
    first: bool = False,
) -> np.ndarray | None:
    """The best assignment within all capacities that was met, int64 (vertices); None if there was none.

    Args:
        graph: the instance.
        block: int (vertices): the start; it may exceed capacities.
        blocks: number of blocks.
        steps: moves to try.
        hot: temperature at first, in units of the mean weight of a net.
        cold: temperature at last.
        light: price of exceeding a capacity by all of it, at first, in units of what nets cut at the
            start cost a block.
        heavy: price at last.
        seed: of the generator.
        beyond: int64 (fixed, resources): what is used of further blocks, whose one vertex each does not
            move and owns lists (numbered behind the others).
        first: take the first assignment within all capacities.
    """
    block = np.array(block, dtype=np.int64)
    kept = graph.kept
    rows = len(kept.weight) + len(graph.lists.owner)
    if graph.vertices < 2 or blocks < 2 or rows * blocks > TABLE_LIMIT:
        return None
    from neurocompile.mapping.ledger import distinct_blocks  # numba takes a second to import
    from neurocompile.mapping.refine_kernels import Cooling
    from neurocompile.mapping.relaxed_kernels import Prices, anneal

    if beyond is None:
        beyond = np.zeros((0, len(graph.limit)), dtype=np.int64)
    scale = float(kept.weight.mean()) if len(kept.weight) else 1.0
    pins = kept.pins.astype(np.int32)  # as for km1: one kernel
    cut = kept.weight * (distinct_blocks(kept.offsets, pins, block, blocks) - 1)
    sent = max(float(cut.sum()) / blocks, scale)
    best, found = anneal(
        graph,
        kept,
        block,
        blocks,
        Cooling(steps, hot * scale, cold * scale, exponential_table()),
        Prices(light * sent, heavy * sent),
        seed,
        beyond,
        first,
    )
    return best if found else None
