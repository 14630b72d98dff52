"""A circuit as tables for the interpreter: prepared once, run as often as one likes.

What is decided here: where each population lies (octets for spikes and proven small counts, words
for the rest), which ones are copies of others and share their place, which gates are summed without
being stored, and which places can be used again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from neurocompile.backends.arena import Arena
from neurocompile.backends.interpreter import BLOCK
from neurocompile.backends.loops import Digits, common_digits, is_copy, ordered
from neurocompile.backends.ranges import NARROW, tied
from neurocompile.backends.table import Emit, Kind, Op, Source
from neurocompile.backends.vectors import PAD
from neurocompile.backends.weights import Weights, is_octets
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    Conv2d,
    Dense,
    GradedRelay,
    GradedRelu,
    HostInput,
    Population,
    Projection,
    Strided,
    is_constant,
)
from neurocompile.ir.fields import ALL, CURRENT, INSTANT, THRESHOLD
from neurocompile.ir.tables import KindTable

__all__ = ["EMITS", "Emit", "Plan", "make_plan"]


EMITS: KindTable[int] = KindTable(
    "emulation", ("population",), "what it does with the sum of its inputs"
)
EMITS.add(Emit.LIF, LIF)
EMITS.add(Emit.RELAY, GradedRelay, HostInput)
EMITS.add(Emit.RELU, GradedRelu)


@dataclass(frozen=True)
class Plan:
    """Tables for :func:`neurocompile.backends.interpreter.run_samples`."""

    groups: np.ndarray
    ops: np.ndarray
    sources: np.ndarray
    dims: np.ndarray
    octets: int
    words: int
    """Sizes of the arenas."""
    scratch: tuple[int, int, int]
    """Elements of acc, events and starts."""
    places: int
    """Elements of places."""
    hosts: np.ndarray
    inputs: tuple[HostInput, ...]
    """Whose places ``hosts`` are."""
    given: tuple[tuple[bool, int, np.ndarray], ...]
    """What lies in an arena (whether in words, where) from the beginning, and stays."""
    records: tuple[tuple[str, tuple[int, ...]], ...]
    """Population, and its row of the interpreter's ``records`` but the place in the trace."""


def make_plan(circuit: CircuitGraph, weights: Weights, record: Collection[str]) -> Plan:
    """The tables that run ``circuit`` and leave the populations of ``record`` to be read."""
    return _Planner(circuit, weights, set(record)).plan()


@dataclass(frozen=True)
class _Gates:
    """Gates that are summed without being stored."""

    gate: Population
    inputs: tuple[Strided, ...]
    digits: Digits


