"""Puts cores on the mesh: packets times hops, from a snake through the tiles, improved by swaps.

Each step takes the best of all swaps of a core with another core or with a free place; the table of all swaps comes
from one matrix product. At a local optimum a few random swaps kick it out, and the best placement found is kept.
Weights are whole numbers below 2^53 in sum, so results are the same on every machine.
"""

from __future__ import annotations

import numpy as np

from neurocompile.targets.schema import Slot, Target

__all__ = ["hop_matrix", "place"]

KICKS = 8
"""Random restarts."""
SMALL = 256
"""Cores up to which placements are improved; beyond, the snake stands."""


def hop_matrix(target: Target, slots: list[Slot]) -> np.ndarray:
    """Tiles between any two places: int64 (slots, slots), 0 within a tile."""
    position = np.array([target.tile_position(slot) for slot in slots], dtype=np.int64).reshape(-1, 2)
    return np.abs(position[:, None, :] - position[None, :, :]).sum(axis=2)


def place(target: Target, between: np.ndarray, seed: int) -> list[Slot]:
    """A place for each core.

    Args:
        target: its first usable places are taken.
        between: packets a step from core to core, (cores, cores); the diagonal costs nothing.
        seed: of the kicks.
    """
    count = len(between)
    if count < 2 or count > SMALL:
        return target.slot_order(count)
    slots = target.slot_order(SMALL)
    hops = hop_matrix(target, slots).astype(np.float64)
    weight = between + between.T
    np.fill_diagonal(weight, 0.0)
    if weight.max() > 0:
        weight = np.rint(weight * (2.0**24 / weight.max()))
    generator = np.random.default_rng(seed)
    best = _descend(weight, hops, np.arange(count))
    best_cost = _cost(weight, hops, best)
    for _ in range(KICKS):
        placed = _descend(weight, hops, _kick(best, len(slots), generator))
        cost = _cost(weight, hops, placed)
        if cost < best_cost:
            best, best_cost = placed, cost
    return [slots[i] for i in best]


def _cost(weight: np.ndarray, hops: np.ndarray, placed: np.ndarray) -> float:
    return float((weight * hops[np.ix_(placed, placed)]).sum() / 2)


def _kick(placed: np.ndarray, slots: int, generator: np.random.Generator) -> np.ndarray:
    """Three random swaps of a core with a place."""
    placed = placed.copy()
    for _ in range(3):
        _move(placed, int(generator.integers(len(placed))), int(generator.integers(slots)))
    return placed


def _move(placed: np.ndarray, core: int, slot: int) -> None:
    """Put ``core`` at ``slot``; who is there takes its place."""
    placed[placed == slot] = placed[core]
    placed[core] = slot


def _descend(weight: np.ndarray, hops: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Best swap after best swap until none lowers the cost."""
    cores, placed = np.arange(len(placed)), placed.copy()
    while True:
        table = weight @ hops[placed]
        """[core, slot]: cost of the core's packets if it alone moved there."""
        here = table[cores, placed]
        change = table - here[:, None]
        # Where another core is, it moves to this one's place; the two keep their distance.
        change[:, placed] += table[:, placed].T - here[None, :] + 2 * weight * hops[np.ix_(placed, placed)]
        core, slot = np.unravel_index(np.argmin(change), change.shape)
        if change[core, slot] >= 0:
            return placed
        _move(placed, int(core), int(slot))
