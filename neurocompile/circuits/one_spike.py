"""One spike a value, its time the value: growing membranes and windows of T steps, on the chip as time.

A neuron collects in one window of T steps and sends in the next, at most one spike. Its membrane
grows while it collects, so that an early spike counts more, and grows on while it sends, so that a
large value reaches the threshold early (SpikedAttention, Hwang et al. 2024; with base 2 it is binary
digits, of which one is kept)::

    collect   v(t) = v(t - a) + v(t - b) + x(t)           v(T - 1) = sum_t P(T - 1 - t) x(t)
    send      v(t) = v(t - a) + v(t - b) from the collected V, until it fires:  V P(t) >= theta

No decay of the chip lets a state grow (they keep at most all of it), and nothing in a loop may round:
a loop adds integers up. So membranes are integer recurrences of two delays, and bases the growth of
these: 2 (delays 1, 1), 1.618 (1, 2), 1.466 (1, 3), 1.380 (1, 4), 1.325 (2, 3). The last is the least
base that there is: powers ``P`` follow a base cleanly only where the recurrence's other roots die out,
which makes the base a Pisot number, and 1.3247 is the smallest of these (Siegel 1944). Base 1.15 has no
such membrane. The first powers are still uneven; a code waits ``wait`` steps before them.

What is collected passes to the next window through one gate a sign, open in step T - 1; the next
sample is collected meanwhile, one sample in T steps. A neuron that fired is inhibited for the rest of
its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.latch import hold
from neurocompile.circuits.normalize import recurrent, threshold_unit
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref
from neurocompile.parameters import whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = [
    "DELAYS",
    "OneSpikeCode",
    "Window",
    "collect",
    "one_spike_layer",
    "one_spike_values",
    "send",
    "sent_steps",
]

DELAYS = {2.0: (1, 1), 1.618: (1, 2), 1.466: (1, 3), 1.380: (1, 4), 1.325: (2, 3)}
"""Base, to three digits: delays of the membrane that grows by it."""
_WAIT = {2.0: 0, 1.618: 3, 1.466: 5, 1.380: 7, 1.325: 9}
"""Steps before the first power that a code uses: neighbours from there on are the base apart, within 13 %."""


@dataclass(frozen=True)
class OneSpikeCode:
    """Base and window of a code; NC2011 for a base without an integer membrane or too few steps."""

    base: float
    """One of :data:`DELAYS`."""
    steps: int
    """T, of a window; more than ``wait``."""

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        if self.base not in DELAYS or self.steps <= self.wait + 1:
            known = ", ".join(f"{b:g} ({w + 2} steps)" for b, w in _WAIT.items())
            raise NeurocompileError(
                "NC2011",
                f"a code of base {self.base} in {self.steps} steps: membranes of integers grow by one of "
                f"these, in at least so many steps: {known}",
            )

    @property
    def wait(self) -> int:
        """The first step that a spike may have."""
        return _WAIT[self.base]

    @property
    def powers(self) -> np.ndarray:
        """P(0) .. P(T - 1), int64: what 1 has grown to after so many steps."""
        found = np.zeros(self.steps, np.int64)
        for t in range(self.steps):
            found[t] = (t == 0) + sum(int(found[t - d]) for d in DELAYS[self.base] if d <= t)
        return found

    @property
    def largest(self) -> int:
        """What a spike in the first allowed step has become at the window's end."""
        return int(self.powers[self.steps - 1 - self.wait])

    def threshold(self, full: int) -> int:
        """Where a membrane fires, if ``full`` is the value that is sent in the first allowed step:
        values round to the nearest power.
        """
        return ceil((1 + 1 / self.base) / 2 * full * int(self.powers[self.wait]))


