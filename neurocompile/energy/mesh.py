"""Time on the mesh: each step's messages through cores, routers and links, as discrete events.

The model, of which every constant is the profile's (Davies et al. 2018 for Loihi 1):

- A core updates its neurons one after another, ``neuron_update_active`` or ``_inactive`` each (its mean
  is taken for every one); a message leaves when its neuron has been updated.
- Routers send a message east or west first, then north or south. A link carries one message at a
  time, for ``hop_east_west`` or ``hop_north_south``; others wait in the order in which they come, in
  queues of any length, or in finite ones that stop who sends to them (:mod:`neurocompile.energy.buffers`).
  Between cores of a tile it takes ``packet_within_tile``.
- A core's synapses process messages in the order of arrival, ``synaptic_operation`` for each synapse.
- The step ends when the last core has done both; then the barrier, interpolated between its
  published times for 1 and 32 tiles.

Where a constant is missing there is no time: counts of cores and links a step are all there is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from neurocompile.backends.encoding import encode
from neurocompile.energy.buffers import play_buffered
from neurocompile.energy.profile import Profile
from neurocompile.errors import NeurocompileError, argument
from neurocompile.images.image import GROUP_FIELDS, columns
from neurocompile.images.machine import CoreMachine, MachineCounts
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.jit import cached_njit
from neurocompile.targets.schema import Slot, Target

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = [
    "WAYS",
    "Constants",
    "MeshReport",
    "MeshRun",
    "check_buffer",
    "constants_of",
    "mesh_beside",
    "mesh_of",
    "samples_to_fill",
    "simulate_mesh",
]

_G = columns(GROUP_FIELDS)
WAYS = ("east", "west", "south", "north")
"""Ways that a link leads, as :attr:`MeshRun.links` has them."""
NEEDED = (
    "synaptic_operation",
    "neuron_update_active",
    "neuron_update_inactive",
    "packet_within_tile",
    "hop_east_west",
    "hop_north_south",
)


class Constants(NamedTuple):
    """Nanoseconds."""

    synapse: float
    active: float
    inactive: float
    tile: float
    east_west: float
    north_south: float
    barrier: float


class MeshRun(NamedTuple):
    """Of each global step; times in ns."""

    total: np.ndarray
    """float64 (steps): with the barrier."""
    cores: np.ndarray
    """float64 (steps, cores): when each core has done all its work."""
    links: np.ndarray
    """int64 (steps, 4, rows, columns): messages that left each tile east, west, south, north."""
    waited: np.ndarray
    """float64 (steps): time that messages waited for links, summed; with finite queues time that cores
    stood still because theirs was full."""
    full: np.ndarray
    """bool (steps): the pipeline is full; none where the samples take fewer steps than its depth."""

    @property
    def slowest(self) -> np.ndarray:
        """int64 (steps): the core that the step waited for."""
        return self.cores.argmax(axis=1)

    @property
    def busiest(self) -> np.ndarray:
        """int64 (steps, 4): of the link that carried most in the step its way (index into
        :data:`WAYS`), the row and column of its tile, and its messages.
        """
        links = self.links.reshape(len(self.links), -1)
        most = links.argmax(axis=1)
        place = np.unravel_index(most, self.links.shape[1:])
        return np.stack([*place, links[np.arange(len(links)), most]], axis=1)


class MeshReport(msgspec.Struct, frozen=True, kw_only=True):
    """Time of the steps in which the pipeline is full. ``simulated``: counted messages, the
    profile's constants.
    """

    profile: str
    samples: int
    steps: int
    """Steps that are averaged."""
    step_ns: float
    longest_ns: float
    barrier_ns: float
    """Part of each step."""
    slowest_core: int
    """Core that most steps waited for."""
    slowest_share: float
    """Share of steps that waited for it."""
    link_tile: tuple[int, int]
    """Column and row of the tile whose link carried most in one step."""
    link_way: str
    link_messages: int
    """What that link carried in that step."""
    waited_ns: float
    """Time that a step's messages waited for links, summed over them; with finite queues time that its
    cores stood still."""
    samples_per_second: float
    buffer: int | None = None
    """Messages that each queue of a router holds; None: any number."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, value and remark of each figure, for tables."""
        longest = f"longest {self.longest_ns / 1e3:,.2f} us"
        x, y = self.link_tile
        yield (
            "time a step",
            f"{self.step_ns / 1e3:,.2f} us",
            f"simulated with {self.profile}, {self.steps:,} steps; {longest}",
        )
        yield (
            "slowest core",
            f"{self.slowest_core}",
            f"{self.slowest_share:.0%} of the steps wait for it",
        )
        yield (
            "busiest link",
            f"{self.link_messages:,}",
            f"messages in one step, {self.link_way} of tile ({x}, {y})",
        )
        if self.buffer is None:
            waited = "messages wait for links, summed over a step's; queues of any length"
        else:
            waited = f"cores stand still a step; queues of {self.buffer:,} messages (assumed)"
        yield "waiting", f"{self.waited_ns:,.0f} ns", waited
        yield "throughput", f"{self.samples_per_second:,.0f} samples/s", "simulated, pipelined"


