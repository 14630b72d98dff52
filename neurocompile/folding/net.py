"""A folded circuit under construction: populations with their depth, projections with their lag,
clocks and lines of relays.

Depths are known as populations are added, sources first. A projection's delay follows from both
ends (``D(dst) - D(src) + lag * period``) once all are there; what waits longer than a synapse can
waits in lines of relays that all consumers share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.folding import ticking
from neurocompile.folding.waiting import Lines
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref
from neurocompile.ir.windows import valid_windows
from neurocompile.targets.fields import ChipFields

__all__ = ["Net", "Reach"]

Digits = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reach:
    """Longest delays of the target, in steps from emission to arrival."""

    spike: int
    graded: int = 1


@dataclass(frozen=True)
class _Gated:
    """Neurons of ``dst`` that a clock's pattern drives."""

    dst: str
    key: bytes
    amount: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class Net:
    """Collects what a folded circuit is made of; :meth:`finish` closes it."""

    def __init__(
        self,
        windows: int,
        period: int,
        steps: int,
        reach: Reach,
        fields: ChipFields,
        ticked: bool = False,
    ) -> None:
        """``ticked``: clocks are made on the chip, from one tick of the host a sample."""
        self.windows, self.period, self.steps, self.reach = windows, period, steps, reach
        self.ticked = ticked
        self.builder = Builder(fields)
        self.depth: dict[str, int] = {}
        self.slots: dict[str, Digits] = {}
        self.kind: dict[str, type[c.Population]] = {}
        self.shape: dict[str, tuple[int, ...]] = {}
        self.bounds: dict[str, tuple[int, int]] = {}
        """Of graded populations, where they are known."""
        self.relays: dict[str, list[str]] = {}
        """Lines that are there for another reason: each population repeats the one before it."""
        self._constants: dict[str, str] = {}
        self._gated: list[_Gated] = []
        self._patterns: dict[bytes, np.ndarray] = {}
        self._lines: list[c.Projection] = []

    def population(
        self,
        kind: type[c.Population],
        wanted: str,
        shape: tuple[int, ...],
        layer: str,
        depth: int,
        slots: Digits = (),
        **fields: Any,
    ) -> str:
        """Add a population at ``depth``; its name."""
        name = self.builder.population(kind, wanted, shape, layer, slots=slots, **fields)
        self.depth[name], self.slots[name] = depth, slots
        self.kind[name], self.shape[name] = kind, shape
        return name

    def drive(self, dst: str, projections: Iterable[c.Projection], lag: int = 0) -> None:
        """Connect ``projections`` to ``dst``, ``lag`` windows on top of their own."""
        self.builder.drive(dst, (replace(q, lag=q.lag + lag) if lag else q for q in projections))

    def need(self, sources: Iterable[tuple[str, int]], hops: int = 1) -> int:
        """Least depth of a population that reads populations at lags, ``hops`` projections on."""
        return max(self.depth[name] + hops - lag * self.period for name, lag in sources)

    def on(self, layer: str) -> str:
        """The constant 1 for the populations of a layer."""
        if layer not in self._constants:
            name = self._constants[layer] = self.builder.always_on(layer)
            self.depth[name], self.slots[name] = 0, ()
            self.kind[name], self.shape[name] = c.LIF, (1,)
        return self._constants[layer]

    def close(self, dst: str, slots: Digits, amount: int, layer: str) -> None:
        """Keep ``dst`` silent but in the windows of ``slots``: ``-amount`` from a constant, and
        ``amount`` from a clock.

        Closed before the first sample, too: nothing that rings then may enter a loop.
        """
        pattern = valid_windows(self.windows, slots)
        self.close_by(dst, pattern, amount, layer)

    def close_by(
        self,
        dst: str,
        pattern: np.ndarray,
        amount: int,
        layer: str,
        loops: tuple[tuple[int, ...], tuple[int, ...], int] | None = None,
    ) -> None:
        """:meth:`close` in the windows that ``pattern`` (bool, (windows,)) does not name; for the
        neurons that ``loops`` (sizes, strides, offset) names only.
        """
        sizes, strides, offset = loops or ((prod(self.shape[dst]),), (1,), 0)
        self.broadcast(self.on(layer), dst, -amount, sizes, strides, offset)
        self.open_by(dst, pattern, amount, sizes, strides, offset)

    def open_by(
        self,
        dst: str,
        pattern: np.ndarray,
        amount: int,
        sizes: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
    ) -> None:
        """``amount`` from a clock in the windows of ``pattern``."""
        if not pattern.any():
            return
        key = pattern.tobytes()
        self._patterns.setdefault(key, pattern)
        self._gated.append(_Gated(dst, key, amount, sizes, strides, offset))

    def broadcast(
        self,
        src: str,
        dst: str,
        amount: int,
        sizes: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int = 0,
        src_offset: int = 0,
    ) -> None:
        """One neuron to many, with a sum of synapses of 8 bits."""
        sign = 1 if amount >= 0 else -1
        self.drive(
            dst,
            (
                strided(
                    src,
                    sizes,
                    (0,) * len(sizes),
                    strides,
                    weight=sign * weight,
                    src_offset=src_offset,
                    dst_offset=offset,
                )
                for weight in self.builder.terms(abs(amount))
            ),
        )

    def mark(self) -> tuple[int, int]:
        """Where :meth:`adopt` is to begin."""
        return len(self.builder.populations), len(self.builder.projections)

    def adopt(self, mark: tuple[int, int], slots: Digits) -> None:
        """Give depths to what an unfolded circuit added to the builder since ``mark``: longest
        paths from what was there."""
        incoming: dict[str, list[str]] = {}
        for q in self.builder.projections[mark[1] :]:
            incoming.setdefault(q.dst, []).append(q.src)
        for i, p in enumerate(self.builder.populations[mark[0] :], mark[0]):
            sources = incoming.get(p.name, [])
            self.kind[p.name], self.shape[p.name] = type(p), p.shape
            if not sources:
                self._constants[p.name] = p.name
                self.depth[p.name], self.slots[p.name] = 0, ()
                continue
            self.depth[p.name] = max(self.depth[src] for src in sources) + 1
            self.slots[p.name] = slots
            self.builder.populations[i] = replace(p, slots=slots)

    def _clocks(self) -> None:
        """One host population and one of spikes that carry all patterns."""
        if not self._gated:
            return
        keys = list(self._patterns)
        n = (len(keys),)
        fields: dict[str, Any] = {"vth": 0, "dv": ALL}
        if self.ticked:
            host = spikes = self.population(c.LIF, "clock.spikes", n, "clock", 0, **fields)
            ticking.drive_patterns(self, spikes, list(self._patterns.values()))
        else:
            host = spikes = self.host_pattern("clock", np.stack(list(self._patterns.values()), 1))
            if any(self.depth[g.dst] > 1 for g in self._gated):
                spikes = self.population(c.LIF, "clock.spikes", n, "clock", 1, **fields)
                self.drive(spikes, [strided(host, n, (1,), (1,))])
        for g in self._gated:
            src = spikes if self.depth[g.dst] > 1 else host
            self.broadcast(src, g.dst, g.amount, g.sizes, g.strides, g.offset, keys.index(g.key))

    def host_pattern(self, name: str, table: np.ndarray, depth: int = 0) -> str:
        """What the host sends, bool (windows, neurons), in every sample."""
        pattern = self.builder.tensor(f"{name}.pattern", table.astype(np.uint8))
        n = table.shape[1:]
        return self.population(c.HostInput, name, n, "clock", depth, low=0, high=1, pattern=pattern)

    def joined(self, projection: c.Projection, dst: str, delay: int) -> None:
        """A projection of a line, whose delay is known; :meth:`finish` leaves it as it is."""
        name = self.builder.name(f"{projection.src}>{dst}")
        self._lines.append(replace(projection, name=name, dst=Ref(dst), delay=delay))

    def finish(self, name: str) -> c.CircuitGraph:
        """The scheduled circuit, its rules not checked yet."""
        self._prune()
        self._clocks()
        builder = self.builder
        lead = self._lead()
        waits = {
            q.name: self.depth[q.dst] - self.depth[q.src] + q.lag * self.period
            for q in builder.projections
            if not self._constant(q.src)
        }
        lines = Lines(self, ((str(q.src), waits.get(q.name, 1)) for q in builder.projections))
        placed = []
        for q in builder.projections:
            if q.name not in waits:
                placed.append(replace(q, delay=1, lag=0))
                continue
            src, delay = lines.after(q.src, waits[q.name])
            placed.append(replace(q, src=Ref(src), delay=delay))
        constants = set(self._constants.values())
        populations = [
            replace(p, depth=self.depth[p.name] + (0 if p.name in constants else lead))
            for p in builder.populations
        ]
        populations.sort(key=lambda p: p.depth)
        hosts = [p for p in populations if isinstance(p, c.HostInput) and p.places]
        rest = [p for p in populations if p not in hosts]
        return c.CircuitGraph(
            name,
            self.steps,
            (*hosts, *rest),
            (*placed, *self._lines),
            tuple(builder.readouts),
            dict(builder.tensors),
            self.period,
            tuple(builder.views),
            self.windows,
            self.reach.graded,
        )

    def _prune(self) -> None:
        """Drop what nothing reads: left by schedules that were tried and given up."""
        builder = self.builder
        ends = {str(r.src) for r in builder.readouts} | {str(v.src) for v in builder.views}
        while True:
            read = ends | {str(q.src) for q in builder.projections}
            dead = {p.name for p in builder.populations if p.name not in read}
            if not dead:
                return
            builder.populations = [p for p in builder.populations if p.name not in dead]
            builder.projections = [q for q in builder.projections if q.dst not in dead]
            self._gated = [g for g in self._gated if g.dst not in dead]
            self._constants = {k: v for k, v in self._constants.items() if v not in dead}

    def _constant(self, name: str) -> bool:
        return name in self._constants.values()

    def _lead(self) -> int:
        """Steps that the first sample waits: a LIF whose bias alone reaches the threshold fires in
        the very first step, before the constant that closes it; what waits in synapses must not
        meet a sample. Clocks made on the chip run ahead.
        """
        least = ticking.AHEAD if self.ticked and self._gated else 0
        tensors = self.builder.tensors
        for p in self.builder.populations:
            if isinstance(p, c.LIF) and p.bias is not None and not self._constant(p.name):
                if (int(tensors[p.bias].max()) << p.bias_exp) > p.vth << 6:
                    largest = max((q.lag for q in self.builder.projections), default=0)
                    return max(largest * self.period, least)
        return least
