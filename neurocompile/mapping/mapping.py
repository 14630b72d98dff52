"""Where every neuron of a circuit lies on a target, what each core uses of its limits, and the traffic."""

from __future__ import annotations

from collections.abc import Mapping as Table
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping.advice import exceeds_target, needs_more_cores
from neurocompile.mapping.packing import pack
from neurocompile.mapping.partition import partition
from neurocompile.mapping.placement import hop_matrix, place
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.traffic import Traffic, axon_lists, flows, home_cores
from neurocompile.targets.schema import Slot, Target

__all__ = ["CoreUse", "Fullest", "Mapping", "check_mapping", "map_circuit"]


class CoreUse(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One core: its place, its tiles, and what they use."""

    chip: int
    x: int
    y: int
    """Column and row of the core's tile (router) on its chip."""
    core: int
    """Core of that tile."""
    tiles: tuple[Tile, ...]
    used: Usage

    @property
    def slot(self) -> Slot:
        """The place."""
        return Slot(self.chip, self.x, self.y, self.core)


class Fullest(NamedTuple):
    """The resource that is nearest to its limit."""

    resource: str
    core: int
    """Index into ``Mapping.cores``."""
    used: int
    limit: int


class Mapping(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A circuit on a target. HostInput populations are on the host: they have no core."""

    circuit: str
    target: str
    seed: int
    cores: tuple[CoreUse, ...]
    """In depth order of their first tile."""
    traffic: Traffic
    """Messages of one step."""

    @property
    def cores_used(self) -> int:
        """Number of cores."""
        return len(self.cores)

    def fullest(self, target: Target) -> Fullest | None:
        """The resource that is nearest to its limit, ``total`` among them; None without cores."""
        found = [
            Fullest(resource, i, getattr(core.used, resource), limit)
            for i, core in enumerate(self.cores)
            for resource, limit in target.capacity.items()
        ]
        return max(found, key=lambda f: f.used / f.limit if f.limit else float(f.used), default=None)

    def to_json(self) -> bytes:
        """Deterministic JSON."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes) -> Mapping:
        """Inverse of :meth:`to_json`; msgspec.DecodeError (ValidationError for wrong fields) for anything else."""
        return msgspec.json.decode(data, type=cls)


def map_circuit(
    circuit: CircuitGraph,
    target: Target,
    rates: Table[str, float],
    *,
    seed: int = 0,
    max_cores: int | None = None,
) -> Mapping:
    """Cut, pack and place a circuit.

    Args:
        circuit: scheduled or not; populations are packed in depth order.
        target: the chip.
        rates: population -> mean probability that a neuron sends a message in a step; absent ones count as 1.
        seed: of the placement.
        max_cores: use at most so many cores of the target.

    Raises:
        ViolationList: NC3102 for every layer of which one neuron does not fit a core; NC3101 if cores do not suffice.
    """
    counter = CostCounter(circuit, target)
    limit = target.cores if max_cores is None else min(max_cores, target.cores)
    too_much = exceeds_target(counter, limit)
    if too_much:
        raise ViolationList("NC3101", too_much)
    tiles = _fit(counter, rates, limit)
    between, from_host, to_host = flows(counter, tiles, rates)
    slots = place(target, between, seed)
    local = float(np.trace(between))
    traffic = Traffic(
        packets=float(between.sum()) - local,
        local=local,
        from_host=from_host,
        to_host=to_host,
        hops=float((between * hop_matrix(target, slots)).sum()),
    )
    mapping = Mapping(
        circuit=circuit.name,
        target=target.name,
        seed=seed,
        cores=tuple(
            CoreUse(chip=slot.chip, x=slot.x, y=slot.y, core=slot.core, tiles=held, used=used)
            for slot, held, used in zip(slots, tiles, _count(counter, tiles), strict=True)
        ),
        traffic=traffic,
    )
    problems = check_mapping(circuit, mapping, target)
    if problems:
        raise NeurocompileError("NC9001", f"mapping of '{circuit.name}' does not check: {problems[0]}")
    return mapping


def check_mapping(circuit: CircuitGraph, mapping: Mapping, target: Target) -> list[str]:
    """Recount everything from the circuit and the tiles alone; one line for each disagreement, none if all is well.

    Checked: every neuron outside HostInput lies on exactly one core, cores are usable and distinct, recorded resources
    equal the recounted ones, and these keep the target's limits. The mapping may come from a stranger.
    """
    if mapping.target != target.name:
        return [f"the mapping is for target '{mapping.target}', not '{target.name}'"]
    counter = CostCounter(circuit, target)
    tiles = [core.tiles for core in mapping.cores]
    problems = _coverage(counter, tiles)
    slots = [core.slot for core in mapping.cores]
    for i, slot in enumerate(slots):
        if not target.usable(slot):
            problems.append(f"core {i}: {target.name} has no usable core at {_place(slot)}")
    if len(set(slots)) < len(slots):
        problems.append("two cores have the same place")
    if any(not np.isfinite(value) or value < 0 for value in msgspec.structs.astuple(mapping.traffic)):
        problems.append("traffic is negative or not finite")
    if problems:
        return problems
    for i, (core, counted) in enumerate(zip(mapping.cores, _count(counter, tiles), strict=True)):
        for resource in counted.__struct_fields__:
            recorded, found = getattr(core.used, resource), getattr(counted, resource)
            if recorded != found:
                problems.append(f"core {i}: the mapping records {recorded:,} {resource}, counted are {found:,}")
        for resource, used, most in counted.excess(target):
            problems.append(f"core {i}: uses {used:,} {resource}, {target.name} has {most:,}")
    return problems


def _fit(counter: CostCounter, rates: Table[str, float], limit: int) -> tuple[tuple[Tile, ...], ...]:
    """Tiles by core, by the cut with few packets, or by the one that fills cores better if that takes too many."""
    fewest = 0
    for tight in (False, True):
        parts = partition(counter, tight)
        tiles = pack(counter, parts, rates)
        if len(tiles) <= limit:
            return tiles
        fewest = min(fewest or len(tiles), len(tiles))
    raise ViolationList("NC3101", [needs_more_cores(counter, parts, fewest, limit)])


def _coverage(counter: CostCounter, cores: list[tuple[Tile, ...]]) -> list[str]:
    """Tiles that are no part of a population on the chip, and populations not covered exactly once."""
    known = {population.name: population for population in counter.on_chip}
    problems, covered = [], {name: np.zeros(p.shape, dtype=np.uint8) for name, p in known.items()}
    for i, tiles in enumerate(cores):
        if not tiles:
            problems.append(f"core {i}: holds no tile")
        for tile in tiles:
            shape = known[tile.population].shape if tile.population in known else ()
            if tile.population not in known:
                problems.append(f"core {i}: tile of '{tile.population}', which is no population on the chip")
            elif not len(tile.start) == len(tile.stop) == len(shape):
                problems.append(f"core {i}: tile of '{tile.population}' has another number of axes than {list(shape)}")
            elif not all(0 <= a < b <= n for a, b, n in zip(tile.start, tile.stop, shape, strict=True)):
                problems.append(f"core {i}: tile {tile} is empty or leaves {list(shape)}")
            else:
                if covered[tile.population][tile.slices].any():
                    problems.append(f"core {i}: tile {tile} overlaps another one")
                covered[tile.population][tile.slices] = 1
    for name, array in covered.items():
        missing = array.size - int(np.count_nonzero(array))
        if missing:
            problems.append(f"{missing:,} of {array.size:,} neurons of '{name}' lie on no core")
    return problems


def _count(counter: CostCounter, cores: list[tuple[Tile, ...]] | tuple[tuple[Tile, ...], ...]) -> list[Usage]:
    """What each core uses."""
    homes = home_cores(cores)
    lists = {name: axon_lists(counter, name, homes) for name in homes}
    counted = []
    for tiles in cores:
        used = Usage()
        for tile in tiles:
            used += counter.usage(tile)
            used += Usage(axon_memory=lists[tile.population].entries(tile))
        groups = len({tile.population for tile in tiles})
        counted.append(msgspec.structs.replace(used, neuron_groups=groups))
    return counted


def _place(slot: Slot) -> str:
    return f"chip {slot.chip}, tile ({slot.x}, {slot.y}), core {slot.core}"
