"""Windows of a folded circuit in which a population is proven to be silent: nothing is to be computed
there.

What does not depend on a sample (clocks, constants) is run once, here, and never again. The rest is
interval arithmetic, window by window: a rectifier or LIF that a constant closes, and no clock opens,
stays at 0, and a memory holds nothing before it is loaded and after it is closed. The slots of
populations are not believed; what a memory holds is at most its ``largest``, as all proofs of ranges
have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from neurocompile.backends.bias import lif_bias
from neurocompile.backends.kernels import lif, project
from neurocompile.backends.ranges import ANY, Range, tied
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    GradedRelay,
    GradedRelu,
    HostInput,
    Population,
    Projection,
    Strided,
    is_constant,
)
from neurocompile.ir.tables import KindTable
from neurocompile.ir.windows import host_rounds

__all__ = ["Silence", "silent_windows"]

_MOST_KNOWN = 1 << 22
"""Values of a population that is run once."""

Ranges = tuple[np.ndarray, np.ndarray]
"""Least and largest value in every window, int64 (windows,) each."""


@dataclass(frozen=True)
class Silence:
    """What is known of a circuit before any sample."""

    silent: dict[str, np.ndarray]
    """Of each population, bool (windows,): where all its values are 0."""
    reach: dict[str, Range]
    """Least and largest value in any window."""
    known: dict[str, np.ndarray]
    """int32 (windows, steps, neurons): what populations send that no sample reaches."""
    brought: dict[str, np.ndarray]
    """The same of the sum that these bring to a population that a sample does reach, 0 where that is
    silent; an axis along which it does not change has length 1.
    """


def silent_windows(circuit: CircuitGraph, gains: Mapping[str, Range]) -> Silence:
    """Silence and ranges of each population, and what no sample changes.

    Args:
        gains: of each projection with weights, least and largest sum that inputs 0..1 make at one
            neuron.
    """
    found = _Silence(circuit, gains)
    ranges = found.find()
    return Silence(
        {name: (low == 0) & (high == 0) for name, (low, high) in ranges.items()},
        {name: (int(low.min()), int(high.max())) for name, (low, high) in ranges.items()},
        found.known,
        found.brought,
    )


class _Silence:
    def __init__(self, circuit: CircuitGraph, gains: Mapping[str, Range]) -> None:
        self.circuit, self.gains = circuit, gains
        self.known: dict[str, np.ndarray] = {}
        self.brought: dict[str, np.ndarray] = {}
        self.ranges: dict[str, Ranges] = {}

    def find(self) -> dict[str, Ranges]:
        """Ranges of every population."""
        for group in self.circuit.groups:
            if tied(self.circuit, group):
                self.memory(group)
                for p in group:
                    self.keep(p)
                continue
            (p,) = group
            values = self.run_once(p)
            if values is not None:
                self.known[p.name] = values
                self.ranges[p.name] = values.min(axis=(1, 2)), values.max(axis=(1, 2))
            else:
                self.ranges[p.name] = self.sent(p, *self.arriving(p, self.circuit.incoming[p.name]))
                self.keep(p)
        return self.ranges

    def keep(self, p: Population) -> None:
        """Make what is known of a population's sum as small as it can be."""
        found = self.brought.get(p.name)
        if found is None:
            return
        low, high = self.ranges[p.name]
        found[(low == 0) & (high == 0)] = 0
        for axis in range(3):
            first = found.take([0], axis)
            if (found == first).all():
                found = first
        self.brought[p.name] = found

    def memory(self, group: tuple[Population, ...]) -> None:
        """Ranges of what windows tie together, one window after the other where none reads a later
        one.
        """
        names = {p.name for p in group}
        inside = {
            p.name: [q for q in self.circuit.incoming[p.name] if q.src in names] for p in group
        }
        for p in group:
            low, high = (-p.largest, p.largest) if p.largest else ANY
            low, high = (0, 1) if isinstance(p, LIF) else (low, high)
            self.ranges[p.name] = self.everywhere(low), self.everywhere(high)
        outside = {
            p.name: self.arriving(
                p, [q for q in self.circuit.incoming[p.name] if q.src not in names]
            )
            for p in group
        }
        if any(q.lag < 0 for incoming in inside.values() for q in incoming):
            return
        gains = {q.name: self.gain(q) for incoming in inside.values() for q in incoming}
        for w in range(self.circuit.windows):
            for p in group:
                low, high = (int(values[w]) for values in outside[p.name])
                for q in inside[p.name]:
                    if w >= q.lag:
                        least, most = (int(values[w - q.lag]) for values in self.ranges[q.src])
                        least, most = _scaled(gains[q.name], min(least, 0), max(most, 0))
                        low, high = low + least, high + most
                sent = self.sent(p, np.array([low]), np.array([high]))
                bounds = self.ranges[p.name]
                bounds[0][w] = max(bounds[0][w], int(sent[0][0]))
                bounds[1][w] = min(bounds[1][w], int(sent[1][0]))

    def everywhere(self, value: int) -> np.ndarray:
        """The same in every window."""
        return np.full(self.circuit.windows, value, np.int64)

    def run_once(self, p: Population) -> np.ndarray | None:
        """What a population always sends; None if that depends on samples."""
        windows, steps = self.circuit.windows, self.circuit.steps
        incoming = self.circuit.incoming[p.name]
        if not p.size or windows * steps * p.size > _MOST_KNOWN:
            return None
        if any(q.src not in self.known for q in incoming):
            return None
        return ONCE.of(p)(self, p, self.from_known(p))

    def from_known(self, p: Population) -> np.ndarray:
        """Sum of what known populations bring, int32 (windows, steps, neurons)."""
        windows, steps = self.circuit.windows, self.circuit.steps
        a = np.zeros((windows, steps, p.size), np.int32)
        for q in self.circuit.incoming[p.name]:
            if q.src not in self.known:
                continue
            moved = np.zeros_like(self.known[q.src])
            moved[:, : steps - q.advance] = self.known[q.src][:, q.advance :]
            rows = _later(moved, self.lag(q)).reshape(windows * steps, -1)
            shape = self.circuit.population[q.src].shape
            project(q, self.circuit.weight(q), rows, shape, a.reshape(windows * steps, -1))
        return a

    def lag(self, q: Projection) -> int:
        """Windows that a projection waits."""
        return 0 if is_constant(self.circuit, self.circuit.population[q.src]) else q.lag

    def sent(self, p: Population, low: np.ndarray, high: np.ndarray) -> Ranges:
        """Least and largest of what a population sends for sums within a range."""
        wraps = (low < ANY[0]) | (high > ANY[1])
        low, high = np.where(wraps, ANY[0], low), np.where(wraps, ANY[1], high)
        return WITHIN.of(p)(self, p, low, high)

    def arriving(self, p: Population, incoming: Sequence[Projection]) -> Ranges:
        """What projections add to a population in every window, at least and at most, to any
        neuron; the sum of the known ones is kept.
        """
        low = high = self.everywhere(0)
        if any(q.src in self.known for q in incoming):
            a = self.brought[p.name] = self.from_known(p)
            low, high = a.min(axis=(1, 2)).astype(np.int64), a.max(axis=(1, 2)).astype(np.int64)
        for q in incoming:
            if q.src not in self.known:
                least, most = (_later(values, self.lag(q)) for values in self.ranges[q.src])
                least, most = _scaled(self.gain(q), np.minimum(least, 0), np.maximum(most, 0))
                low, high = low + least, high + most
        return low, high

    def gain(self, q: Projection) -> Range:
        """Least and largest sum that inputs 0..1 make at one neuron."""
        if isinstance(q, Strided):
            times = prod(n for n, s in zip(q.sizes, q.dst_strides) if s == 0)
            gain = times * q.weight << max(q.weight_exp, 0)
            return min(gain, 0), max(gain, 0)
        return self.gains[q.name]


