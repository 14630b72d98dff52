"""Puts cores on chips, chips on the board, and cores on the mesh of their chip: packets times hops.

Cores fill the chips in depth order, then trade places between chips for fewer packets from chip to
chip (each message goes to a chip once for each of its cores there); of very many chips, neighbours
trade in turn. Chips and cores start along a snake and are annealed by swaps, three of four of them
to a place beside a partner, until no swap helps. The distance of two cores on different chips is
that to the border, that between the chips, and that from the border: a sum, so the mesh of each
chip is annealed by itself and nothing is approximated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.mapping.refine import TABLE_LIMIT, Hypergraph, exponential_table, refine
from neurocompile.mapping.refine_turns import refine_in_turn
from neurocompile.mapping.tile_graph import Flows
from neurocompile.targets.schema import Slot, Target

__all__ = ["anneal_places", "crossings", "hop_matrix", "hops_of", "place", "swaps_for", "symmetric"]

SWEEPS = 56_000
"""Swaps tried for each core of a chip."""
MOST_SWAPS = 10_000_000
NEAR = 8
"""Places beside a partner that a core is sent to."""
CHIPS_TOGETHER, CHIP_STEPS = 32, 100
"""Of very many chips: how many trade cores at once, and how often each core is moved in a turn."""
LARGE = 250
"""Cores from which on each is swapped less: the time is that of this many."""


@dataclass(frozen=True)
class Matrix:
    """Symmetric sparse matrix of messages between n things, rows sorted, no diagonal."""

    offsets: np.ndarray
    columns: np.ndarray
    weight: np.ndarray
    """int64"""
    unit: float
    """Weight of one message."""


def hop_matrix(target: Target, slots: list[Slot]) -> np.ndarray:
    """Tiles between any two places: int64 (slots, slots), 0 within a tile."""
    position = np.array([target.tile_position(slot) for slot in slots], dtype=np.int64).reshape(
        -1, 2
    )
    return np.abs(position[:, None, :] - position[None, :, :]).sum(axis=2)


def hops_of(target: Target, slots: Sequence[Slot], flows: Flows) -> float:
    """Packets times the tiles they cross."""
    position = np.array([target.tile_position(slot) for slot in slots], dtype=np.int64).reshape(
        -1, 2
    )
    apart = np.abs(position[flows.source] - position[flows.target]).sum(axis=1)
    return float((flows.packets * apart).sum())


def crossings(slots: Sequence[Slot], flows: Flows) -> float:
    """Packets from one chip to another."""
    chip = np.array([slot.chip for slot in slots], dtype=np.int64)
    return float(flows.packets[chip[flows.source] != chip[flows.target]].sum())


def place(target: Target, flows: Flows, cores: int, seed: int) -> list[Slot]:
    """A place for each core, all different and usable.

    Args:
        target: its first usable places are taken.
        flows: packets a step from core to core.
        cores: number of cores, in the order in which they follow each other.
        seed: of the annealing.
    """
    if cores < 1:
        return []
    each, mesh = target.mesh.cores_usable.value, target.mesh
    chips = -(-cores // each)
    chip_of = (
        _assign(flows, cores, chips, each, seed) if chips > 1 else np.zeros(cores, dtype=np.int64)
    )
    between = symmetric(chip_of[flows.source], chip_of[flows.target], flows.packets, chips)
    columns = target.chip_columns.value
    # Of few chips every place on the board, of many the first along the snake: a compact part of
    # it.
    board = np.array(target.chip_order()[: max(chips, min(target.chips.value, 64))], dtype=np.int64)
    extra = target.chip_crossing.value if target.chip_crossing else 0
    steps = np.array([mesh.columns.value + extra, mesh.rows.value + extra])
    places = np.stack([board % columns, board // columns], axis=1) * steps
    chip_at = board[anneal_places(between, places, chips, None, seed, swaps_for(chips, 1))]
    local = np.array([(s.x, s.y, s.core) for s in target.slot_order(each)], dtype=np.int64)
    pulls = _pulls(target, flows, chip_of, chip_at, cores)
    slots: list[Slot] = [Slot(0, 0, 0, 0)] * cores
    inside = chip_of[flows.source] == chip_of[flows.target]
    home = chip_of[flows.source]

    def on_chip(chip: int) -> tuple[np.ndarray, np.ndarray]:
        """Cores of a chip and their places: no other chip's matter."""
        members = np.flatnonzero(chip_of == chip)
        number = np.full(cores, -1, dtype=np.int64)
        number[members] = np.arange(len(members))
        chosen = inside & (home == chip)
        matrix = symmetric(
            number[flows.source[chosen]],
            number[flows.target[chosen]],
            flows.packets[chosen],
            len(members),
        )
        pull = None if pulls is None else pulls[members] @ _borders(target, local)
        swaps = swaps_for(len(members), cores)
        return members, anneal_places(matrix, local[:, :2], len(members), pull, seed + chip, swaps)

    threads = ThreadPoolExecutor(min(chips, os.cpu_count() or 1))  # kernels hold no lock
    try:
        placed = list(threads.map(on_chip, range(chips)))
    finally:  # an interrupt waits for the chips that run, not for all
        threads.shutdown(cancel_futures=True)
    for chip, (members, found) in enumerate(placed):
        for core, at in zip(members.tolist(), found.tolist(), strict=True):
            x, y, deep = local[at].tolist()
            slots[core] = Slot(int(chip_at[chip]), x, y, deep)
    return slots


