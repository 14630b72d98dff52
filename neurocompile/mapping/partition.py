"""Cuts populations into tiles that fit a core.

A population is cut along its token axes, its channel axis or both: k channel parts share its weights out, but every input
message goes k times; token parts repeat the weights and send each message once. Among the cuts that fill few cores the one
with the fewest packets is taken. Terms and their sum (gates and what adds them up, say) may be cut alike: then a core holds
the sums of its own terms, no term is sent, and terms that need neurons share a core with sums that need axons and words.
Consumers are cut before their sources, so that the output lists of a source have a bound (as if each tile of its consumers
had a core of its own).

While it searches, a cut is judged by its middle and its corner tiles; all tiles of the chosen one are counted. So the time is
that of the tiles, whatever the number of neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from math import prod

import msgspec
import numpy as np

from neurocompile.errors import ViolationList
from neurocompile.ir.circuit import CircuitGraph, Conv2d, HostInput, Population, Strided
from neurocompile.mapping.advice import does_not_fit_core
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile, cut, grid, whole
from neurocompile.mapping.tile_graph import atoms_of
from neurocompile.targets.schema import Target

__all__ = ["Partition", "Style", "lower_bound_cores", "partition"]

SAVES = 0.95
"""Part of the cores of two cuts at which cutting both alike is worth more messages."""
Partition = dict[str, list[tuple[Tile, Usage]]]
"""Population -> its tiles with what each takes (``axon_memory``: an upper bound)."""


@dataclass(frozen=True)
class Style:
    """How to cut."""

    slack: float = 1.1
    """Cores that a population may fill, as a multiple of the fewest, for the sake of fewer packets."""
    fineness: int = 1
    """Tiles take at most this part of a core, where that repeats few weights: small tiles leave packing a choice."""
    spikes: float | None = None
    """Expected messages a step that a core may send."""
    pairs: bool = False
    """Whether terms are cut like their sums, where that saves cores or messages."""


def lower_bound_cores(circuit: CircuitGraph, target: Target) -> int:
    """Cores that any mapping needs at least, by the sums of the resources."""
    return max(cores for _, cores in CostCounter(circuit, target).shortages().values())


def partition(counter: CostCounter, rates: Mapping[str, float], style: Style = Style()) -> Partition:
    """Tiles of every population on the chip, in depth order; NC3102 names all populations that cannot be cut to fit.

    Args:
        counter: of the circuit and the target.
        rates: population -> mean probability that a neuron sends in a step; 1 where absent.
        style: what to prefer.
    """
    tiles: dict[str, list[tuple[int, Tile]]] = {}
    found: Partition = {}
    violations = []
    terms = {q.src: q for q in _pairs(counter)} if style.pairs else {}
    sums = {q.dst: q for q in terms.values()}

    def keep(name: str, chosen: list[tuple[Tile, Usage]]) -> None:
        found[name] = chosen
        # Numbers that no other population has: each tile stands for a core of its own.
        first = sum(map(len, tiles.values()))
        tiles[name] = [(first + i, tile) for i, (tile, _) in enumerate(chosen)]

    for population in reversed(counter.on_chip):
        name = population.name
        if name in found:
            continue
        cutter = _Cutter(counter, population, rates, style, tiles)
        together = None
        if name in sums:
            source = counter.circuit.population[sums[name].src]
            together = _PairCutter(counter, source, rates, style, tiles, cutter, sums[name]).best()
            if together is not None and together.cut.cores <= SAVES * sum(_filled(counter, p) for p in (source, population)):
                keep(name, together.sums)  # better than any cuts of the two apart
                keep(source.name, together.tiles)
                continue
        chosen = cutter.best()
        if chosen is None:
            violations.append(does_not_fit_core(counter, cutter.heaviest(), cutter.usage))
        keep(name, chosen.tiles if chosen else [])
        if chosen is not None and name in sums:
            alone = _Cutter(counter, source, rates, style, tiles).best()
            if together is not None and (alone is None or together.better(chosen, alone)):
                del tiles[name]
                keep(name, together.sums)
                keep(source.name, together.tiles)
            elif alone is not None:
                keep(source.name, alone.tiles)
    if violations:
        raise ViolationList("NC3102", violations[::-1])
    return {population.name: found[population.name] for population in counter.on_chip}


def _filled(counter: CostCounter, population: Population) -> float:
    """Cores that a population fills at least."""
    uncut = counter.uncut[population.name]
    return max(getattr(uncut, r) / limit for r, limit in counter.target.capacity.items() if limit)


def _pairs(counter: CostCounter) -> list[Strided]:
    """Projections from terms that nothing else reads to their sum, which takes most of its entries for them."""
    found: list[Strided] = []
    for population in counter.on_chip:
        heaviest: tuple[int, Strided] | None = None
        for q in counter.circuit.incoming[population.name]:
            source = counter.circuit.population[q.src]
            if (
                isinstance(q, Strided) and not q.recurrent and len(counter.outgoing[q.src]) == 1 and q.src not in counter.to_host
                and not isinstance(source, HostInput) and source.size >= 2 * population.size
            ):  # fmt: skip
                entries = sum(counter.synapses(q, whole(population)))
                heaviest = max(heaviest or (0, q), (entries, q), key=lambda item: item[0])
        used = {name for q in found for name in (q.src, q.dst)}
        if heaviest is not None and 2 * heaviest[0] > counter.uncut[population.name].total and heaviest[1].src not in used:
            found.append(heaviest[1])
    return found


@dataclass(frozen=True)
class _Cut:
    """A way to cut, judged by a few of its tiles."""

    parts: tuple[int, ...]
    cores: float
    """Cores filled if tiles shared cores with their like alone (of two just above half, each fills one)."""
    packets: float
    """Messages that arrive in a step."""
    total: int

    @property
    def tiles(self) -> int:
        """Their number."""
        return prod(self.parts)


@dataclass(frozen=True)
class _Chosen:
    """The best cut with all its tiles."""

    cut: _Cut
    tiles: list[tuple[Tile, Usage]]
    sums: list[tuple[Tile, Usage]]
    """Of a pair: the tiles of the sums, in the same order."""

    @property
    def total(self) -> int:
        """Of all tiles."""
        return sum(usage.total for _, usage in (*self.tiles, *self.sums))

    def better(self, sums: _Chosen, terms: _Chosen) -> bool:
        """Whether this cut of a pair saves cores, or messages at about the same number of cores."""
        cores, packets = sums.cut.cores + terms.cut.cores, sums.cut.packets + terms.cut.packets
        return self.cut.cores <= SAVES * cores or (self.cut.packets <= packets and self.cut.cores <= 1.1 * cores)


class _Cutter:
    """Finds how to cut one population."""

    def __init__(
        self, counter: CostCounter, population: Population, rates: Mapping[str, float], style: Style,
        homes: Mapping[str, list[tuple[int, Tile]]],
    ) -> None:  # fmt: skip
        self.counter, self.population, self.rates, self.style, self.homes = counter, population, rates, style, homes
        self.align = _alignment(counter, population)
        # consumers in a loop are cut later than their source, or with it: one tile a neuron if they are one to one
        self.loops = sum(q.recurrent for q in counter.outgoing[population.name])
        self.fineness = style.fineness
        self.cuttable = population.shape
        """Extent along each axis, 1 where it is not to be cut."""
        self._judged: dict[tuple[int, ...], _Cut | None] = {}

    @cached_property
    def _lists(self) -> list[tuple[np.ndarray, object, bool]]:
        """(entries of each atom, atoms, whether by position) of the output lists, each consumer tile on its own core."""
        name, least = self.population.name, self.counter.cost.least_listed
        found = []
        for which, used in (("neuron", self.counter.neuronal), ("position", self.counter.positional)):
            if name in used and (self.counter.outgoing[name] or name in self.counter.to_host):
                atoms = atoms_of(self.counter, name, self.homes, which)
                fan = atoms.fan + (self.loops + (name in self.counter.to_host) if which == "neuron" else 0)
                found.append((np.where(fan >= least, fan, 0), atoms, which == "position"))
        return found

    def usage(self, tile: Tile) -> Usage:
        """Resources of a tile, output lists included."""
        entries = 0
        for values, atoms, positional in self._lists:
            box = Tile(tile.population, tile.start[:-1], tile.stop[:-1]) if positional else tile
            entries += atoms.weigh(values, box)  # type: ignore[attr-defined]
        return msgspec.structs.replace(self.counter.usage(tile), axon_memory=entries)

    def fits(self, tile: Tile, usage: Usage) -> bool:
        """Whether a tile fits a core, or the part of one that tiles may take."""
        capacity, rate = self.counter.target.capacity, self.rates.get(tile.population, 1.0)
        if self.style.spikes is not None and rate * tile.size * self.fineness > self.style.spikes:
            return False
        return all(
            getattr(usage, name) * (1 if name == "neuron_groups" else self.fineness) <= limit for name, limit in capacity.items()
        )

    def best(self) -> _Chosen | None:
        """The best cut; None if single neurons do not fit."""
        fine = self._best(self.style.fineness)
        if fine is None or self.style.fineness == 1:
            return fine if fine is not None or self.style.fineness == 1 else self._best(1)
        if fine.total <= 1.1 * self.uncut.total:  # cutting less saves little
            return fine
        coarse = self._best(1)
        return coarse if coarse is not None and fine.total > 1.1 * coarse.total else fine

    def _best(self, fineness: int) -> _Chosen | None:
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
        parts = [-(-getattr(uncut, r) * self.fineness // limit) for r, limit in capacity.items() if limit and r != "neuron_groups"]
        return max(1, *parts)

    def possible(self) -> bool:
        """Whether a single neuron fits."""
        middle = self._neuron(tuple(n // 2 for n in self.population.shape))
        return self.fits(middle, self.usage(middle))

    def _choose(self, cuts: list[_Cut]) -> _Chosen | None:
        """The first of the cuts, best first, of which all tiles fit."""
        if not cuts:
            return None
        least = min(cut.cores for cut in cuts)
        ranked = sorted(cuts, key=lambda c: (c.cores > self.style.slack * least + 1e-9, c.packets, c.cores, c.total, c.parts))
        for cut_ in ranked:
            found = self._all(cut_)
            if found is not None:
                return found
        ones = self._judge(self.cuttable)
        return None if ones is None else self._all(ones)

    def _all(self, cut_: _Cut) -> _Chosen | None:
        """All tiles of a cut, if they fit."""
        found = [(tile, self.usage(tile)) for tile in grid(self.population, cut_.parts, self.align)]
        return _Chosen(cut_, found, []) if all(self.fits(tile, usage) for tile, usage in found) else None

    def _cuts(self) -> list[_Cut]:
        """For each order of the token axes and each number of channel parts the cut with the fewest parts that fits."""
        shape = self.cuttable
        whole_ = self._judge((1,) * len(shape))
        if whole_ is not None:
            return [whole_]
        tokens, found, fewest = prod(shape[:-1]), dict[tuple[int, ...], _Cut](), 0
        for channel_parts in _channel_candidates(shape):
            if fewest and channel_parts > 2 * fewest:
                break
            for order in _orders(shape):
                cut_ = self._fewest_token_parts(channel_parts, tokens, order)
                if cut_ is not None:
                    found[cut_.parts] = cut_
                    fewest = min(fewest or cut_.tiles, cut_.tiles)
        return list(found.values())

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

    def _fewest_token_parts(self, channel_parts: int, tokens: int, order: tuple[int, ...]) -> _Cut | None:
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

    def _judge(self, parts: tuple[int, ...]) -> _Cut | None:
        """The cut, or None if one of its middle and corner tiles does not fit."""
        if parts not in self._judged:
            self._judged[parts] = self._try(parts)
        return self._judged[parts]

    def _try(self, parts: tuple[int, ...]) -> _Cut | None:
        ranges = [cut(n, k, g) for n, k, g in zip(self.population.shape, parts, self.align, strict=True)]
        name, share, total, packets = self.population.name, 0.0, 0, 0.0
        for place in dict.fromkeys((tuple(k // 2 for k in parts), (0,) * len(parts), tuple(k - 1 for k in parts))):
            box = [ranges[a][i] for a, i in enumerate(place)]
            tile = Tile(name, tuple(a for a, _ in box), tuple(b for _, b in box))
            usage = self.usage(tile)
            if not self.fits(tile, usage):
                return None
            taken = [(getattr(usage, r), limit) for r, limit in self.counter.target.capacity.items()]
            share = max(share, 1 / min(limit // used for used, limit in taken if used))
            total, packets = max(total, usage.total), max(packets, self._arriving(tile))
        return _Cut(parts, round(share * prod(parts), 6), packets * prod(parts), total * prod(parts))

    def _arriving(self, tile: Tile) -> float:
        """Messages a step that a tile receives."""
        return self._received(tile, "")

    def _received(self, tile: Tile, but: str) -> float:
        """The same without one projection."""
        found = 0.0
        for projection in self.counter.circuit.incoming[tile.population]:
            if projection.name == but:
                continue
            reach = self.counter.reach(projection, tile)
            if reach is not None:
                src = self.counter.circuit.population[projection.src]
                read = {a for axes in reach for a in axes}
                size = prod(len(index) for index in reach.values()) * prod(n for a, n in enumerate(src.shape) if a not in read)
                found += self.rates.get(projection.src, 1.0) * size
        return round(found, 6)


class _PairCutter(_Cutter):
    """Finds how to cut terms so that each tile's sums come from that tile alone; a tile stands for its sums too."""

    def __init__(
        self, counter: CostCounter, population: Population, rates: Mapping[str, float], style: Style,
        homes: Mapping[str, list[tuple[int, Tile]]], sink: _Cutter, projection: Strided,
    ) -> None:  # fmt: skip
        super().__init__(counter, population, rates, style, homes)
        self.sink, self.projection, self.pattern = sink, projection, counter.pattern(projection)
        kept = {a for component in self.pattern.components if component.axes for a in component.src_axes}
        self.cuttable = tuple(n if a in kept else 1 for a, n in enumerate(population.shape))

    @property
    def uncut(self) -> Usage:
        """Of terms and sums."""
        return self.counter.uncut[self.population.name] + self.counter.uncut[self.sink.population.name]

    def sums_of(self, tile: Tile) -> Tile | None:
        """The tile of the sums, if no other term goes there."""
        box = self.pattern.image(tile.start, tile.stop)
        if box is None or sum(self.pattern.fan_out(*box).values()) != tile.size:
            return None
        return Tile(self.sink.population.name, *box)

    def possible(self) -> bool:
        """Always: whole terms may be no unit of a pair, so parts are tried."""
        return True

    def own(self, tile: Tile) -> Usage:
        """Of the terms alone: each has one destination."""
        listed = tile.size if self.counter.cost.least_listed <= 1 else 0
        return msgspec.structs.replace(self.counter.usage(tile), axon_memory=listed)

    def usage(self, tile: Tile) -> Usage:
        """Of terms and sums."""
        sums = self.sums_of(tile)
        return self.own(tile) + (self.sink.usage(sums) if sums is not None else Usage())

    def fits(self, tile: Tile, usage: Usage) -> bool:
        """Whether terms and sums fit together."""
        sums = self.sums_of(tile)
        if sums is None or not super().fits(tile, usage):
            return False
        rates, spikes = self.rates, self.style.spikes
        sent = rates.get(tile.population, 1.0) * tile.size + rates.get(sums.population, 1.0) * sums.size
        return spikes is None or sent * self.fineness <= spikes

    def _all(self, cut_: _Cut) -> _Chosen | None:
        tiles = grid(self.population, cut_.parts, self.align)
        sums = [self.sums_of(tile) for tile in tiles]
        covered = sum(tile.size for tile in sums if tile is not None)
        if any(tile is None for tile in sums) or covered != self.sink.population.size:
            return None
        own, held = [self.own(tile) for tile in tiles], [self.sink.usage(tile) for tile in sums if tile is not None]
        if not all(self.fits(tile, a + b) for tile, a, b in zip(tiles, own, held, strict=True)):
            return None
        pairs = [(tile, usage) for tile, usage in zip(sums, held, strict=True) if tile is not None]
        return _Chosen(cut_, list(zip(tiles, own, strict=True)), pairs)

    def _arriving(self, tile: Tile) -> float:
        """Messages that terms and sums receive from elsewhere."""
        sums = self.sums_of(tile)
        return super()._arriving(tile) + (self._received(sums, self.projection.name) if sums is not None else 0.0)


def _channel_candidates(shape: tuple[int, ...]) -> Iterator[int]:
    """Numbers of channel parts worth trying: few, divisors, and at last single channels."""
    channels = shape[-1] if shape else 1
    for parts in range(1, channels + 1):
        if parts <= 8 or channels % parts == 0:
            yield parts


def _orders(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders in which token axes are cut: an axis is cut to single steps before the next one is."""
    axes = [a for a, n in enumerate(shape[:-1]) if n > 1]
    return list(permutations(axes)) if len(axes) <= 3 else [tuple(axes)]


def _parts(shape: tuple[int, ...], token_parts: int, channel_parts: int, order: tuple[int, ...]) -> tuple[int, ...]:
    """Parts along each axis: tokens are cut along the first axis of ``order``, and along the next once that is in single
    steps."""
    if not shape:
        return ()
    parts = [1] * len(shape)
    for axis in order:
        parts[axis] = min(shape[axis], token_parts)
        token_parts = -(-token_parts // shape[axis])
    parts[-1] = channel_parts
    return tuple(parts)


def _alignment(counter: CostCounter, population: Population) -> list[int]:
    """For each axis the largest stride at which a consumer reads it: cuts at multiples share no windows."""
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