def _scaled(gain: Range, least: Any, most: Any) -> tuple[Any, Any]:
    """Inputs from ``least`` <= 0 to ``most`` >= 0, times a gain."""
    negative, positive = gain
    return positive * least + negative * most, positive * most + negative * least


ONCE: KindTable[Callable[[_Silence, Any, np.ndarray], np.ndarray | None]] = KindTable(
    "clocks", ("population",), "what it sends for known sums"
)
ONCE.add(lambda silence, p, a: a, GradedRelay)
ONCE.add(lambda silence, p, a: np.maximum(a, 0), GradedRelu)


@ONCE.rule(HostInput)
def _pattern(silence: _Silence, p: HostInput, a: np.ndarray) -> np.ndarray | None:
    if p.pattern is None:
        return None
    sent = host_rounds(silence.circuit, p, np.zeros((1, 0), np.int32))
    return np.repeat(sent.reshape(len(a), 1, p.size), a.shape[1], axis=1)


@ONCE.rule(LIF)
def _spikes(silence: _Silence, p: LIF, a: np.ndarray) -> np.ndarray:
    out = np.empty(a.shape, np.uint8)
    u, v = np.zeros((2, len(a), p.size), np.int32)
    lif(a, lif_bias(silence.circuit, p), p.vth << 6, p.dv, p.du, u, v, out)
    return out.astype(np.int32)


WITHIN: KindTable[Callable[[_Silence, Any, np.ndarray, np.ndarray], Ranges]] = KindTable(
    "silence", ("population",), "what it sends for sums within a range"
)
WITHIN.add(lambda silence, p, low, high: (low, high), GradedRelay)
WITHIN.add(lambda silence, p, low, high: (np.maximum(low, 0), np.maximum(high, 0)), GradedRelu)


@WITHIN.rule(LIF)
def _fires(silence: _Silence, p: LIF, low: np.ndarray, high: np.ndarray) -> Ranges:
    most = max(int(lif_bias(silence.circuit, p).max(initial=0)), 0)
    never = (high << 6) + most <= 0  # no step adds to a membrane
    return np.zeros_like(low), np.where(never, 0, 1)


@WITHIN.rule(HostInput)
def _pieces(silence: _Silence, p: HostInput, low: np.ndarray, high: np.ndarray) -> Ranges:
    """Zeros where a window brings no piece of the sample."""
    if p.pattern is not None:
        table = silence.circuit.tensors[p.pattern].reshape(len(low), -1).astype(np.int64)
        return table.min(axis=1), table.max(axis=1)
    low, high = low + min(p.low, 0), high + max(p.high, 0)
    if p.places is not None:
        table = silence.circuit.tensors[p.places].reshape(len(low), -1)
        nothing = (table < 0).all(axis=1)
        low[nothing] = high[nothing] = 0
    return low, high


def _later(values: np.ndarray, lag: int) -> np.ndarray:
    """``values[w - lag]``, 0 outside."""
    moved = np.zeros_like(values)
    if abs(lag) < len(values):
        into = slice(lag, None) if lag >= 0 else slice(None, lag)
        of = slice(None, len(values) - lag) if lag >= 0 else slice(-lag, None)
        moved[into] = values[of]
    return moved
