"""Neurons of a population that have the same consumers, without listing neurons.

What reaches a tile is a product of index sets, one an axis (or a few axes that a pattern couples).
Two indices of an axis that lie in the same of all these sets are alike: the classes of alike
indices are few, and their products, the *atoms*, are what messages are counted by. A population of
10^7 neurons has as many atoms as its consumers' tiles make different.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from neurocompile.mapping.alike import alike
from neurocompile.mapping.atom_kernels import boxes, classify, spread, words_of
from neurocompile.mapping.tile import Tile

__all__ = ["Atoms", "Reach", "make_atoms", "random_words"]

_NONE = np.zeros(0, np.int64)
Reach = dict[tuple[int, ...], np.ndarray]
"""Axes -> flat indices over them; absent axes are whole."""


@dataclass(frozen=True)
class Atoms:
    """Classes of a population's indices, and the consumers of each atom (a combination of one class
    of each group).
    """

    shape: tuple[int, ...]
    """Of the population (or of its positions)."""
    groups: tuple[tuple[int, ...], ...]
    """Axes that are classified together."""
    class_of: tuple[np.ndarray, ...]
    """For each group: class of every flat index over its axes, int64."""
    counts: tuple[int, ...]
    """For each group: number of classes."""
    offsets: np.ndarray
    """int64 (atoms + 1): where an atom's consumers begin in ``consumers``; atoms in C order of
    their classes.
    """
    consumers: np.ndarray
    """int32: sorted numbers of consumers of each atom, each once."""

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.offsets) - 1

    @cached_property
    def fan(self) -> np.ndarray:
        """Consumers of each atom, int64 of shape ``counts``."""
        return np.diff(self.offsets).reshape(self.counts)

    @cached_property
    def _cumulative(self) -> list[np.ndarray | None]:
        """For each group of a single axis: how many of the first i indices are of each class."""
        found: list[np.ndarray | None] = []
        for group, classes, count in zip(self.groups, self.class_of, self.counts, strict=True):
            if len(group) > 1 or classes.size * count > 1 << 22:
                found.append(None)
                continue
            table = np.zeros((classes.size + 1, count), dtype=np.int64)
            table[np.arange(1, classes.size + 1), classes] = 1
            found.append(np.cumsum(table, axis=0))
        return found

    def members(self, tile: Tile) -> list[np.ndarray]:
        """For each group: the tile's indices of each class, int64 (classes)."""
        return [self._members(number, tile) for number in range(len(self.groups))]

    def _members(self, number: int, tile: Tile) -> np.ndarray:
        """Of one group: the tile's indices of each class, int64 (classes)."""
        group, table = self.groups[number], self._cumulative[number]
        if table is not None:
            return table[tile.stop[group[0]]] - table[tile.start[group[0]]]
        box = self.class_of[number].reshape([self.shape[a] for a in group])[
            tuple(slice(tile.start[a], tile.stop[a]) for a in group)
        ]
        return np.bincount(box.ravel(), minlength=self.counts[number])

    @cached_property
    def representative(self) -> np.ndarray:
        """For each atom the first one with the same consumers, int64."""
        words = random_words(int(self.consumers.max(initial=0)) + 1)
        found = np.zeros((self.size, 2), dtype=np.uint64)
        words_of(self.offsets, self.consumers, words, found)
        return alike(found)[0]

    def inside(
        self, tiles: Sequence[Tile], *, keep: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Neurons of each tile by their consumers: tile, first atom with these consumers, and how
        many, int64, sorted by the first two; those without consumers only if ``keep``.
        """
        rank = len(self.shape)
        starts = np.array([tile.start for tile in tiles], np.int64).reshape(len(tiles), rank)
        stops = np.array([tile.stop for tile in tiles], np.int64).reshape(len(tiles), rank)
        classes = np.concatenate(self.class_of) if self.class_of else _NONE
        counts, most = np.array(self.counts, np.int64), sum(self.counts)
        given = (
            *(starts, stops, np.array(self.shape, np.int64)),
            np.array([axis for group in self.groups for axis in group], np.int64),
            _begins(len(group) for group in self.groups),
            _begins(len(of) for of in self.class_of),
            *(classes, counts, self.representative, self.offsets, keep),
            np.empty((3, len(counts)), np.int64),
            *(np.zeros(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)),
            np.full(self.size, -1, np.int64),
        )
        rows = boxes(*given, _NONE, _NONE, _NONE)
        owner, atom, size = (np.empty(rows, np.int64) for _ in range(3))
        rows = boxes(*given, owner, atom, size) if rows else 0
        order = np.argsort(owner[:rows] * self.size + atom[:rows], kind="stable")
        return owner[order], atom[order], size[order]

    def weigh(self, values: np.ndarray, tile: Tile) -> int:
        """Sum over the tile's neurons of the value of their atom; ``values`` int64 of shape
        ``counts``.
        """
        for held in reversed(self.members(tile)):
            values = values @ held
        return int(values)


def random_words(count: int) -> np.ndarray:
    """uint64 (count, 2): always the same ones. Sets are told apart by their members' words,
    combined (126 bits).
    """
    words = _words(1 << max(count - 1, 255).bit_length())
    return words[:count]


@lru_cache(maxsize=2)
def _words(count: int) -> np.ndarray:
    words = np.random.default_rng(1).integers(0, 1 << 63, (count, 2), dtype=np.uint64)
    words.flags.writeable = False
    return words


def make_atoms(shape: tuple[int, ...], reaches: Sequence[tuple[int, Reach]]) -> Atoms:
    """Atoms of a population.

    Args:
        shape: of the population.
        reaches: (consumer, what reaches it); a consumer may come several times, then any of its
            sets counts.
    """
    groups = _join(len(shape), [axes for _, reach in reaches for axes in reach])
    sets = np.full((len(reaches), len(groups)), -1, np.int64)
    chosen, first_set = list[np.ndarray](), [0]
    for number, group in enumerate(groups):
        _collect(shape, group, reaches, chosen, sets[:, number])
        first_set.append(len(chosen))
    at = _begins(prod(shape[a] for a in group) for group in groups)
    ends, indices = _begins(map(len, chosen)), int(at[-1])
    index = np.concatenate(chosen) if chosen else _NONE
    counts, class_of = np.empty(len(groups), np.int64), np.empty(indices, np.int64)
    held, member = np.empty(len(chosen) + 1, np.int64), np.empty(len(index), np.int64)
    classify(
        *(at, np.array(first_set, np.int64), ends, index, random_words(len(chosen))),
        np.zeros((indices, 2), np.uint64),
        np.empty(1 << (2 * int(np.diff(at).max(initial=0))).bit_length(), np.int64),
        *(np.empty(indices, np.int64), class_of, counts, held, member),
    )
    atoms = prod(counts.tolist())
    consumer = np.array([number for number, _ in reaches], np.int32)
    order = np.argsort(consumer, kind="stable")
    scratch = np.empty((2, len(groups)), np.int64)
    given = sets[order], consumer[order], counts, held, member, scratch
    offsets = np.zeros(atoms + 1, np.int64)
    spread(*given, np.full(atoms, -1, np.int32), offsets, np.zeros(0, np.int32))
    np.cumsum(offsets, out=offsets)
    consumers, end = np.empty(int(offsets[-1]), np.int32), offsets.copy()
    if len(consumers):
        spread(*given, np.full(atoms, -1, np.int32), end, consumers)
    return Atoms(
        shape,
        groups,
        tuple(class_of[a:b] for a, b in pairwise(at.tolist())),
        tuple(counts.tolist()),
        offsets,
        consumers,
    )


def _begins(lengths: Iterable[int]) -> np.ndarray:
    """Where each of some arrays begins when they stand one after another, and the end, int64."""
    return np.array([0, *accumulate(lengths)], np.int64)


def _join(axes: int, sets: list[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The finest grouping of axes in which every set of axes lies within a group."""
    group = {a: {a} for a in range(axes)}
    for together in dict.fromkeys(sets):
        merged = set().union(*(group[a] for a in together)) if together else set()
        for a in merged:
            group[a] = merged
    return tuple(dict.fromkeys(tuple(sorted(group[a])) for a in range(axes)))


def _collect(
    shape: tuple[int, ...],
    group: tuple[int, ...],
    reaches: Sequence[tuple[int, Reach]],
    chosen: list[np.ndarray],
    number: np.ndarray,
) -> None:
    """Add the different sets of a group's indices that consumers read, and say which of them each
    consumer does (``number``, -1 for all indices).
    """
    sizes = [shape[a] for a in group]
    same = dict[tuple[tuple[tuple[int, ...], int], ...], int]()
    for row, (_, reach) in enumerate(reaches):
        index = reach.get(group)
        parts = [(group, index)] if index is not None else []
        if index is None and len(group) > 1:
            parts = [(axes, index) for axes, index in reach.items() if axes[0] in group]
        if not parts:
            continue
        key = tuple((axes, id(index)) for axes, index in parts)  # mostly the same arrays
        known = same.get(key)
        if known is None:
            known = same[key] = len(chosen)
            chosen.append(_flat(group, sizes, parts))
        number[row] = known


def _flat(
    group: tuple[int, ...], sizes: list[int], parts: list[tuple[tuple[int, ...], np.ndarray]]
) -> np.ndarray:
    """Flat indices over the group's axes of a product of sets on some of them."""
    if len(parts) == 1 and parts[0][0] == group:
        return parts[0][1]
    mask = np.ones(sizes, dtype=bool)
    for axes, index in parts:
        lengths = [sizes[group.index(a)] for a in axes]
        part = np.zeros(prod(lengths), dtype=bool)
        part[index] = True
        mask &= part.reshape([sizes[i] if a in axes else 1 for i, a in enumerate(group)])
    return np.flatnonzero(mask)
