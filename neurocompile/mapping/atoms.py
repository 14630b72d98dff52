"""Neurons of a population that have the same consumers, without listing neurons.

What reaches a tile is a product of index sets, one an axis (or a few axes that a pattern couples).
Two indices of an axis that lie in the same of all these sets are alike: the classes of alike
indices are few, and their products, the *atoms*, are what messages are counted by. A population of
10^7 neurons has as many atoms as its consumers' tiles make different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.mapping.alike import alike, members
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

    def inside(self, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
        """Atoms that the tile touches, and its neurons in each: int64, int64."""
        _, atoms, sizes = self.inside_each([tile])
        return atoms, sizes

    def inside_each(self, tiles: Sequence[Tile]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """:meth:`inside` of many tiles, one after the other: which of them, atoms, sizes (int64).

        Along each group of axes tiles have few different ranges, so these are looked up once.
        """
        known: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        all_atoms, all_sizes, lengths = [], [], np.empty(len(tiles), np.int64)
        for i, tile in enumerate(tiles):
            atoms, sizes, single = 0, 1, True
            found_atoms = found_sizes = _NONE
            for number, (group, count) in enumerate(zip(self.groups, self.counts, strict=True)):
                key = (number, *(v for a in group for v in (tile.start[a], tile.stop[a])))
                found = known.get(key)
                if found is None:
                    members = self._members(number, tile)
                    held = np.flatnonzero(members)
                    found = known[key] = held, members[held]
                held, of_held = found
                if single and len(held) == 1:
                    atoms, sizes = atoms * count + int(held[0]), sizes * int(of_held[0])
                elif single:
                    found_atoms, found_sizes = atoms * count + held, sizes * of_held
                    single = False
                elif len(held) == 1:
                    found_atoms = found_atoms * count + held[0]
                    found_sizes = found_sizes * of_held[0]
                else:
                    found_atoms = (found_atoms[:, None] * count + held).ravel()
                    found_sizes = (found_sizes[:, None] * of_held).ravel()
            if single:
                found_atoms, found_sizes = np.array([atoms]), np.array([sizes])
            all_atoms.append(found_atoms)
            all_sizes.append(found_sizes)
            lengths[i] = len(found_atoms)
        which = np.repeat(np.arange(len(tiles)), lengths)
        return which, np.concatenate(all_atoms), np.concatenate(all_sizes)

    def weigh(self, values: np.ndarray, tile: Tile) -> int:
        """Sum over the tile's neurons of the value of their atom; ``values`` int64 of shape
        ``counts``.
        """
        for held in reversed(self.members(tile)):
            values = values @ held
        return int(values)


def random_words(count: int) -> np.ndarray:
    """uint64 (count, 2): always the same ones. Sets are told apart by the sums of their members'
    words (128 bits).
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
    class_of, counts, held, numbers = [], [], [], []
    for group in groups:
        classes, count, chosen, number = _classify(shape, group, reaches)
        class_of.append(classes)
        counts.append(count)
        held.append(chosen)
        numbers.append(number)
    radix = [prod(counts[i + 1 :]) for i in range(len(counts))]
    keys = list(zip(*numbers, strict=True)) if numbers else [()] * len(reaches)
    pins, known = [], dict[tuple[int, ...], np.ndarray]()
    for (consumer, _), key in zip(reaches, keys, strict=True):
        found = known.get(key)  # of many consumers the same classes reach
        if found is None:
            atoms = np.zeros(1, dtype=np.int64)
            for chosen, which, step in zip(held, key, radix, strict=True):
                atoms = (atoms[:, None] + chosen[which] * step).ravel()
            found = known[key] = atoms << 32
        pins.append(found | consumer)
    pairs = distinct(np.concatenate(pins)) if pins else np.zeros(0, dtype=np.int64)
    offsets = np.searchsorted(pairs, np.arange(prod(counts) + 1, dtype=np.int64) << 32)
    return Atoms(
        shape,
        groups,
        tuple(class_of),
        tuple(counts),
        offsets,
        (pairs & 0xFFFFFFFF).astype(np.int32),
    )


def _join(axes: int, sets: list[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The finest grouping of axes in which every set of axes lies within a group."""
    group = {a: {a} for a in range(axes)}
    for together in dict.fromkeys(sets):
        merged = set().union(*(group[a] for a in together)) if together else set()
        for a in merged:
            group[a] = merged
    return tuple(dict.fromkeys(tuple(sorted(group[a])) for a in range(axes)))


def _classify(
    shape: tuple[int, ...], group: tuple[int, ...], reaches: Sequence[tuple[int, Reach]]
) -> tuple[np.ndarray, int, list[np.ndarray], list[int]]:
    """Class of every flat index of the group, number of classes, classes of each set that some
    consumer reads, and which of these sets each consumer does.
    """
    sizes = [shape[a] for a in group]
    keys: dict[tuple[tuple[tuple[int, ...], bytes], ...], int] = {}
    same: dict[tuple[tuple[tuple[int, ...], int], ...], int] = {}
    number, sets = [], []
    for _, reach in reaches:
        parts = [(axes, index) for axes, index in reach.items() if axes[0] in group]
        shared = tuple((axes, id(index)) for axes, index in parts)  # mostly the same arrays
        known = same.get(shared)
        if known is None:
            key = tuple(sorted((axes, index.tobytes()) for axes, index in parts))
            known = keys.get(key)
            if known is None:
                known = keys[key] = len(keys)
                sets.append(_flat(group, sizes, parts))
            same[shared] = known
        number.append(known)
    # An index is known by the sum of random words of the sets that hold it: classes are indices
    # with equal sums.
    words = random_words(len(sets))
    signature = np.zeros((prod(sizes), 2), dtype=np.uint64)
    for index, word in zip(sets, words, strict=True):
        signature[index] += word
    _, classes, count = alike(signature)
    whole = np.arange(count)
    chosen = [
        whole if isinstance(index, slice) else members(classes, index, count) for index in sets
    ]
    return classes, count, chosen, number


def _flat(
    group: tuple[int, ...], sizes: list[int], parts: list[tuple[tuple[int, ...], np.ndarray]]
) -> np.ndarray | slice:
    """Flat indices over the group's axes of a product of sets on some of them."""
    if not parts:
        return slice(None)
    if len(parts) == 1 and parts[0][0] == group:
        return parts[0][1]
    mask = np.ones(sizes, dtype=bool)
    for axes, index in parts:
        lengths = [sizes[group.index(a)] for a in axes]
        part = np.zeros(prod(lengths), dtype=bool)
        part[index] = True
        mask &= part.reshape([sizes[i] if a in axes else 1 for i, a in enumerate(group)])
    return np.flatnonzero(mask)
