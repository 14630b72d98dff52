"""The machine that executes core images and nothing else: no circuit, no mapping.

It streams samples as the chip does, global step after global step, message by message, and counts
what it sends. Samples may be spread over threads and lanes: each runs a stream of its own from reset state,
so nothing depends on their number.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.images.build import CoreImages
from neurocompile.images.image import GROUP_FIELDS, KINDS, PORT_FIELDS, columns
from neurocompile.images.kernels import run_steps
from neurocompile.images.rows import REGISTER
from neurocompile.images.state import Events, Frame, State
from neurocompile.images.tables import load_tables, starts
from neurocompile.ir.fields import ALL
from neurocompile.ir.windows import pieces

__all__ = ["CoreMachine", "MachineCounts"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
"""Decay of a voltage that leaks whole; of a current it is one less."""
_TRACE_BYTES = 1 << 27
"""Of one thread's traces."""
_STATE_BYTES = 1 << 28
"""Of one thread's lanes, if these are several."""
_FEW = 8
"""Registers from which a lane's are an odd number: lanes of a power of two would meet in one set of
the processor's caches.
"""
_LANES = 32
"""At most: more find no faster memory for what they hold."""


@dataclass(frozen=True)
class MachineCounts:
    """What a stream counted, summed over its samples; index 0 of the first axis counts what was sent
    outside of samples' own steps (idle steps, and before the first sample has come).
    """

    samples: int
    sent: np.ndarray
    """int64 (2, entries): messages of each entry of the output lists."""
    operations: np.ndarray
    """int64 (2, ports)."""
    fired: np.ndarray
    """int64 (2, groups): outputs that are not 0."""
    active: np.ndarray
    """int64 (groups)."""
    log: np.ndarray
    """int64 (messages, 5): step, source core (the host's is the number of cores), destination core,
    synapses met, sender; empty unless asked for."""
    by_step: np.ndarray
    """int64 (global steps, cores + 1, 4) ; empty unless asked for."""