def mesh_of(
    program: Program, x: np.ndarray, profile: Profile, *, buffer: int | None = None
) -> tuple[MeshReport, MeshRun]:
    """Play float32 ``x`` (samples, *input shape) on the mesh of the program's target.

    Args:
        buffer: messages that each queue of a router holds; None for any number.

    Raises:
        NeurocompileError: NC7009 for a profile without times, NC1006 where the samples take fewer
            steps than the pipeline is deep.
    """
    check_buffer(buffer)
    circuit, target = program.circuit, program.target
    tiles = len({(core.chip, core.x, core.y) for core in program.mapping.cores})
    constants = constants_of(profile, tiles)
    needed = samples_to_fill(circuit)
    if len(x) < needed:
        raise NeurocompileError(
            "NC1006",
            f"{len(x):,} samples never fill a pipeline of {circuit.depth:,} steps: give {needed:,} or more",
        )
    machine = program.open("cores")
    assert isinstance(machine, CoreMachine)
    counts = machine.count(encode(circuit, program.checked(x)), by_step=True)
    run = simulate_mesh(machine, counts, target, constants, buffer)
    slowest = np.bincount(run.slowest[run.full], minlength=len(program.mapping.cores))
    busiest = run.busiest[run.full]
    way, row, column, most = busiest[busiest[:, 3].argmax()].tolist()
    step_ns = float(run.total[run.full].mean())
    return MeshReport(
        profile=profile.name,
        samples=len(x),
        steps=int(run.full.sum()),
        step_ns=step_ns,
        longest_ns=float(run.total[run.full].max()),
        barrier_ns=constants.barrier,
        slowest_core=int(slowest.argmax()),
        slowest_share=float(slowest.max() / slowest.sum()),
        link_tile=(column, row),
        link_way=WAYS[way],
        link_messages=most,
        waited_ns=float(run.waited[run.full].mean()),
        samples_per_second=1e9 / (step_ns * circuit.sample_period),
        buffer=buffer,
    ), run


def mesh_beside(
    program: Program, x: np.ndarray, profiles: Sequence[Profile], buffer: int | None = None
) -> tuple[MeshReport | None, str | None]:
    """Time on the mesh under the first of ``profiles`` that has times, beside counts of the same
    float32 ``x`` (samples, *input shape); or why there is none.
    """
    why = None
    for profile in profiles:
        try:
            return mesh_of(program, x, profile, buffer=buffer)[0], None
        except NeurocompileError as error:
            if error.code not in ("NC1006", "NC7009"):
                raise
            why = why or f"no time on the mesh: {error.message}"
            if error.code == "NC1006":
                break
    return None, why


def check_buffer(buffer: int | None, on_cores: bool = True) -> None:
    """NC1015 for queues that hold nothing, or without counted messages to play."""
    if buffer is None:
        return
    given = argument("buffer", buffer)
    if buffer < 1:
        raise NeurocompileError("NC1015", f"{given}: such queues let no message pass: 1 or more")
    if not on_cores:
        cores = argument("on_cores")
        raise NeurocompileError(
            "NC1015", f"{given} holds messages that are counted on core images: give {cores} too"
        )


