"""Where every neuron of a circuit lies on a target, what each core uses of its limits, and the
traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Table
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.mapping.estimate import refuse
from neurocompile.mapping.fields import exceeded_fields
from neurocompile.mapping.fit import enough_for, fit
from neurocompile.mapping.grants import Grants, granted
from neurocompile.mapping.placement import crossings, hops_of, place
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.tile_graph import Flows, TileGraph, make_tile_graph
from neurocompile.mapping.traffic import Traffic
from neurocompile.targets.schema import Slot, Target

__all__ = [
    "CoreUse",
    "Fullest",
    "Mapping",
    "check_mapping",
    "check_places",
    "count_usage",
    "count_traffic",
    "map_circuit",
    "placed_on",
]


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
    method: str = ""
    """How tiles came to their cores."""
    lower_bound: int = 0
    """Cores that no mapping can do without: of each resource the sum over all layers, uncut, by the
    capacity of a core.
    """
    spikes_per_core_step: float | dict[str, float] | None = None
    """The budget that every core keeps, if one was given (:mod:`neurocompile.mapping.grants`)."""

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
        return max(
            found, key=lambda f: f.used / f.limit if f.limit else float(f.used), default=None
        )

    def to_json(self) -> bytes:
        """Deterministic JSON."""
        return msgspec.json.encode(self, order="deterministic")

    @classmethod
    def from_json(cls, data: bytes) -> Mapping:
        """Inverse of :meth:`to_json`; msgspec.DecodeError (ValidationError for wrong fields) for
        anything else.
        """
        return msgspec.json.decode(data, type=cls)


def map_circuit(
    circuit: CircuitGraph,
    target: Target,
    rates: Table[str, float],
    *,
    seed: int = 0,
    max_cores: int | None = None,
    spikes_per_core_step: Grants | None = None,
    done: Callable[[int, int], object] = lambda now, of: None,
) -> Mapping:
    """Cut, pack and place a circuit.

    Args:
        circuit: scheduled or not; populations are packed in depth order.
        target: the chip.
        rates: population -> mean probability that a neuron sends a message in a step; absent ones
            count as 1.
        seed: of packing and placement.
        max_cores: use at most so many cores of the target.
        spikes_per_core_step: expected messages that a core may send in a step (sum of rate x
            neurons of its tiles), or layer -> those of a core that holds nothing else.
        done: called with about how much is done, and of how much.

    Raises:
        ViolationList: all that does not fit: NC3102 for every layer of which one neuron does not
            fit a core, NC3110 for every graded signal that the target has no messages for, NC3113
            for every field that it leaves, NC3111 for every population that exceeds the budget of
            spikes with one neuron, NC3101 if cores do not suffice, NC3114 if they do but for the
            budget.
    """
    counter = CostCounter(circuit, target)
    limit = target.cores if max_cores is None else min(max_cores, target.cores)
    try:
        refuse(counter, rates, limit, spikes_per_core_step)
    except ViolationList as error:
        if spikes_per_core_step is not None and set(error.codes) == {"NC3111"}:
            least = max(
                rates.get(p.name, 1.0) / max(granted(spikes_per_core_step, p.layer), 1e-300)
                for p in counter.on_chip
            )
            enough = enough_for(counter, rates, limit, spikes_per_core_step, least)
            error.details = [{"messages_times": enough}]
        raise
    graph, packed = fit(counter, rates, limit, seed, spikes_per_core_step, done)
    core_of, cores = packed.core_of, packed.cores
    slots = place(target, graph.flows(core_of, cores), cores, seed)
    return placed_on(
        graph,
        core_of,
        slots,
        rates,
        seed=seed,
        method=packed.method,
        spikes_per_core_step=spikes_per_core_step,
    )


def placed_on(
    graph: TileGraph,
    core_of: np.ndarray,
    slots: Sequence[Slot],
    rates: Table[str, float],
    *,
    seed: int,
    method: str,
    spikes_per_core_step: Grants | None,
) -> Mapping:
    """The mapping of tiles on cores (``core_of``, numbered in order) at ``slots``, counted again;
    NC9001 if it breaks a limit.
    """
    counter, cores = graph.counter, len(slots)
    circuit, target = counter.circuit, counter.target
    held: list[list[Tile]] = [[] for _ in range(cores)]
    for tile, core in zip(graph.tiles, core_of.tolist(), strict=True):
        held[core].append(tile)
    mapping = Mapping(
        circuit=circuit.name,
        target=target.name,
        seed=seed,
        cores=tuple(
            CoreUse(
                chip=slot.chip, x=slot.x, y=slot.y, core=slot.core, tiles=tuple(tiles), used=used
            )
            for slot, tiles, used in zip(
                slots, held, count_usage(graph, core_of, cores), strict=True
            )
        ),
        traffic=_traffic(counter, rates, slots, graph.flows(core_of, cores)),
        method=method,
        lower_bound=max((need for _, need in counter.shortages().values()), default=0),
        spikes_per_core_step=dict(spikes_per_core_step)
        if isinstance(spikes_per_core_step, Table)
        else spikes_per_core_step,
    )
    # what it takes was counted a moment ago, of these very tiles; a file is counted anew
    problems = check_places(circuit, mapping, target)
    if problems:
        raise NeurocompileError(
            "NC9001", f"mapping of '{circuit.name}' does not check: {problems[0]}"
        )
    return mapping


def count_traffic(
    circuit: CircuitGraph, mapping: Mapping, target: Target, rates: Table[str, float]
) -> Traffic:
    """The traffic of a mapping that checks, counted again from its tiles and the rates."""
    counter = CostCounter(circuit, target)
    tiles = [tile for core in mapping.cores for tile in core.tiles]
    core_of = np.repeat(np.arange(mapping.cores_used), [len(core.tiles) for core in mapping.cores])
    flows = make_tile_graph(counter, tiles, rates).flows(core_of, mapping.cores_used)
    return _traffic(counter, rates, [core.slot for core in mapping.cores], flows)


def _traffic(
    counter: CostCounter, rates: Table[str, float], slots: Sequence[Slot], flows: Flows
) -> Traffic:
    population = counter.circuit.population
    return Traffic(
        packets=flows.between,
        local=flows.local,
        from_host=flows.from_host,
        to_host=sum(
            rates.get(name, 1.0) * population[name].size for name in sorted(counter.to_host)
        ),
        hops=hops_of(counter.target, slots, flows),
        chip_packets=crossings(slots, flows),
    )


def check_mapping(circuit: CircuitGraph, mapping: Mapping, target: Target) -> list[str]:
    """Recount everything from the circuit and the tiles alone; one line for each disagreement, none
    if all is well.

    Checked: every neuron outside HostInput lies on exactly one core, cores are usable and distinct,
        recorded resources
    equal the recounted ones, and these, and all fields, keep the target's limits. The mapping may
    come from a stranger.
    """
    problems = check_places(circuit, mapping, target)
    if problems:
        return problems
    counter = CostCounter(circuit, target)
    fields = exceeded_fields(circuit, target)
    if fields:
        return [f"NC3113 {line}" for line in fields]
    held = [core.tiles for core in mapping.cores]
    least = max((need for _, need in counter.shortages().values()), default=0)
    if least != mapping.lower_bound:
        problems.append(
            f"the mapping says that {mapping.lower_bound:,} cores are the least, counted are "
            f"{least:,}"
        )
    tiles = [tile for core in held for tile in core]
    core_of = np.repeat(np.arange(len(held)), [len(core) for core in held])
    graph = make_tile_graph(counter, tiles, {})
    for i, (core, counted) in enumerate(
        zip(mapping.cores, count_usage(graph, core_of, len(held)), strict=True)
    ):
        for resource in counted.__struct_fields__:
            recorded, found = getattr(core.used, resource), getattr(counted, resource)
            if recorded != found:
                problems.append(
                    f"core {i}: the mapping records {recorded:,} {resource}, counted are {found:,}"
                )
        for resource, used, most in counted.excess(target):
            problems.append(f"core {i}: uses {used:,} {resource}, {target.name} has {most:,}")
    return problems


def check_places(circuit: CircuitGraph, mapping: Mapping, target: Target) -> list[str]:
    """The part of :func:`check_mapping` that costs no more than a look: every neuron outside
    HostInput lies on exactly one core, cores are usable and distinct, recorded resources are
    within the limits, neurons no fewer than the tiles have, traffic is a number.
    """
    if mapping.target != target.name:
        return [f"the mapping is for target '{mapping.target}', not '{target.name}'"]
    neurons = sum(p.size for p in circuit.populations if not isinstance(p, HostInput))
    if neurons > target.cores * target.capacity["neurons"]:
        return [f"its circuit has {neurons:,} neurons, more than {target.name} holds"]
    problems = _coverage(circuit, [core.tiles for core in mapping.cores])
    slots = [core.slot for core in mapping.cores]
    for i, slot in enumerate(slots):
        if not target.usable(slot):
            problems.append(f"core {i}: {target.name} has no usable core at {_place(slot)}")
    if len(set(slots)) < len(slots):
        problems.append("two cores have the same place")
    for i, core in enumerate(mapping.cores):
        for resource, used, most in core.used.excess(target):
            problems.append(f"core {i}: uses {used:,} {resource}, {target.name} has {most:,}")
        if min(msgspec.structs.astuple(core.used)) < 0:
            problems.append(f"core {i}: uses less than nothing of a resource")
        elif core.used.neurons < (neurons := sum(tile.size for tile in core.tiles)):
            problems.append(
                f"core {i}: the mapping records {core.used.neurons:,} neurons, counted are at "
                f"least {neurons:,}"
            )
    if any(
        not np.isfinite(value) or value < 0 for value in msgspec.structs.astuple(mapping.traffic)
    ):
        problems.append("traffic is negative or not finite")
    return problems


def _coverage(circuit: CircuitGraph, cores: list[tuple[Tile, ...]]) -> list[str]:
    """Tiles that are no part of a population on the chip, and populations not covered exactly once."""
    known = {p.name: p for p in circuit.populations if not isinstance(p, HostInput)}
    problems, covered = [], {name: np.zeros(p.shape, dtype=np.uint8) for name, p in known.items()}
    for i, tiles in enumerate(cores):
        if not tiles:
            problems.append(f"core {i}: holds no tile")
        for tile in tiles:
            shape = known[tile.population].shape if tile.population in known else ()
            if tile.population not in known:
                problems.append(
                    f"core {i}: tile of '{tile.population}', which is no population on the chip"
                )
            elif not len(tile.start) == len(tile.stop) == len(shape):
                problems.append(
                    f"core {i}: tile of '{tile.population}' has another number of axes than {list(shape)}"
                )
            elif not all(
                0 <= a < b <= n for a, b, n in zip(tile.start, tile.stop, shape, strict=True)
            ):
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


def count_usage(graph: TileGraph, core_of: np.ndarray, cores: int) -> list[Usage]:
    """What each core uses."""
    entries = graph.entries(core_of, cores).tolist()
    used = [Usage()] * cores
    groups: list[set[int]] = [set() for _ in range(cores)]
    for tile, core, listed in zip(graph.tiles, core_of.tolist(), entries, strict=True):
        used[core] += graph.counter.usage(tile) + Usage(axon_memory=listed)
        groups[core].add(graph.counter.group_of[tile.population])
    return [
        msgspec.structs.replace(u, neuron_groups=len(g)) for u, g in zip(used, groups, strict=True)
    ]


def _place(slot: Slot) -> str:
    return f"chip {slot.chip}, tile ({slot.x}, {slot.y}), core {slot.core}"
