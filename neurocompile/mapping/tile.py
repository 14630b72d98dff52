"""The mapper's unit: a box of a population, a range of tokens times a range of channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from math import prod
from operator import sub

import numpy as np
from msgspec import Struct

from neurocompile.ir.circuit import Population

__all__ = ["Tile", "cut", "grid", "in_two", "merge_boxes", "whole"]


class Tile(Struct, frozen=True, forbid_unknown_fields=True):
    """Neurons of ``population`` with ``start[a] <= index[a] < stop[a]`` on every axis of its shape."""

    population: str
    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along each axis."""
        return tuple(map(sub, self.stop, self.start))

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(map(sub, self.stop, self.start))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of this tile in an array of the population's shape."""
        return tuple(map(slice, self.start, self.stop))

    def __str__(self) -> str:
        ranges = ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))
        return f"{self.population}[{ranges}]"


def whole(population: Population) -> Tile:
    """The tile that is all of a population."""
    return Tile(population.name, (0,) * len(population.shape), population.shape)


def cut(length: int, parts: int, align: int = 1) -> list[tuple[int, int]]:
    """``parts`` nearly equal ranges of ``range(length)``; on multiples of ``align`` where the parts
    are that long.
    """
    step = align if length // parts >= align else 1
    bounds = [i * length // parts // step * step for i in range(parts)] + [length]
    return list(pairwise(bounds))


def in_two(tile: Tile) -> tuple[Tile, ...]:
    """Halves of a tile along its longest axis, the first such one; a single neuron as it is."""
    if tile.size < 2:
        return (tile,)
    axis = max(range(len(tile.shape)), key=lambda a: tile.shape[a])
    middle = tile.start[axis] + tile.shape[axis] // 2
    low = (*tile.stop[:axis], middle, *tile.stop[axis + 1 :])
    high = (*tile.start[:axis], middle, *tile.start[axis + 1 :])
    return Tile(tile.population, tile.start, low), Tile(tile.population, high, tile.stop)


def grid(population: Population, parts: Sequence[int], align: Sequence[int]) -> list[Tile]:
    """Tiles of a population cut into ``parts[a]`` ranges along each axis, in C order."""
    ranges = [cut(n, k, g) for n, k, g in zip(population.shape, parts, align, strict=True)]
    return [
        Tile(population.name, tuple(a for a, _ in box), tuple(b for _, b in box))
        for box in product(*ranges)
    ]


def merge_boxes(tiles: Sequence[Tile], core_of: np.ndarray) -> tuple[list[Tile], np.ndarray]:
    """Tiles of a population that lie on one core and touch along a whole face become one; tiles and
    their cores.

    Merging never takes more of a core: weights and input axons are shared, and the rest adds up.
    """
    held: dict[tuple[int, str], list[Tile]] = {}
    for tile, core in zip(tiles, core_of.tolist(), strict=True):
        held.setdefault((core, tile.population), []).append(tile)
    merged: list[Tile] = []
    cores: list[int] = []
    for (core, _), parts in held.items():
        count = 0
        while count != len(parts):
            count = len(parts)
            for axis in range(len(parts[0].start)):
                parts = _join(parts, axis)
        merged += parts
        cores += [core] * len(parts)
    return merged, np.array(cores, dtype=np.int64)


def _join(parts: list[Tile], axis: int) -> list[Tile]:
    """Tiles joined along one axis where one ends as the next begins and all other ranges are equal."""

    if len(parts) < 2:
        return parts
    keyed = []
    for number, tile in enumerate(parts):
        ranges = list(zip(tile.start, tile.stop, strict=True))
        own = ranges.pop(axis)
        keyed.append((ranges, own, number))
    joined: list[Tile] = []
    before: list[tuple[int, int]] | None = None
    for ranges, (start, _), number in sorted(keyed):
        tile = parts[number]
        if ranges == before and joined[-1].stop[axis] == start:
            joined[-1] = Tile(tile.population, joined[-1].start, tile.stop)
        else:
            joined.append(tile)
        before = ranges
    return joined
