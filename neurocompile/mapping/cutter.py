"""Finds how to cut one population: the search that all ways to cut share.

While it searches, a cut is judged by its middle and its corner tiles; all tiles of the chosen one
are counted. So the time is that of the tiles, whatever the number of neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from math import prod
from operator import le

import msgspec
import numpy as np

from neurocompile.distinct import distinct
from neurocompile.ir.circuit import Conv2d, Population, Strided
from neurocompile.mapping.atoms import Atoms
from neurocompile.mapping.grants import Grants, granted
from neurocompile.mapping.resources import CostCounter, Usage, limits_of
from neurocompile.mapping.tile import Tile, cut
from neurocompile.mapping.tile_graph import atoms_of
from neurocompile.targets.schema import RESOURCES

__all__ = ["SAVES", "Chosen", "Cut", "Cutter", "Style", "orders_of"]

SAVES = 0.95
"""Part of the cores of two cuts at which cutting both alike is worth more messages."""


@dataclass(frozen=True)
class Style:
    """How to cut."""

    slack: float = 1.1
    """Cores that a population may fill, as a multiple of the fewest, for the sake of fewer packets.
    """
    fineness: int = 1
    """Tiles take at most this part of a core, where that repeats few weights: small tiles leave
    packing a choice.
    """
    spikes: Grants | None = None
    """Expected messages a step that a core may send."""
    pairs: bool = False
    """Whether terms are cut like their sums, where that saves cores or messages."""
    room: float = 0.0
    """Above 0: terms fill cores up to this part of the neurons, their sums what is left there of
    axons and words.
    """


@dataclass(frozen=True)
class Cut:
    """A way to cut, judged by a few of its tiles."""

    parts: tuple[int, ...]
    cores: float
    """Cores filled if tiles shared cores with their like alone (of two just above half, each fills
    one).
    """
    packets: float
    """Messages that arrive in a step."""
    total: int
    boxes: int = 0
    """Of sums: pairs of a tile and a box of terms that it reads."""

    @property
    def tiles(self) -> int:
        """Their number."""
        return prod(self.parts)


@dataclass(frozen=True)
class Chosen:
    """The best cut with all its tiles."""

    cut: Cut
    tiles: list[tuple[Tile, Usage]]
    sums: list[tuple[Tile, Usage]]
    """Of a pair: the tiles of the sums, in the same order."""

    @property
    def total(self) -> int:
        """Of all tiles."""
        return sum(usage.total for _, usage in (*self.tiles, *self.sums))

    def better(self, sums: Chosen, terms: Chosen) -> bool:
        """Whether this cut of a pair saves cores, or messages at about the same number of cores."""
        cores, packets = sums.cut.cores + terms.cut.cores, sums.cut.packets + terms.cut.packets
        return self.cut.cores <= SAVES * cores or (
            self.cut.packets <= packets and self.cut.cores <= 1.1 * cores
        )


class Cutter:
    """Finds how to cut one population."""

    def __init__(
        self,
        counter: CostCounter,
        population: Population,
        rates: Mapping[str, float],
        style: Style,
        homes: Mapping[str, list[tuple[int, Tile]]],
    ) -> None:
        self.counter, self.population, self.rates, self.style, self.homes = (
            counter,
            population,
            rates,
            style,
            homes,
        )
        self.align = _alignment(counter, population)
        # consumers in a loop are cut later than their source, or with it: one tile a neuron if they
        # are one to one
        self.loops = sum(q.recurrent for q in counter.outgoing[population.name])
        self.fineness = style.fineness
        self.most = granted(style.spikes, population.layer)
        self.beside, self.share = Usage(), 1
        """What a core holds beside ``share`` tiles."""
        self.terms: tuple[Strided, tuple[int, ...]] | None = None
        """Of sums: the projection from their terms, and the widths of the boxes that these are cut
        to.
        """
        self.cuttable = population.shape
        """Extent along each axis, 1 where it is not to be cut."""
        self._roomy: tuple[Usage | None, int, tuple[int, ...]] = (None, 0, ())
        self._judged: dict[tuple[int, ...], Cut | None] = {}

    @cached_property
    def _lists(self) -> list[tuple[np.ndarray, Atoms, bool]]:
        """(entries of each atom, atoms, whether by position) of the output lists, each consumer
        tile on its own core.
        """
        name, least = self.population.name, self.counter.cost.least_listed
        found = []
        for which, used in (
            ("neuron", self.counter.neuronal),
            ("position", self.counter.positional),
        ):
            if name in used and (self.counter.outgoing[name] or name in self.counter.to_host):
                atoms = atoms_of(self.counter, name, self.homes, which)
                fan = atoms.fan + (
                    self.loops + (name in self.counter.to_host) if which == "neuron" else 0
                )
                found.append((np.where(fan >= least, fan, 0), atoms, which == "position"))
        return found

    def usage(self, tile: Tile) -> Usage:
        """Resources of a tile, output lists included."""
        usage = self.counter.usage(tile)
        if not self._lists:
            return usage
        entries = 0
        for values, atoms, positional in self._lists:
            box = Tile(tile.population, tile.start[:-1], tile.stop[:-1]) if positional else tile
            entries += atoms.weigh(values, box)
        return msgspec.structs.replace(usage, axon_memory=entries)

    def fits(self, tile: Tile, usage: Usage) -> bool:
        """Whether a tile fits a core, or the part of one that tiles may take."""
        rate = self.rates.get(tile.population, 1.0)
        if rate * tile.size * self.fineness > self.most:
            return False
        return all(map(le, usage.columns(), self._room()))

    def _room(self) -> tuple[int, ...]:
        """What a tile may take, in the order of :meth:`Usage.columns`."""
        beside, parts, room = self._roomy
        if beside is not self.beside or parts != self.fineness * self.share:
            parts = self.fineness * self.share
            names, limits = (*RESOURCES, "total"), limits_of(self.counter.target)
            room = tuple(
                (limit - held) // (1 if name == "neuron_groups" else parts)
                for name, limit, held in zip(names, limits, self.beside.columns(), strict=True)
            )
            self._roomy = self.beside, parts, room
        return room

    def best(self) -> Chosen | None:
        """The best cut; None if single neurons do not fit."""
        fine = self.search(self.style.fineness)
        if fine is None or self.style.fineness == 1:
            return fine if fine is not None or self.style.fineness == 1 else self.search(1)
        if fine.total <= 1.1 * self.uncut.total:  # cutting less saves little
            return fine
        coarse = self.search(1)
        return coarse if coarse is not None and fine.total > 1.1 * coarse.total else fine

    def search(self, fineness: int) -> Chosen | None:
        """The best cut of one fineness; None if single neurons do not fit."""
        self.fineness = fineness
        self._judged.clear()
        return self._choose(self._cuts()) if self.possible() else None

    @property
    def uncut(self) -> Usage:
        """Of the whole population, output lists left out."""
        return self.counter.uncut[self.population.name]

    def _least(self) -> int:
        """Parts that are needed at least."""
        capacity, uncut = self.counter.target.capacity, self.uncut
        parts = [
            -(-getattr(uncut, r) * self.fineness // limit)
            for r, limit in capacity.items()
            if limit and r != "neuron_groups"
        ]
        return max(1, *parts)

    def possible(self) -> bool:
        """Whether a single neuron fits."""
        middle = self._neuron(tuple(n // 2 for n in self.population.shape))
        return self.fits(middle, self.usage(middle))

    def _choose(self, cuts: list[Cut]) -> Chosen | None:
        """The first of the cuts, best first, of which all tiles fit."""
        if not cuts:
            return None
        least = min(cut.cores for cut in cuts)
        ranked = sorted(
            cuts,
            key=lambda c: (
                c.cores > self.style.slack * least + 1e-9,
                c.packets,
                c.boxes,
                c.cores,
                c.total,
                c.parts,
            ),
        )
        for cut_ in ranked:
            found = self.all_tiles(cut_)
            if found is not None:
                return found
        ones = self._judge(self._single())
        return None if ones is None else self.all_tiles(ones)

    def all_tiles(self, cut_: Cut) -> Chosen | None:
        """All tiles of a cut, if they fit."""
        boxes = product(*self._ranges(cut_.parts))
        tiles = [
            Tile(self.population.name, tuple(a for a, _ in box), tuple(b for _, b in box))
            for box in boxes
        ]
        found = [(tile, self.usage(tile)) for tile in tiles]
        return (
            Chosen(cut_, found, [])
            if all(self.fits(tile, usage) for tile, usage in found)
            else None
        )

    def _cuts(self) -> list[Cut]:
        """For each order of the token axes and each number of channel parts the cut with the fewest
        parts that fits.
        """
        shape = self.cuttable
        whole_ = self._judge((1,) * len(shape))
        if whole_ is not None:
            return [whole_]
        tokens, found, fewest = prod(shape[:-1]), dict[tuple[int, ...], Cut](), 0
        for channel_parts in _channel_candidates(shape):
            if fewest and channel_parts > 2 * fewest:
                break
            for order in orders_of(shape):
                cut_ = self._fewest_token_parts(channel_parts, tokens, order)
                if cut_ is not None:
                    found[cut_.parts] = cut_
                    fewest = min(fewest or cut_.tiles, cut_.tiles)
        return list(found.values())

    def _ranges(self, parts: tuple[int, ...]) -> list[list[tuple[int, int]]]:
        """The ranges along each axis."""
        return [
            cut(n, k, g) for n, k, g in zip(self.population.shape, parts, self.align, strict=True)
        ]

    def _single(self) -> tuple[int, ...]:
        """The cut into single neurons."""
        return self.cuttable

    def heaviest(self) -> Tile:
        """A single neuron that breaks a limit; the middle one unless only others do."""
        self.fineness = 1
        middle = tuple(n // 2 for n in self.population.shape)
        for index in (middle, *product(*map(range, self.population.shape))):
            tile = self._neuron(index)
            if not self.fits(tile, self.usage(tile)):
                return tile
        raise RuntimeError(f"population '{self.population.name}' has no neuron that breaks a limit")

    def _neuron(self, index: tuple[int, ...]) -> Tile:
        return Tile(self.population.name, index, tuple(i + 1 for i in index))

    def _fewest_token_parts(
        self, channel_parts: int, tokens: int, order: tuple[int, ...]
    ) -> Cut | None:
        """Fewest token parts that fit: more and more until they do, then bisect."""
        low = min(-(-self._least() // channel_parts), tokens) - 1
        high, step = low + 1, 1
        found = self._judge(_parts(self.cuttable, high, channel_parts, order))
        while found is None and high < tokens:
            low, high, step = high, min(high + step, tokens), 2 * step
            found = self._judge(_parts(self.cuttable, high, channel_parts, order))
        while found is not None and high - low > 1:
            middle = (low + high) // 2
            smaller = self._judge(_parts(self.cuttable, middle, channel_parts, order))
            low, high, found = (middle, high, found) if smaller is None else (low, middle, smaller)
        return found

    def _judge(self, parts: tuple[int, ...]) -> Cut | None:
        """The cut, or None if one of its middle and corner tiles does not fit."""
        if parts not in self._judged:
            self._judged[parts] = self._try(parts)
        return self._judged[parts]

    def _try(self, parts: tuple[int, ...]) -> Cut | None:
        ranges = self._ranges(parts)
        name, share, total, packets = self.population.name, 0.0, 0, 0.0
        limits = limits_of(self.counter.target)
        for place in dict.fromkeys(
            (tuple(k // 2 for k in parts), (0,) * len(parts), tuple(k - 1 for k in parts))
        ):
            box = [ranges[a][i] for a, i in enumerate(place)]
            tile = Tile(name, tuple(a for a, _ in box), tuple(b for _, b in box))
            if self._too_large(tile):
                return None
            usage = self.usage(tile)
            if not self.fits(tile, usage):
                return None
            if self.terms:
                share = max(share, 1 / self.share)
            else:
                taken = zip(usage.columns(), limits, strict=True)
                share = max(share, 1 / min(limit // used for used, limit in taken if used))
            total, packets = max(total, usage.total), max(packets, self._arriving(tile))
        return Cut(
            parts,
            round(share * prod(parts), 6),
            packets * prod(parts),
            total * prod(parts),
            self._boxes(tile) * prod(parts),
        )

    def _too_large(self, tile: Tile) -> bool:
        """Whether a tile does not fit for its neurons alone, or for what it takes without output
        lists, which are counted last: most cuts that are tried end here.
        """
        if tile.size > self._room()[RESOURCES.index("neurons")]:
            return True
        return not Cutter.fits(self, tile, self.counter.usage(tile))

    def _boxes(self, tile: Tile) -> int:
        """Boxes of terms that a tile of sums reads."""
        if self.terms is None:
            return 0
        projection, widths = self.terms
        reach = self.counter.reach(projection, tile)
        if reach is None or any(len(axes) > 1 for axes in reach):
            return 0
        return prod(len(distinct(index // widths[axes[0]])) for axes, index in reach.items())

    def _arriving(self, tile: Tile) -> float:
        """Messages a step that a tile receives."""
        return self._received(tile, "")

    def _received(self, tile: Tile, but: str) -> float:
        """The same without one projection."""
        incoming = (q for q in self.counter.circuit.incoming[tile.population] if q.name != but)
        return round(
            sum(self.rates.get(q.src, 1.0) * self.counter.senders(q, tile) for q in incoming), 6
        )


def _channel_candidates(shape: tuple[int, ...]) -> Iterator[int]:
    """Numbers of channel parts worth trying: few, divisors, and at last single channels."""
    channels = shape[-1] if shape else 1
    for parts in range(1, channels + 1):
        if parts <= 8 or channels % parts == 0:
            yield parts


def orders_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders in which token axes are cut: an axis is cut to single steps before the next one is."""
    axes = [a for a, n in enumerate(shape[:-1]) if n > 1]
    return list(permutations(axes)) if len(axes) <= 3 else [tuple(axes)]


def _parts(
    shape: tuple[int, ...], token_parts: int, channel_parts: int, order: tuple[int, ...]
) -> tuple[int, ...]:
    """Parts along each axis: tokens are cut along the first axis of ``order``, and along the next
    once that is in single steps."""
    if not shape:
        return ()
    parts = [1] * len(shape)
    for axis in order:
        parts[axis] = min(shape[axis], token_parts)
        token_parts = -(-token_parts // shape[axis])
    parts[-1] = channel_parts
    return tuple(parts)


def _alignment(counter: CostCounter, population: Population) -> list[int]:
    """For each axis the largest stride at which a consumer reads it: cuts at multiples share no
    windows.
    """
    align = [1] * len(population.shape)
    for projection in counter.outgoing[population.name]:
        if isinstance(projection, Conv2d):
            steps = list(enumerate(projection.stride))
        elif isinstance(projection, Strided):
            steps = [place for place in counter.pattern(projection).src_axes or () if place]
        else:
            continue
        for axis, step in steps:
            align[axis] = max(align[axis], abs(step))
    return align