def samples_to_fill(circuit: CircuitGraph) -> int:
    """Samples with which the pipeline is full for some steps."""
    return -(-(circuit.depth + 1) // circuit.sample_period) + 1


def constants_of(profile: Profile, tiles: int) -> Constants:
    """The profile's times, and its barrier over ``tiles``; NC7009 if one is missing."""
    times = profile.time
    values = [getattr(times, name) for name in NEEDED]
    gone = [name for name, value in zip(NEEDED, values, strict=True) if value is None]
    low, high = times.barrier_1_tile, times.barrier_32_tiles
    if low is None or high is None:
        gone.append("barrier_1_tile and barrier_32_tiles")
    if gone or low is None or high is None:
        raise NeurocompileError(
            "NC7009",
            f"profile '{profile.name}' has no time of {', '.join(gone)}: take one that has",
        )
    barrier = low.value + (high.value - low.value) * (tiles - 1) / 31
    return Constants._make(float(value) for value in (*(v.value for v in values), barrier))


def simulate_mesh(
    machine: CoreMachine,
    counts: MachineCounts,
    target: Target,
    constants: Constants,
    buffer: int | None = None,
) -> MeshRun:
    """Play the messages of ``counts`` (:meth:`CoreMachine.count` with ``by_step``) on the mesh.

    Args:
        buffer: messages that each queue of a router holds; None for any number.

    Raises:
        NeurocompileError: NC1015 for queues that hold nothing, or counts that are not by step.
    """
    check_buffer(buffer)
    cores = machine.images.cores
    place = np.array(
        [target.tile_position(Slot(*core.place.tolist())) for core in cores], np.int64
    ).reshape(-1, 2)
    if not len(counts.by_step):
        raise NeurocompileError("NC1015", "counts by step are needed: count(x, by_step=True)")
    rows, columns_ = (int(n) for n in place[:, ::-1].max(axis=0) + 1)
    groups = machine.tables.groups
    neurons = np.zeros(len(cores), np.int64)
    np.add.at(neurons, machine.tables.group_core, groups[:, _G["count"]])
    first = np.concatenate([[0], np.cumsum(neurons)[:-1]])
    steps = len(counts.by_step)
    ends = np.searchsorted(counts.log[:, 0], np.arange(steps), side="right")
    done = np.zeros((steps, len(cores)))
    links = np.zeros((steps, 4, rows, columns_), np.int64)
    waited, start = np.zeros(steps), 0
    for step, stop in enumerate(ends):
        active = counts.by_step[step, :-1, 3]
        update = active * constants.active + (neurons - active) * constants.inactive
        log = counts.log[start:stop]
        given = log, update, neurons, first, place, constants
        if buffer is None:
            waited[step] = _play(*given, done[step], links[step])
        else:
            own = np.minimum(log[:, 1], len(cores) - 1)  # the host's are there when the step begins
            due = update[own] * (log[:, 4] - first[own] + 1) / neurons[own]
            waited[step] = play_buffered(
                log, update, due, place, constants, buffer, done[step], links[step]
            )
        start = stop
    now = np.arange(steps)
    deepest = max(p.depth for p in machine.names.populations)
    return MeshRun(
        done.max(axis=1) + constants.barrier,
        done,
        links,
        waited,
        (now >= deepest) & (now < steps - deepest),
    )


@cached_njit(nogil=True)
def _play(log, update, neurons, first, place, constants, done, links):  # type: ignore[no-untyped-def]
    """One step: fills ``done`` and ``links``; the time that messages waited for links."""
    cores = len(update)
    rows, columns_ = links.shape[1], links.shape[2]
    free = np.zeros((4, rows, columns_))
    synapses = np.zeros(cores)
    events: list[tuple[Any, ...]] = [
        (0.0, np.int64(0), np.int64(0), np.int64(0)) for _ in range(0)
    ]  # empty, of a type that numba sees
    for message in range(len(log)):
        m = np.int64(message)
        core = log[m, 1]
        if core == cores:  # the host: its messages are there when the step begins
            x, y = place[log[m, 2], 0], place[log[m, 2], 1]
            when = 0.0
        else:
            x, y = place[core, 0], place[core, 1]
            when = update[core] * (log[m, 4] - first[core] + 1) / neurons[core]
            if core != log[m, 2] and x == place[log[m, 2], 0] and y == place[log[m, 2], 1]:
                when += constants.tile
        events.append((when, m, x, y))
    heapq.heapify(events)
    waited = 0.0
    for c in range(cores):
        done[c] = update[c]
    while len(events):
        when, m, x, y = heapq.heappop(events)
        to = log[m, 2]
        if x == place[to, 0] and y == place[to, 1]:
            synapses[to] = max(synapses[to], when) + log[m, 3] * constants.synapse
            done[to] = max(done[to], synapses[to])
            continue
        if x != place[to, 0]:
            way = 0 if x < place[to, 0] else 1
            took = constants.east_west
        else:
            way = 2 if y < place[to, 1] else 3
            took = constants.north_south
        begin = max(when, free[way, y, x])
        waited += begin - when
        free[way, y, x] = begin + took
        links[way, y, x] += 1
        x += 1 if way == 0 else -1 if way == 1 else 0
        y += 1 if way == 2 else -1 if way == 3 else 0
        heapq.heappush(events, (begin + took, m, x, y))
    return waited