def swaps_for(things: int, cores: int) -> int:
    """How many swaps to try for a chip of so many cores, of so many in all."""
    share = min(1.0, LARGE / max(cores, 1))
    return min(MOST_SWAPS, int(SWEEPS * things * share))


def _assign(flows: Flows, cores: int, chips: int, each: int, seed: int) -> np.ndarray:
    """Chip of each core, int64: in order, then traded for fewer packets between chips."""
    start = np.arange(cores, dtype=np.int64) // each
    pair = np.flatnonzero(flows.source != flows.target)
    pins = np.sort(np.stack([flows.source[pair], flows.target[pair]], axis=1), axis=1)
    key, inverse = np.unique(pins[:, 0] * cores + pins[:, 1], return_inverse=True)
    weight = np.bincount(inverse.ravel(), flows.packets[pair], len(key))
    ends = np.stack([key // cores, key % cores], axis=1).ravel().astype(np.int32)
    graph = Hypergraph(
        np.arange(len(key) + 1, dtype=np.int64) * 2,
        ends,
        weight,
        np.ones((cores, 1), dtype=np.int64),
        np.array([each], dtype=np.int64),
        np.zeros(cores, dtype=np.int32),
        1,
    )
    if len(key) * chips > TABLE_LIMIT:
        return refine_in_turn(
            graph,
            start,
            chips,
            together=CHIPS_TOGETHER,
            steps=CHIP_STEPS,
            hot=1.0,
            cold=0.02,
            seed=seed,
        )
    steps = min(10_000_000, 1000 * cores)
    return refine(graph, start, chips, steps=steps, hot=1.0, cold=0.02, seed=seed)


def symmetric(source: np.ndarray, target: np.ndarray, packets: np.ndarray, size: int) -> Matrix:
    """Packets in both directions as whole numbers."""
    apart = source != target
    low, high = np.minimum(source, target)[apart], np.maximum(source, target)[apart]
    pair, inverse = np.unique(low * size + high, return_inverse=True)
    weight = np.bincount(inverse.ravel(), packets[apart], len(pair))  # one sum for both directions
    most = float(weight.max(initial=0.0))
    unit = (1 << 24) / most if most else 1.0
    low, high = pair // max(size, 1), pair % max(size, 1)
    key = np.concatenate([pair, high * size + low])
    order = np.argsort(key, kind="stable")
    key, whole = key[order], np.tile(np.rint(weight * unit).astype(np.int64), 2)[order]
    return Matrix(
        np.searchsorted(key // max(size, 1), np.arange(size + 1)), key % max(size, 1), whole, unit
    )


def _pulls(
    target: Target, flows: Flows, chip_of: np.ndarray, chip_at: np.ndarray, cores: int
) -> np.ndarray | None:
    """Packets of each core with chips to the west, east, north and south: float64 (cores, 4); None
    with one chip.
    """
    columns = target.chip_columns.value
    chip = chip_at[chip_of]
    apart = chip_of[flows.source] != chip_of[flows.target]
    if not apart.any():
        return None
    pulls = np.zeros((cores, 4))
    for here, there in ((flows.source, flows.target), (flows.target, flows.source)):
        mine, other, packets = chip[here[apart]], chip[there[apart]], flows.packets[apart]
        for side, toward in enumerate(
            (
                other % columns < mine % columns,
                other % columns > mine % columns,
                other // columns < mine // columns,
                other // columns > mine // columns,
            )
        ):
            np.add.at(pulls[:, side], here[apart][toward], packets[toward])
    return pulls


def _borders(target: Target, local: np.ndarray) -> np.ndarray:
    """Tiles from each place to the west, east, north and south border: float64 (4, places)."""
    x, y = local[:, 0], local[:, 1]
    return np.stack(
        [x, target.mesh.columns.value - 1 - x, y, target.mesh.rows.value - 1 - y]
    ).astype(np.float64)


def anneal_places(
    matrix: Matrix, places: np.ndarray, things: int, pull: np.ndarray | None, seed: int, swaps: int
) -> np.ndarray:
    """Place of each thing, int64 (things), that makes messages times Manhattan distance small.

    Args:
        matrix: messages between things.
        places: int64 (places, 2): column and row; things start at the first ones, in order.
        things: at most the number of places.
        pull: float64 (things, places): further cost of a thing at a place, in messages times hops.
        seed: of the generator.
        swaps: to try.

    Raises:
        NeurocompileError: NC9001 of a matrix that is not symmetric: each swap is priced by the rows of
            its two things, so that of another matrix some swaps help for ever.
    """
    from neurocompile.mapping.placement_kernels import Mesh, anneal

    _require_symmetric(matrix)

    start = np.arange(things, dtype=np.int64)
    if things < 2 or swaps < 1 or (not matrix.weight.any() and pull is None):
        return start
    extra = np.zeros((things, len(places)), dtype=np.int64)
    if pull is not None:  # in the same unit, or without messages in one of its own
        unit = (
            matrix.unit
            if matrix.weight.any()
            else (1 << 24) / max(float(np.abs(pull).max()), 1e-300)
        )
        extra = np.rint(pull * unit).astype(np.int64)
    hot = max(1.0, float(matrix.weight.sum()) / things + float(extra.mean()))
    mesh = Mesh(
        matrix.offsets,
        matrix.columns,
        matrix.weight,
        extra,
        places[:, 0].copy(),
        places[:, 1].copy(),
        _nearest(places),
    )
    return anneal(mesh, start, swaps, hot, hot / 100, seed, exponential_table())


def _require_symmetric(matrix: Matrix) -> None:
    row = np.repeat(np.arange(len(matrix.offsets) - 1), np.diff(matrix.offsets))
    turned = np.lexsort((row, matrix.columns))
    same = np.array_equal(matrix.columns[turned], row)
    same = same and np.array_equal(row[turned], matrix.columns)
    if not same or not np.array_equal(matrix.weight[turned], matrix.weight):
        raise NeurocompileError("NC9001", "placement: messages between cores are not symmetric")


def _nearest(places: np.ndarray) -> np.ndarray:
    """The places around each place, nearest first: int64 (places, at most NEAR)."""
    count = len(places)
    found = np.empty((count, min(NEAR, count - 1)), dtype=np.int64)
    for i in range(count):
        apart = np.abs(places - places[i]).sum(axis=1)
        apart[i] = -1
        found[i] = np.argsort(apart, kind="stable")[1 : 1 + found.shape[1]]
    return found
