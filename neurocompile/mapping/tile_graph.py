"""Tiles and the messages between them, as a hypergraph: what packing, refinement, placement and
traffic work on.

A *net* is a number of neurons of one tile (or of the host) that have the same consumer tiles. It
costs ``rate x neurons x (distinct cores of its consumers and its owner - 1)`` packets a step: the
connectivity metric (km1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.ir.circuit import Conv2d, HostInput, Population
from neurocompile.mapping.atoms import Atoms, Reach, make_atoms
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, whole

__all__ = ["HOST", "Flows", "Nets", "TileGraph", "atoms_of", "make_tile_graph"]

HOST = -1
"""Owner of a net of a HostInput."""
Homes = Mapping[str, Sequence[tuple[int, Tile]]]
"""Population -> (number, tile) of each of its tiles."""


@dataclass(frozen=True)
class Nets:
    """Hyperedges from one owner to some consumers."""

    owner: np.ndarray
    """int32 (nets): tile, or :data:`HOST`."""
    size: np.ndarray
    """int64 (nets): neurons, or positions."""
    population: np.ndarray
    """int32 (nets): index into ``circuit.populations``."""
    offsets: np.ndarray
    """int64 (nets + 1)."""
    pins: np.ndarray
    """int32: consumers of each net, sorted, each once; the owner only where it consumes too."""
    sent: np.ndarray | None = None
    """float64 (nets): messages a step, where they were counted neuron by neuron."""


@dataclass(frozen=True)
class Flows:
    """Packets of one step between cores, as a sparse matrix in row order."""

    source: np.ndarray
    """int64: core."""
    target: np.ndarray
    """int64: core; pairs are distinct."""
    packets: np.ndarray
    """float64."""
    from_host: float

    @property
    def between(self) -> float:
        """From one core to another."""
        return float(self.packets[self.source != self.target].sum())

    @property
    def local(self) -> float:
        """From a core to itself."""
        return float(self.packets[self.source == self.target].sum())


class TileGraph:
    """All tiles of a circuit with their nets; make one with :func:`make_tile_graph`."""

    def __init__(
        self,
        counter: CostCounter,
        tiles: Sequence[Tile],
        nets: Nets,
        lists: Nets,
        rates: Mapping[str, float],
    ) -> None:
        self.counter = counter
        self.tiles = tuple(tiles)
        self.nets = nets
        """What messages are counted by."""
        self.lists = lists
        """What entries of output lists are counted by: by neuron and by position apart."""
        populations = counter.circuit.populations
        self.rate = np.array([rates.get(p.name, 1.0) for p in populations])
        """float64 (populations)."""
        self.read_by_host = np.array([p.name in counter.to_host for p in populations])

    @cached_property
    def weight(self) -> np.ndarray:
        """Messages a step of each net, float64."""
        if self.nets.sent is not None:
            return self.nets.sent
        return self.rate[self.nets.population] * self.nets.size

    def flows(self, core_of: np.ndarray, cores: int) -> Flows:
        """Packets between cores.

        Args:
            core_of: int (tiles), core of each tile.
            cores: number of cores.
        """
        net, core = _distinct(self.nets, core_of, cores)
        owner, weight = self.nets.owner[net], self.weight[net]
        inside = owner != HOST
        key = core_of[owner[inside]].astype(np.int64) * cores + core[inside]
        found, inverse = np.unique(key, return_inverse=True)
        packets = np.bincount(inverse.ravel(), weight[inside], len(found))
        return Flows(
            found // max(cores, 1), found % max(cores, 1), packets, float(weight[~inside].sum())
        )

    def entries(self, core_of: np.ndarray, cores: int) -> np.ndarray:
        """Entries of output lists of each tile, int64 (tiles)."""
        net, _ = _distinct(self.lists, core_of, cores)
        fan = np.bincount(net, minlength=len(self.lists.owner))
        # The host reads by neuron. A population of which it reads has a list by neuron (maybe an
        # empty one).
        fan += self.read_by_host[self.lists.population] & (self.lists.size > 0)
        size = np.abs(self.lists.size)
        listed = (fan >= self.counter.cost.least_listed) & (self.lists.owner != HOST)
        found = np.bincount(
            self.lists.owner[listed], (fan * size)[listed].astype(np.float64), len(self.tiles)
        )
        return found.astype(np.int64)


def _distinct(nets: Nets, core_of: np.ndarray, cores: int) -> tuple[np.ndarray, np.ndarray]:
    """Net and core of every distinct pair of a net and a core where it has a consumer."""
    net = np.repeat(np.arange(len(nets.owner), dtype=np.int64), np.diff(nets.offsets))
    pairs = distinct(net * cores + core_of[nets.pins])
    return pairs // max(cores, 1), pairs % max(cores, 1)


def atoms_of(counter: CostCounter, population: str, homes: Homes, which: str) -> Atoms:
    """Atoms of a population whose consumers are at ``homes``.

    Args:
        which: ``all`` consumers; those addressed by ``neuron``; those addressed by ``position``
            (then axes are positions).
    """
    shape = counter.circuit.population[population].shape
    reaches: list[tuple[int, Reach]] = []
    for projection in counter.outgoing[population]:
        positional = counter.cost.positional and isinstance(projection, Conv2d)
        if which == "all" or positional == (which == "position"):
            for number, tile in homes.get(projection.dst, ()):
                reach = counter.reach(projection, tile)
                if reach is not None:
                    if which == "position":
                        reach = {
                            axes: index
                            for axes, index in reach.items()
                            if axes[-1] < len(shape) - 1
                        }
                    reaches.append((number, reach))
    return make_atoms(shape[:-1] if which == "position" else shape, reaches)


def make_tile_graph(
    counter: CostCounter,
    tiles: Sequence[Tile],
    rates: Mapping[str, float],
    tick: Callable[[], None] | None = None,
    sent: Mapping[str, np.ndarray] | None = None,
) -> TileGraph:
    """The hypergraph of some tiles that cover all populations on the chip.

    Args:
        counter: of the circuit and the target.
        tiles: in any order.
        rates: population -> mean probability that a neuron sends in a step; 1 where absent.
        tick: called after every population.
        sent: population -> float64 (neurons,): messages of each neuron a step, where they were counted;
            nets then weigh what their own neurons send.
    """
    homes: dict[str, list[tuple[int, Tile]]] = {}
    for number, tile in enumerate(tiles):
        homes.setdefault(tile.population, []).append((number, tile))
    nets, lists = _Collector(), _Collector()
    for index, population in enumerate(counter.circuit.populations):
        name = population.name
        owners = [(HOST, whole(population))]
        if not isinstance(population, HostInput):
            owners = homes.get(name, [])
        readers = dict(reader for q in counter.outgoing[name] for reader in homes.get(q.dst, ()))
        numbers = sorted(readers)
        found = _sends(
            counter,
            population,
            tuple(tile for _, tile in owners),
            tuple(readers[number] for number in numbers),
            None if sent is None else sent[name],
        )
        ends = (
            np.array([number for number, _ in owners], dtype=np.int32),
            np.array(numbers, dtype=np.int32),
        )
        for part in found.nets:
            nets.add(index, *ends, part)
        for part in found.lists:
            lists.add(index, *ends, part)
        if tick is not None:
            tick()
    return TileGraph(counter, tiles, nets.build(), lists.build(), rates)


class _Part(NamedTuple):
    """Nets of a population, its tiles and their consumers numbered from 0."""

    owner: np.ndarray
    """int64 (nets)."""
    size: np.ndarray
    """int64 (nets): neurons; of positions negative, which tells lists apart."""
    length: np.ndarray
    """int64 (nets): consumers."""
    pins: np.ndarray
    """int32: these, one net after another."""
    sent: np.ndarray | None
    """float64 (nets): messages, where those of each neuron were given."""


class _Sends(NamedTuple):
    """All that a population sends."""

    nets: tuple[_Part, ...]
    lists: tuple[_Part, ...]


def _sends(
    counter: CostCounter,
    population: Population,
    owners: tuple[Tile, ...],
    readers: tuple[Tile, ...],
    sent: np.ndarray | None,
) -> _Sends:
    """Of a population in tiles ``owners``, read by ``readers``: kept in the counter, since a mapping
    that is cut anew changes few populations at a time.
    """
    key = population.name, owners, readers
    kept = counter.sends.get(key) if sent is None else None
    if kept is not None:
        return cast("_Sends", kept)
    name, homes = population.name, dict[str, list[tuple[int, Tile]]]()
    for number, tile in enumerate(readers):
        homes.setdefault(tile.population, []).append((number, tile))
    positional, neuronal = name in counter.positional, name in counter.neuronal
    atoms = atoms_of(counter, name, homes, "all") if counter.outgoing[name] else None
    nets, lists = list[_Part | None](), list[_Part | None]()
    if atoms is not None:
        nets.append(_part(owners, atoms, sent=sent))
    if not isinstance(population, HostInput):
        if neuronal:
            same = None if positional else atoms
            by_neuron = atoms_of(counter, name, homes, "neuron") if same is None else same
            keep = name in counter.to_host
            alike = same is not None and sent is None and not keep  # as the nets
            lists.append(nets[0] if alike else _part(owners, by_neuron, keep=keep))
        if positional:
            flat = [Tile(name, tile.start[:-1], tile.stop[:-1]) for tile in owners]
            by_position = atoms_of(counter, name, homes, "position")
            lists.append(_part(flat, by_position, sign=-1))
    found = _Sends(
        tuple(part for part in nets if part is not None),
        tuple(part for part in lists if part is not None),
    )
    if sent is None:
        held = len(owners) + len(readers)
        held += sum(len(part.pins) + 3 * len(part.owner) for parts in found for part in parts)
        counter.keep_sends(key, found, held)
    return found


def _part(
    owners: Sequence[Tile],
    atoms: Atoms,
    *,
    sign: int = 1,
    keep: bool = False,
    sent: np.ndarray | None = None,
) -> _Part | None:
    """Nets of some tiles; those of one owner with the same consumers become one. ``keep`` empty
    sets; ``sent``: messages of each neuron.
    """
    if not owners:
        return None
    owner, atom, size = atoms.inside(owners, keep=keep)
    if not len(atom):
        return None
    begin, count = atoms.offsets[atom], np.diff(atoms.offsets)[atom]
    place = np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
    return _Part(
        owner,
        sign * size,
        count,
        atoms.consumers[place],
        None if sent is None else _weights(atoms, owners, owner, atom, sent),
    )


class _Collector:
    """Gathers nets."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self.sent: list[np.ndarray] = []

    def add(self, population: int, owners: np.ndarray, readers: np.ndarray, part: _Part) -> None:
        """Nets of one population, whose tiles and their consumers have these numbers."""
        if part.sent is not None:
            self.sent.append(part.sent)
        index = np.full(len(part.owner), population, dtype=np.int32)
        self.parts.append((owners[part.owner], part.size, index, part.length, readers[part.pins]))

    def build(self) -> Nets:
        """All nets."""
        if not self.parts:
            empty = np.zeros(0, dtype=np.int32)
            return Nets(
                empty, np.zeros(0, dtype=np.int64), empty, np.zeros(1, dtype=np.int64), empty
            )
        owner, size, population, count, pins = (
            np.concatenate(part) for part in zip(*self.parts, strict=True)
        )
        offsets = np.zeros(len(owner) + 1, dtype=np.int64)
        np.cumsum(count, out=offsets[1:])
        sent = np.concatenate(self.sent) if self.sent else None
        return Nets(owner, size, population, offsets, pins, sent)


def _weights(
    atoms: Atoms, owners: Sequence[Tile], owner: np.ndarray, atom: np.ndarray, sent: np.ndarray
) -> np.ndarray:
    """Messages of each tile's neurons by their consumers, float64, as ``owner`` and ``atom`` of
    :meth:`Atoms.inside` name them.
    """
    number = np.zeros((1,) * len(atoms.shape), np.int64)
    for group, classes, count in zip(atoms.groups, atoms.class_of, atoms.counts, strict=True):
        across = [n if axis in group else 1 for axis, n in enumerate(atoms.shape)]
        number = number * count + classes.reshape(across)
    values, ends = sent.reshape(atoms.shape), np.searchsorted(owner, np.arange(len(owners) + 1))
    found = []
    for i, tile in enumerate(owners):
        kept, own = atom[ends[i] : ends[i + 1]], number[tile.slices].reshape(-1)
        held, which = np.unique(own, return_inverse=True)
        sums = np.bincount(which.ravel(), values[tile.slices].reshape(-1), len(held))
        first = atoms.representative[held]
        listed = np.isin(first, kept)
        found.append(np.bincount(np.searchsorted(kept, first[listed]), sums[listed], len(kept)))
    return np.concatenate(found)