class _Planner:
    def __init__(self, circuit: CircuitGraph, weights: Weights, record: set[str]) -> None:
        self.circuit, self.weights, self.record = circuit, weights, record
        self.constant = {p.name for p in circuit.populations if is_constant(circuit, p)}
        self.looped = {p.name for group in circuit.groups if tied(circuit, group) for p in group}
        self.readers: dict[str, list[Projection]] = {p.name: [] for p in circuit.populations}
        for q in circuit.projections:
            self.readers[q.src].append(q)
        self.flags: dict[str, int] = {}
        self.silence = weights.silence
        self.incoming = {
            name: [q for q in incoming if q.src not in self.silence.known]
            for name, incoming in circuit.incoming.items()
        }
        """What a sample brings; the rest is known."""
        self.given: list[tuple[bool, int, np.ndarray]] = []
        self.gates = self._summed_gates() if circuit.windows == 1 else {}
        self.copies = self._copies()
        self.steps = self._steps()
        self.place: dict[str, int] = {}
        self.octets, self.words = Arena(), Arena()
        self.ops: list[list[int]] = []
        self.sources: list[list[int]] = []
        self.subs: list[tuple[int, _Gates, Strided]] = []
        self.dims: list[int] = []
        self.events = self.listed = self.pixels = self.places = 0

    def lag(self, q: Projection) -> int:
        """Windows that count; what is the same in all of them does not wait."""
        return 0 if q.src in self.constant else q.lag

    def plain(self, q: Projection) -> bool:
        """Whether what arrives in a step was sent in it."""
        return not (q.recurrent or q.advance or self.lag(q))

    def _copies(self) -> dict[str, str]:
        """Populations that are what they read, in every window in which they send -> the one that is
        stored.
        """
        found: dict[str, str] = {}
        for p in (p for group in self.circuit.groups for p in group):
            incoming = self.incoming[p.name]
            if isinstance(p, HostInput) or len(incoming) != 1 or p.name in self.silence.known:
                continue
            if p.name in self.looped and self.circuit.windows == 1:
                continue
            q = incoming[0]
            stored = found.get(q.src, q.src)
            if q.src in self.gates or not self._is_copied(p, q):
                continue
            if p.name in self.record and not self._as_silent(stored, p.name):
                continue
            reach = self.weights.reach
            if is_octets(self.circuit, reach, stored) == is_octets(self.circuit, reach, p.name):
                found[p.name] = stored
        return found

    def _is_copied(self, p: Population, q: Projection) -> bool:
        """Whether a population sends what its only source sends, where it is not silent."""
        size = self.circuit.population[q.src].size
        if not (isinstance(q, Strided) and self.plain(q) and size == p.size and is_copy(q, size)):
            return False
        brought = self.silence.brought.get(p.name)
        if brought is not None and brought.any():
            return False
        low, high = self.weights.reach[q.src]
        if isinstance(p, LIF):
            return low >= 0 and high <= 1 and not p.vth and _forgets(p, self.weights)
        return low >= 0 or not isinstance(p, GradedRelu)

    def _as_silent(self, stored: str, name: str) -> bool:
        """Whether one population is proven silent wherever the other one is."""
        one, other = (self.silence.silent.get(n) for n in (stored, name))
        return other is None or (one is not None and not (other & ~one).any())

    def _summed_gates(self) -> dict[str, _Gates]:
        found: dict[str, _Gates] = {}
        for p in self.circuit.populations:
            incoming, readers = self.circuit.incoming[p.name], self.readers[p.name]
            if p.name in self.record or p.name in self.looped or not _forgets(p, self.weights):
                continue
            if len(readers) != 1 or not incoming or readers[0].dst in (*self.looped, *found):
                continue
            if not all(
                isinstance(q, Strided) and self.plain(q) and q.weight_exp >= 0
                for q in (*incoming, readers[0])
            ):
                continue
            strided = tuple(q for q in incoming if isinstance(q, Strided))
            reader = readers[0]
            assert isinstance(reader, Strided)
            if not any(n > 1 and not s for n, s in zip(reader.sizes, reader.dst_strides)):
                continue  # as many values as gates: nothing is saved
            digits = common_digits(p.size, reader, strided)
            if digits is not None and not any(q.src in found for q in incoming):
                found[p.name] = _Gates(p, strided, digits)
        return found

    def _steps(self) -> dict[str, int]:
        T, found = self.circuit.steps, {}
        for group in self.circuit.groups:
            for p in group:
                if p.name in self.silence.known:
                    sent = self.silence.known[p.name]
                    found[p.name] = 1 if (sent == sent[:, :1]).all() else T
                elif isinstance(p, HostInput):
                    found[p.name] = T if p.stepwise else 1
                elif isinstance(p, LIF) or p.name in self.looped:
                    found[p.name] = T
                else:
                    brought = self.silence.brought.get(p.name)
                    found[p.name] = max(
                        (T if q.advance else found[q.src] for q in self.incoming[p.name]), default=1
                    )
                    if brought is not None and brought.shape[1] > 1:
                        found[p.name] = T
        return found

    def is_words(self, name: str) -> bool:
        """Whether a population's values are words."""
        stored = self.copies.get(name, name)
        return not is_octets(self.circuit, self.weights.reach, stored)

    def at(self, name: str) -> int:
        """The place of a population, its own or that of what it copies."""
        return self.place[self.copies.get(name, name)]

    def flags_of(self, name: str) -> int:
        """Where a population's silent windows are among the loops; -1 if it has none."""
        silent = self.silence.silent.get(name)
        if silent is None or not silent.any():
            return -1
        if name not in self.flags:
            self.flags[name] = len(self.dims)
            self.dims.extend(map(int, silent))
        return self.flags[name]

    def rows(self, p: Population) -> int:
        """Rows that a sample of it has."""
        return self.circuit.windows * self.steps[p.name]

    def plan(self) -> Plan:
        """Make the tables."""
        circuit = self.circuit
        groups, hosts, inputs = [], [], []
        last = self._last_use()
        alive: dict[str, int] = {}
        widest = max(
            (p.size for p in circuit.populations if p.name not in (*self.gates, *self.copies)),
            default=1,
        )
        self.state = (self.words.take(widest), self.words.take(widest))
        for i, group in enumerate(circuit.groups):
            looped = tied(circuit, group)
            first = len(self.ops)
            mine = [p for p in group if p.name not in self.copies and p.name not in self.gates]
            if mine and mine[0].name in self.silence.known:
                self._known(mine.pop())
            for p in mine:
                arena = self.words if self.is_words(p.name) else self.octets
                self.place[p.name] = arena.take(self.rows(p) * p.size)
                if last.get(p.name, i) < len(circuit.groups):
                    alive[p.name] = last.get(p.name, i)
            for p in mine:
                if isinstance(p, HostInput):
                    inputs.append(p)
                    hosts.append((self.place[p.name], self.rows(p) * p.size))
                else:
                    self._op(p, looped)
            kind = 0 if not looped else self._loop_kind(group)
            if len(self.ops) > first:
                groups.append((kind, first, len(self.ops)))
            for name in [n for n, end in alive.items() if end <= i]:
                p = circuit.population[name]
                arena = self.words if self.is_words(name) else self.octets
                arena.give(self.place[name], self.rows(p) * p.size)
                del alive[name]
        self._append_inputs_of_gates()
        return Plan(
            _table_of(groups, 3),
            _table_of(self.ops, len(Op)),
            _table_of(self.sources, len(Source)),
            np.array([*self.dims, 0], np.int64),
            self.octets.size + PAD,
            self.words.size + PAD,
            (max(widest, BLOCK) + PAD, self.events + self.listed + PAD, self.pixels + PAD),
            self.places,
            _table_of(hosts, 2),
            tuple(inputs),
            tuple(self.given),
            tuple((name, self._record(name)) for name in sorted(self.record)),
        )

    def _known(self, p: Population) -> None:
        """A population that no sample reaches: it is there from the beginning if it is recorded, and
        no operation (its readers know what it brings)."""
        if p.name in self.record:
            sent = self.silence.known[p.name][:, : self.steps[p.name]]
            self.place[p.name] = self._give(sent, self.is_words(p.name))

    def _give(self, values: np.ndarray, words: bool) -> int:
        """A place that holds ``values`` from the beginning."""
        place = (self.words if words else self.octets).fresh(values.size)
        self.given.append((words, place, values.reshape(-1)))
        return place

    def _loop_kind(self, group: tuple[Population, ...]) -> int:
        """1: over steps; 2: over windows; 3: the same, where later windows are read too."""
        if self.circuit.windows == 1:
            return 1
        names = {p.name for p in group}
        inside = [q for p in group for q in self.circuit.incoming[p.name] if q.src in names]
        return 3 if any(q.lag < 0 for q in inside) else 2

    def _last_use(self) -> dict[str, int]:
        """Group after which a place is free; none that is recorded ever is."""
        end = len(self.circuit.groups)
        found: dict[str, int] = {}
        for i, group in enumerate(self.circuit.groups):
            for p in group:
                for q in self.circuit.incoming[p.name]:
                    for name in self._stored(q.src):
                        found[name] = i
        found.update((self.copies.get(name, name), end) for name in self.record)
        # what gates read is read when their sum is made
        for name, gates in self.gates.items():
            reader = self.readers[name][0].dst
            place = next(
                i
                for i, group in enumerate(self.circuit.groups)
                if any(p.name == reader for p in group)
            )
            for q in gates.inputs:
                stored = self.copies.get(q.src, q.src)
                found[stored] = max(found.get(stored, 0), place)
        return found

    def _stored(self, name: str) -> list[str]:
        return [self.copies.get(name, name)] if name not in self.gates else []

    def _record(self, name: str) -> tuple[int, ...]:
        p = self.circuit.population[name]
        repeat = self.circuit.steps // self.steps[name]
        return (
            int(self.is_words(name)),
            self.at(name),
            self.rows(p),
            p.size,
            int(not p.spiking),
            repeat,
        )

    def _op(self, p: Population, looped: bool) -> None:
        row = [0] * len(Op)
        incoming = self.incoming[p.name]
        first = len(self.sources)
        for q in incoming:
            self._source(q)
        brought = self.silence.brought.get(p.name)
        if brought is not None and brought.any():
            self._brought(p, brought)
        row[Op.EMIT], row[Op.SILENT] = EMITS.of(p), self.flags_of(p.name)
        row[Op.SIZE], row[Op.AT], row[Op.STEPS] = p.size, self.place[p.name], self.steps[p.name]
        row[Op.WORDS] = self.is_words(p.name)
        row[Op.FIRST], row[Op.LAST] = first, len(self.sources)
        row[Op.ALIKE] = all(
            self._constant_in_time(q) and not (q.advance or q.recurrent) for q in incoming
        ) and (brought is None or brought.shape[1] == 1)
        if isinstance(p, LIF):
            low, high = self.weights.inputs[p.name]
            row[Op.LIMIT] = p.vth << 6
            row[Op.KEEP_U], row[Op.KEEP_V] = INSTANT - p.du, ALL - p.dv
            row[Op.BIAS] = self.weights.bias_at[p.name]
            narrow = (
                NARROW if p.du == INSTANT else NARROW >> 7
            )  # a current that stays must not grow
            row[Op.WIDE] = max(-low, high) >= narrow or p.vth >= 1 << 24
            row[Op.HALVES] = _halves(p, max(-low, high))
            row[Op.STATE_V], row[Op.STATE_U] = (
                (self.words.take(p.size), self.words.take(p.size)) if looped else self.state
            )
        self.ops.append(row)

    def _constant_in_time(self, q: Projection) -> bool:
        gates = self.gates.get(q.src)
        return (
            self.steps[q.src] == 1
            if gates is None
            else all(self._constant_in_time(i) for i in gates.inputs)
        )

    def _source(self, q: Projection) -> None:
        row = [0] * len(Source)
        if q.src in self.gates:
            self._gated(row, q, self.gates[q.src])
            return
        self._read(row, q)
        if isinstance(q, Strided):
            if not prod(q.sizes):
                return
            self._strided(row, q)
        else:
            assert isinstance(q, (Dense, Conv2d))
            self._weighted(row, q)
        self.sources.append(row)

    def _brought(self, p: Population, sums: np.ndarray) -> None:
        """A source for what is known of a population's sum."""
        windows, (_, steps, size) = self.circuit.windows, sums.shape
        row = [0] * len(Source)
        row[Source.KIND], row[Source.WORDS] = Kind.STRIDED, 1
        row[Source.AT] = self._give(np.broadcast_to(sums, (windows, steps, size)), True)
        row[Source.SIZE], row[Source.STEPS], row[Source.SILENT] = size, steps, -1
        row[Source.DIMS], row[Source.RANK] = len(self.dims), 1
        self.dims.extend((p.size, int(size > 1), 1))
        row[Source.WEIGHT] = 1
        self.sources.append(row)

    def _read(self, row: list[int], q: Projection) -> None:
        source = self.circuit.population[q.src]
        row[Source.WORDS], row[Source.AT] = self.is_words(q.src), self.at(q.src)
        row[Source.SIZE], row[Source.STEPS] = source.size, self.steps[q.src]
        row[Source.ADVANCE], row[Source.RECURRENT] = q.advance, q.recurrent
        row[Source.LAG], row[Source.SILENT] = self.lag(q), self.flags_of(q.src)

    def _strided(self, row: list[int], q: Strided) -> None:
        loops = ordered(q)
        row[Source.KIND] = Kind.STRIDED
        row[Source.DIMS], row[Source.RANK] = len(self.dims), len(loops)
        self.dims.extend(value for loop in loops for value in loop)
        row[Source.WEIGHT] = q.weight << max(q.weight_exp, 0)
        row[Source.SHIFT] = min(q.weight_exp, 0)
        row[Source.S_OFFSET], row[Source.D_OFFSET] = q.src_offset, q.dst_offset

    def _weighted(self, row: list[int], q: Dense | Conv2d) -> None:
        source, target = self.circuit.population[q.src], self.circuit.population[q.dst]
        weight = self.circuit.weight(q)
        assert weight is not None
        one = (1, 1)
        if isinstance(q, Conv2d):
            (height, width, channels), (kh, kw) = source.shape, weight.shape[1:3]
            stride, padding, dilation, groups = q.stride, q.padding, q.dilation, q.groups
            rows, columns = (
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, d, k, s in zip((height, width), padding, dilation, (kh, kw), stride)
            )
            out = weight.shape[0]
        else:
            height, width, channels, kh, kw = 1, 1, source.size, 1, 1
            stride, padding, dilation, groups = one, (0, 0), one, 1
            rows, columns, out = 1, 1, target.size
        placed = self.weights.placed[q.name]
        row[Source.KIND] = (
            Kind.GROUPED if groups > 1 else Kind.VALUED if placed.words else Kind.EVENTS
        )
        row[Source.HEIGHT], row[Source.WIDTH], row[Source.CHANNELS] = height, width, channels
        row[Source.ROWS], row[Source.COLUMNS], row[Source.OUT] = rows, columns, out
        row[Source.KH], row[Source.KW] = kh, kw
        row[Source.SH], row[Source.SW] = stride
        row[Source.PH], row[Source.PW] = padding
        row[Source.DH], row[Source.DW] = dilation
        row[Source.W_AT], row[Source.W_ROW] = placed.at, placed.row
        row[Source.W_WORDS], row[Source.SHIFT] = placed.words, placed.shift
        row[Source.AT_ONCE], row[Source.GROUPS] = placed.at_once, groups
        self.events = max(self.events, source.size)
        row[Source.COUNTS] = self.weights.reach[self.copies.get(q.src, q.src)][1] > 1
        if row[Source.KIND] == Kind.EVENTS:
            most = max(self.weights.reach[self.copies.get(q.src, q.src)][1], 1)
            self.events = max(self.events, source.size * most)
            self.pixels = max(self.pixels, height * width + 1)
            self.listed = max(self.listed, kh * kw * channels * most)

    def _gated(self, row: list[int], q: Projection, gates: _Gates) -> None:
        assert isinstance(q, Strided)
        loops, inputs = list(gates.digits.loops), list(gates.inputs)
        inner = loops[-1][2:]
        order = sorted(range(len(inputs)), key=lambda m: inner[m] != 0)
        scalars = [m for m in order if inner[m] == 0]
        chosen = next(
            (
                (k, m)
                for k in range(len(loops) - 1)
                for m in scalars
                if all(loops[k][2 + other] == (other == m) for other in scalars)
                and inputs[m].weight > 0
                and not self.is_words(inputs[m].src)
            ),
            None,
        )
        if chosen is not None:
            k, m = chosen
            loops.insert(len(loops) - 2, loops.pop(k))
            scalars.remove(m)
            scalars.append(m)
            order[: len(scalars)] = scalars
        row[Source.SELECTS] = chosen is not None
        inputs = [gates.inputs[m] for m in order]
        row[Source.KIND] = Kind.GATED
        row[Source.DIMS], row[Source.RANK] = len(self.dims), len(loops)
        for size, stride, *others in loops:
            self.dims.extend((size, stride, *(others[m] for m in order)))
        row[Source.WEIGHT] = q.weight << q.weight_exp
        row[Source.D_OFFSET] = q.dst_offset
        row[Source.SCALARS] = len(scalars)
        row[Source.RECTIFIES] = isinstance(gates.gate, GradedRelu)
        row[Source.ABOVE] = gates.gate.vth if isinstance(gates.gate, LIF) else 0
        for moved in inputs[row[Source.SCALARS] :]:
            weight = moved.weight << moved.weight_exp
            row[Source.TOP] += max(weight * value for value in self.weights.reach[moved.src])
        self.places = max(self.places, len(inputs) + len(loops))
        self.sources.append(row)
        self.subs.extend((len(self.sources) - 1, gates, moved) for moved in inputs)

    def _append_inputs_of_gates(self) -> None:
        for number, _, q in self.subs:
            owner = self.sources[number]
            if not owner[Source.SUB_LAST]:
                owner[Source.SUB_FIRST] = len(self.sources)
            row = [0] * len(Source)
            self._read(row, q)
            row[Source.WEIGHT], row[Source.S_OFFSET] = q.weight << q.weight_exp, q.src_offset
            self.sources.append(row)
            owner[Source.SUB_LAST] = len(self.sources)


def _halves(p: LIF, most: int) -> int:
    """How often the voltage is halved in a step (31 for to nothing), where nothing but that happens
    to it and sums of inputs are at most ``most``; else -1.
    """
    keep = ALL - p.dv
    if p.du != INSTANT or most > CURRENT or p.vth >= 1 << 24 or keep & (keep - 1):
        return -1
    return 13 - keep.bit_length() if keep else 31


def _forgets(p: Population, weights: Weights) -> bool:
    """Whether a population's output is its input's alone, whatever came before: a rectifier, or a
    LIF without a bias that loses whatever does not make it fire.
    """
    low, high = weights.inputs[p.name]
    if isinstance(p, GradedRelu):
        return -(1 << 30) < low and high < 1 << 30
    if not isinstance(p, LIF) or p.bias is not None or p.du != INSTANT or p.vth > THRESHOLD:
        return False
    largest = max(-low << 6, min(p.vth, max(high, 0)) << 6)
    return high < 1 << 16 and low > -1 << 16 and largest * (ALL - p.dv) < ALL


def _table_of(rows: Sequence[Sequence[int]], columns: int) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, columns)