@dataclass(frozen=True)
class Window:
    """Connections of a builder whose circuit runs in windows of a code."""

    builder: Builder
    code: OneSpikeCode

    def same(self, src: str, dst: str, weight: int = 1) -> None:
        """Neuron to neuron of the same array, weights of any size."""
        n, sign = prod(self.builder.shape(dst)), 1 if weight > 0 else -1
        self.builder.drive(
            dst,
            [
                strided(src, (n,), (1,), (1,), weight=sign * w)
                for w in self.builder.terms(abs(weight))
            ],
        )

    def late(self, src: str, dst: str, weight: int = 1) -> None:
        """The same, of the step before."""
        n, sign = prod(self.builder.shape(dst)), 1 if weight > 0 else -1
        self.builder.drive(
            dst,
            [
                recurrent(strided(src, (n,), (1,), (1,), weight=sign * w))
                for w in self.builder.terms(abs(weight))
            ],
        )

    def everywhere(self, one: str, dst: str, weight: int) -> None:
        """From one neuron to all of ``dst``."""
        n, sign = prod(self.builder.shape(dst)), 1 if weight > 0 else -1
        self.builder.drive(
            dst,
            [
                strided(one, (n,), (0,), (1,), weight=sign * w)
                for w in self.builder.terms(abs(weight))
            ],
        )

    def grown(self, v: str, largest: int, layer: str) -> list[str]:
        """Populations that are, in step t - 1, what membrane ``v`` was a delay before step t."""
        found, line = [], v
        kind = type(next(p for p in self.builder.populations if p.name == v))
        shape = self.builder.shape(v)
        for d in range(1, max(DELAYS[self.code.base]) + 1):
            found += [line] * DELAYS[self.code.base].count(d)
            if d < max(DELAYS[self.code.base]):
                kept = self.builder.population(kind, f"{v}.{d}", shape, layer, largest=largest)
                self.late(line, kept)
                line = kept
        return found

    def grow(self, v: str, others: tuple[str, ...], largest: int, layer: str) -> None:
        """``v(t) = v(t - a) + v(t - b) + ..``, which ``others`` read as ``v`` does."""
        before = self.grown(v, largest, layer)
        for dst in (v, *others):
            for src in dict.fromkeys(before):
                self.late(src, dst, before.count(src))

    def handed(self, value: str, largest: int, name: str, layer: str, signed: bool) -> list[str]:
        """Positive and, if ``signed``, negative parts of ``value`` in step T - 1, else 0."""
        b, found = self.builder, []
        bias = b.tensor(f"{name}.last.bias", np.full(1, 64, np.int16))
        last = b.population(
            c.LIF, f"{name}.last", (1,), layer, vth=self.code.steps - 1, bias=bias, reset=True
        )
        one = b.always_on(f"{name}.gate")
        for sign in (1, -1)[: 1 + signed]:
            gate = b.population(
                c.GradedRelu, f"{name}.gate", b.shape(value), layer, largest=largest
            )
            self.same(value, gate, sign)
            self.everywhere(last, gate, largest)
            self.everywhere(one, gate, -largest)
            found.append(gate)
        return found


def collect(
    window: Window,
    inputs: Sequence[c.Projection],
    shape: tuple[int, ...],
    largest: int,
    name: str,
    layer: str,
    signed: bool = True,
) -> str:
    """Growing membranes over ``inputs`` (without destination); ``largest`` bounds what they collect."""
    limit = window.builder.fields.held >> signed
    if largest > limit:
        raise NeurocompileError(
            "NC2011",
            f"'{name}' collects up to {largest:,} in {window.code.steps:,} steps of base {window.code.base:g}; a "
            f"loop holds {limit:,}: use fewer steps or smaller weights",
            layer=layer,
        )
    kind = c.GradedRelay if signed else c.GradedRelu
    v = window.builder.population(kind, name, shape, layer, largest=largest)
    window.builder.drive(v, inputs)
    window.grow(v, (), largest, layer)
    return v