class CoreMachine:
    """Images ready to run; an executor of backend ``cores`` (:class:`neurocompile.backends.base.Executor`).

    Args:
        images: of all cores.
        threads: streams at once; all processors if None.
    """

    def __init__(self, images: CoreImages, threads: int | None = None) -> None:
        self.images, self.names = images, images.names
        self.tables = load_tables(images)
        self.threads = threads or len(os.sched_getaffinity(0))
        groups, ports = self.tables.groups, self.tables.ports
        slots = np.ones(len(groups), np.int64)
        np.maximum.at(slots, ports[:, _P["group"]], ports[:, _P["delay"]] + 1)
        self._slots = slots
        kind, leak = groups[:, _G["kind"]], groups[:, _G["dv"]] == ALL
        leak &= (groups[:, _G["du"]] == ALL - 1) & (groups[:, _G["has_bias"]] == 0)
        self._forgets = ((kind != KINDS.index("LIF")) | leak).astype(np.uint8)
        registers = -(-groups[:, _G["count"]] // REGISTER)
        self._wide = np.where(registers < _FEW, registers, registers | 1) * REGISTER
        self._ring_start = starts((slots * self._wide).tolist())
        self._start = starts(self._wide.tolist())
        self._bias = np.zeros(int(self._wide.sum()), np.int32)
        for first, count, start in zip(
            groups[:, _G["first"]].tolist(), groups[:, _G["count"]].tolist(), self._start.tolist()
        ):
            self._bias[start : start + count] = self.tables.bias[first : first + count]

    @cached_property
    def _longer(self) -> np.ndarray:
        """Steps for which each group runs longer than its samples, int64 (groups): what it sends so
        late still reaches a sample's step of another. A neuron that is always on is deeper than its
        delays say.
        """
        names, tables = self.names, self.tables
        depth = np.array([p.depth for p in names.populations], np.int64)
        here = tables.groups[:, _G["population"]][tables.ports[:, _P["group"]]]
        source = np.array(names.sources, np.int64)[tables.ports[:, _P["projection"]]]
        late = depth[here] - depth[source] - tables.ports[:, _P["delay"]]
        longer = np.zeros(len(depth), np.int64)
        while True:  # ends: delays around a loop are positive
            more = longer.copy()
            np.maximum.at(more, source, longer[here] + late)
            if np.array_equal(more, longer):
                return longer[tables.groups[:, _G["population"]]]
            longer = more

    def __enter__(self) -> CoreMachine:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    @cached_property
    def _on_chip(self) -> list[int]:
        """Populations that cores hold."""
        return sorted(set(self.tables.groups[:, _G["population"]].tolist()))

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :meth:`neurocompile.backends.base.Executor.run`."""
        names = self.names
        wanted = {p.name for p in names.populations} if record is None else set(record)
        traced = [p.size * (1 if p.spiking else 4) for p in names.populations if p.name in wanted]
        most = max(1, _TRACE_BYTES // max(names.windows * names.steps * sum(traced), 1))
        chunk = max(1, min(most, -(-len(x) // self.threads)))
        lanes = max(1, min(self._most_lanes, chunk))
        streams = [
            _Stream(self, x[i : i + chunk], wanted, lanes=lanes) for i in range(0, len(x), chunk)
        ]
        if not streams:
            streams = [_Stream(self, x, wanted)]
        with ThreadPoolExecutor(min(self.threads, len(streams))) as pool:
            done = list(pool.map(lambda stream: stream.run()[0], streams))
        if len(done) == 1:
            return done[0]
        return {name: np.concatenate([part[name] for part in done]) for name in done[0]}

    @property
    def _most_lanes(self) -> int:
        each = 4 * int(((self._slots + 2) * self._wide).sum())
        return min(_LANES, _STATE_BYTES // max(each, 1))

    def count(self, x: np.ndarray, *, by_step: bool = False, warm: bool = True) -> MachineCounts:
        """Run int32 ``x`` (samples, *input shape) as one stream and count.

        If ``warm``, the last sample runs once more in front, uncounted: what it leaves is what samples
        that follow each other find.

        Args:
            by_step: keep each message, and what each core sent, received, met and updated in each
                global step.
        """
        samples = np.concatenate([x[-1:], x]) if warm else x
        windows = self.names.windows if warm else 0
        stream = _Stream(self, samples, set(), counting=True, by_step=by_step, warm=windows)
        _, state = stream.run()
        if by_step:  # once more, now that the number of messages is known
            again = _Stream(self, samples, set(), counting=True, by_step=True, warm=windows)
            again.logged = int(state.logged[0])
            _, state = again.run()
        return MachineCounts(
            len(x),
            state.sent,
            state.operations,
            state.fired,
            state.active,
            state.log,
            state.by_step,
        )


class _Stream:
    """Samples that follow each other in each lane, from reset state."""

    def __init__(
        self,
        machine: CoreMachine,
        x: np.ndarray,
        wanted: set[str],
        *,
        counting: bool = False,
        by_step: bool = False,
        warm: int = 0,
        lanes: int = 1,
    ) -> None:
        self.warm, self.lanes = warm, lanes
        self.machine, self.x, self.wanted = machine, x, wanted
        self.counting, self.by_step = counting, by_step
        self.logged = 0

    def run(self) -> tuple[Trace, State]:
        """Traces of the wanted populations, and what was counted."""
        machine, names, tables = self.machine, self.machine.names, self.machine.tables
        rounds = -(-len(self.x) // self.lanes) * names.windows
        deepest = max((p.depth for p in names.populations), default=0)
        frame = Frame(
            rounds * names.period + deepest,
            rounds,
            self.warm,
            names.period,
            names.steps,
            len(machine.images.cores),
            self.counting,
            self.lanes,
            names.windows,
            len(self.x),
        )
        sent = {h: self._sent(i) for i, h in enumerate(machine.images.host.populations.tolist())}
        state, places = self._state(frame)
        run_steps(tables, state, self._events(sent, frame), frame)
        return self._traces(state, places, sent), state

    def _sent(self, number: int) -> np.ndarray:
        """What an input sends, int32 (windows of all samples, steps or 1, neurons)."""
        names, images = self.machine.names, self.machine.images
        h = names.inputs[number]
        shape = names.populations[int(images.host.populations[number])].shape
        if h.pattern is not None:
            table = images.host_tensors[h.pattern].astype(np.int32)
            found = np.broadcast_to(table, (len(self.x), *table.shape))
        elif h.places is None:
            found = self.x
        else:
            found = pieces(self.x, images.host_tensors[h.places], shape, h.stepwise)
        steps = names.steps if h.stepwise else 1
        return np.ascontiguousarray(found, np.int32).reshape(-1, steps, prod(shape))

    def _events(self, sent: dict[int, np.ndarray], frame: Frame) -> Events:
        """Messages of the host in the order of steps."""
        names, parts, first = self.machine.names, [], len(self.machine.tables.bias)
        for number, values in sent.items():
            shape = (len(values), names.steps, values.shape[2])
            full = np.ascontiguousarray(np.broadcast_to(values, shape))
            index = np.flatnonzero(full)
            place, neuron = np.divmod(index, values.shape[2])
            window, step = np.divmod(place, names.steps)
            sample, window = np.divmod(window, names.windows)
            turn, lane = np.divmod(sample, self.lanes)
            turn = turn * names.windows + window
            now = names.populations[number].depth + turn * frame.period + step
            parts.append(
                (2 * now + (turn >= frame.warm), first + neuron, lane, full.reshape(-1)[index])
            )
            first += values.shape[2]
        now, sender, lane, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((lane, sender, now))
        now, sender = now[order], sender[order]
        last = np.flatnonzero(np.append((now[1:] != now[:-1]) | (sender[1:] != sender[:-1]), True))
        last = last[: len(now)]
        ends = np.searchsorted(now[last], np.arange(2 * frame.total), side="right")
        return Events(
            ends.astype(np.int64),
            sender[last].astype(np.int64),
            last.astype(np.int64) + 1,
            lane[order].astype(np.int32),
            value[order].astype(np.int32),
        )

    def _state(self, frame: Frame) -> tuple[State, dict[int, int]]:
        """State before the first step, and where each wanted population's trace begins."""
        machine, tables = self.machine, self.machine.tables
        populations = machine.names.populations
        number = tables.groups[:, _G["population"]]
        places: dict[int, int] = {}
        sizes = {True: 0, False: 0}
        for p in machine._on_chip:
            if populations[p].name in self.wanted:
                spiking = populations[p].spiking
                places[p] = sizes[spiking]
                samples = len(self.x) * frame.windows
                sizes[spiking] += samples * frame.steps * populations[p].size
        lanes, wide = frame.lanes, machine._wide
        largest, size = int(wide.max(initial=1)), int(wide.sum()) * lanes
        ring = int((machine._slots * wide).sum()) * lanes
        held = np.zeros(2 * size, np.int32)
        steps = frame.total if self.by_step else 0
        state = State(
            ring=np.zeros(ring + REGISTER, np.int32),
            touched=np.zeros(ring if self.counting else 0, np.uint8),
            ring_start=machine._ring_start * lanes,
            ring_slots=machine._slots,
            arrived=np.zeros(int(machine._slots.sum()), np.uint8),
            arrived_start=starts(machine._slots.tolist()),
            quiet=2 * machine._forgets,
            forgets=machine._forgets,
            until=frame.rounds * frame.period + machine._longer,
            wide=wide,
            start=machine._start,
            bias=machine._bias,
            held=held,
            u=held[:size],
            v=held[size:],
            before=np.zeros((2, largest * lanes), np.int32),
            spiked=np.zeros(largest * lanes, np.uint8),
            item_end=np.zeros(largest, np.int64),
            lane=np.zeros(largest * lanes + 1, np.int32),
            value=np.zeros(largest * lanes + 1, np.int32),
            trace_start=np.array([places.get(int(p), -1) for p in number], np.int64),
            trace_size=np.array([populations[p].size for p in number], np.int64),
            spikes=np.zeros(sizes[True], np.uint8),
            values=np.zeros(sizes[False], np.int32),
            sent=np.zeros((2, len(tables.entry_core)), np.int64),
            operations=np.zeros((2, len(tables.ports)), np.int64),
            fired=np.zeros((2, len(tables.groups)), np.int64),
            active=np.zeros(len(tables.groups), np.int64),
            by_step=np.zeros((steps, frame.cores + 1, 4), np.int64),
            log=np.zeros((self.logged, 5), np.int64),
            logged=np.zeros(1, np.int64),
        )
        return state, places

    def _traces(self, state: State, places: dict[int, int], sent: dict[int, np.ndarray]) -> Trace:
        names = self.machine.names
        found: Trace = {}
        for number, p in enumerate(names.populations):
            shape = (len(self.x), names.windows * names.steps, *p.shape)
            if number in places:
                flat = state.spikes if p.spiking else state.values
                found[p.name] = flat[places[number] :][: prod(shape)].reshape(shape)
            elif number in sent and p.name in self.wanted:
                values = sent[number]
                full = np.broadcast_to(values, (len(values), names.steps, p.size))
                found[p.name] = full.reshape(shape)
        return found