def send(
    window: Window,
    value: str,
    largest: int,
    full: int,
    name: str,
    layer: str,
    signed: bool = True,
    shares: str | None = None,
    most: int = 1,
) -> list[str]:
    """Spikes of the positive and, if ``signed``, the negative part of what ``value`` is in the last step
    of the window before: one each at most.

    Args:
        largest: magnitude of ``value``.
        full: what is sent in the first allowed step; what is larger is sent there too, or before.
        shares: graded population, one value a row of ``value``'s last axis and constant, that ``full``
            counts in: the value is divided by it. At most ``most``.
    """
    b, code, shape = window.builder, window.code, window.builder.shape(value)
    unit = code.threshold(full)
    reach, limit = max(unit * most, largest), b.fields.current // 8
    if reach > limit:
        raise NeurocompileError(
            "NC2011",
            f"'{name}' sends from a threshold or value of {reach:,}; {limit:,} is supported: use fewer steps, "
            "a smaller base, or coarser values",
            layer=layer,
        )
    found = []
    for gate in window.handed(value, largest, name, layer, signed):
        v = b.population(c.GradedRelu, f"{name}.v", shape, layer, largest=3 * reach)
        s, fired = (
            threshold_unit(b, f"{name}.{part}", shape, 4 * reach) for part in ("s", "fired")
        )
        window.grow(v, (s, fired), 3 * reach, layer)
        for dst in (v, s, fired):
            b.drive(
                dst, [replace(strided(gate, (prod(shape),), (1,), (1,)), advance=code.steps - 1)]
            )
        window.late(fired, v, -4 * reach)
        window.late(fired, s, -4 * reach)
        window.late(fired, fired, reach)
        for dst in (s, fired):
            if shares is None:
                window.everywhere(b.always_on(f"{name}.level"), dst, -unit)
            else:
                rows = prod(b.shape(shares))
                b.drive(
                    dst,
                    [
                        strided(shares, (rows, shape[-1]), (1, 0), (shape[-1], 1), weight=-w)
                        for w in b.terms(unit)
                    ],
                )
        found.append(s)
    return found


def _weighted(
    builder: Builder, spikes: list[str], weight: np.ndarray, name: str
) -> list[c.Projection]:
    """Projections of ``weight`` (out, in), even integers, from spikes of each sign."""
    found: list[c.Projection] = []
    for src, sign in zip(spikes, (1, -1), strict=False):
        tensor = builder.tensor(f"{name}.weight", (sign * weight).astype(np.int16))
        found.append(c.Dense(name="", src=Ref(src), dst=Ref(""), weight=tensor))
    return found


def one_spike_layer(
    weight: np.ndarray, largest: int, code: OneSpikeCode, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """Values that are sent, weighted and collected: ``weight`` int (out, in), even, on Loihi 2 -254..254.

    Input int32 (samples, in) in -``largest``..``largest``. The readout, (out,), is what membranes have
    collected: ``weight @ y`` with y a power P for each value, two windows later.
    """
    whole("largest", largest)
    most = fields.weight - 1
    if weight.ndim != 2 or not weight.size or np.any(weight % 2) or np.abs(weight).max() > most:
        raise NeurocompileError(
            "NC2011",
            f"weights {weight.shape} of a layer of one spike a value: (out, in), even, within -{most}..{most}",
        )
    builder = Builder(fields)
    window = Window(builder, code)
    x = builder.population(c.HostInput, "x", (weight.shape[1],), "x", low=-largest, high=largest)
    spikes = send(window, x, largest, largest, "sent", "sent")
    inputs = _weighted(builder, spikes, weight, "layer")
    most = int(np.abs(weight).sum(axis=1).max()) * code.largest  # of what is collected
    v = collect(window, inputs, (len(weight),), most, "layer", "layer")
    builder.readout(hold(builder, v, (-most, most), code.steps, "out", "out"))
    return builder.finish("a layer of one spike a value", code.steps)


# ---- definition ----------------------------------------------------------------------------------


def sent_steps(
    values: np.ndarray, level: np.ndarray | int, code: OneSpikeCode
) -> tuple[np.ndarray, np.ndarray]:
    """(steps, signs) in which ``values`` are sent, int64: the first t with ``|V| P(t) >= level``; sign 0
    for what sends nothing.
    """
    reached = np.abs(values.astype(np.int64))[..., None] * code.powers
    reached = np.maximum.accumulate(reached, axis=-1) >= np.asarray(level)[..., None]
    return reached.argmax(-1), np.where(reached.any(-1), np.sign(values), 0).astype(np.int64)


def one_spike_values(values: np.ndarray, level: np.ndarray | int, code: OneSpikeCode) -> np.ndarray:
    """What the spikes of ``values`` count for a layer that collects them: int64, of their sign."""
    at, sign = sent_steps(values, level, code)
    return sign * code.powers[code.steps - 1 - at]
