"""Interval arithmetic on a circuit: how large inputs and membranes can become, over all steps of a
sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL, INSTANT
from neurocompile.ir.folded_ranges import gates
from neurocompile.ir.interval import Interval, signed_sums
from neurocompile.ir.tables import KindTable

__all__ = ["EMITTED", "GAINS", "Reach", "reaches"]


@dataclass(frozen=True)
class Reach:
    """What a population can see: sums of inputs ``low``..``high``; of a LIF also the largest
    ``membrane`` (2^-6 input units, before a spike resets it); and the largest input without
    recurrent projections, ``forward``."""

    low: int
    high: int
    forward: int
    membrane: int = 0


def reaches(circuit: c.CircuitGraph) -> dict[str, Reach]:
    """The reach of every population; ``largest`` of a population bounds it from above where it is
    given.
    """
    gains = {q.name: GAINS.of(q)(circuit, q) for q in circuit.projections}
    out: dict[str, Interval] = {}
    found: dict[str, Reach] = {}
    closed = gates(circuit)
    for group in circuit.groups:
        if circuit.windows > 1:
            out.update((p.name, _kept(p)) for p in group)
        forward = {p.name: _sum(circuit, p, gains, out, False) for p in group}
        now = {p.name: Interval(0, 0) for p in group}
        state = {p.name: (0, 0) for p in group}
        bounds = {p.name: Reach(0, 0, forward[p.name][1]) for p in group}
        loops = any(q.recurrent for p in group for q in circuit.incoming[p.name])
        # two at least: what a loop emits on its own before the first sample arrives one step later
        for _ in range(max(circuit.steps, 2) if loops else 1):
            before, made = (dict(now), dict(state)), {}
            for p in group:
                low, high = (
                    a + b for a, b in zip(forward[p.name], _sum(circuit, p, gains, now, True))
                )
                if amount := closed.get(p.name):  # opens for what arrives, and else hears -M alone
                    low, high = min(low + amount, -amount), high - amount
                old = bounds[p.name]
                membrane = old.membrane
                if isinstance(p, c.LIF):
                    state[p.name], voltage = _membrane(circuit, p, state[p.name], high)
                    membrane = max(membrane, min(voltage, p.largest << 6) if p.largest else voltage)
                elif p.largest:
                    low, high = max(low, -p.largest), min(high, p.largest)
                bounds[p.name] = Reach(
                    min(old.low, low), max(old.high, high), old.forward, membrane
                )
                made[p.name] = EMITTED.of(p)(p, bounds[p.name])
            now = made
            if (now, state) == before:
                break
        out.update(now)
        found.update(bounds)
    return found


def _kept(p: c.Population) -> Interval:
    """What a member of a folded circuit's memory emits, before anything is known of its inputs."""
    return EMITTED.of(p)(p, Reach(-p.largest, p.largest, 0))


EMITTED: KindTable[Callable[[Any, Reach], Interval]] = KindTable(
    "emitted values", ("population",), "how large what it sends is"
)
"""(population, what it sees) -> what it sends."""
EMITTED.add(lambda p, reach: Interval(p.low, p.high), c.HostInput)
EMITTED.add(lambda p, reach: Interval(0, 1), c.LIF)
EMITTED.add(lambda p, reach: Interval(reach.low, reach.high), c.GradedRelay)
EMITTED.add(lambda p, reach: Interval(max(reach.low, 0), max(reach.high, 0)), c.GradedRelu)


def _membrane(
    circuit: c.CircuitGraph, p: c.LIF, state: tuple[int, int], high: int
) -> tuple[tuple[int, int], int]:
    """Upper bounds of (current, voltage that stays) after a step, and of the voltage before the
    reset.
    """
    bias = 0 if p.bias is None else int(circuit.tensors[p.bias].max()) << p.bias_exp
    u = max((max(state[0], 0) * (INSTANT - p.du) >> 12) + (high << 6), 0)
    v = (max(state[1], 0) * (ALL - p.dv) >> 12) + u + bias
    return (u, max(min(v, p.vth << 6), 0)), v


def _sum(
    circuit: c.CircuitGraph,
    p: c.Population,
    gains: dict[str, tuple[int, int]],
    out: dict[str, Interval],
    recurrent: bool,
) -> tuple[int, int]:
    low = high = 0
    for q in circuit.incoming[p.name]:
        if q.recurrent == recurrent:
            source = out[q.src]
            if isinstance(q, c.Conv2d):
                source = source.with_zero()  # the border reads zeros
            least, most = source.weighted(*gains[q.name])
            rounded = max(-q.weight_exp, 0) if isinstance(q, c.Strided) else 0
            low += int(least) >> rounded
            high += int(most) >> rounded
    return low, high


GAINS: KindTable[Callable[[c.CircuitGraph, Any], tuple[int, int]]] = KindTable(
    "gains of circuits", ("projection",), "how much it adds up to"
)
"""(circuit, projection) -> least sum of negative and largest sum of positive weights of one
destination."""


@GAINS.rule(c.Strided)
def _strided_gain(circuit: c.CircuitGraph, q: c.Strided) -> tuple[int, int]:
    fan = prod(n for n, stride in zip(q.sizes, q.dst_strides) if stride == 0)
    total = fan * q.weight << max(q.weight_exp, 0)
    return min(total, 0), max(total, 0)


@GAINS.rule(c.Dense, c.Conv2d)
def _tensor_gain(circuit: c.CircuitGraph, q: c.Dense | c.Conv2d) -> tuple[int, int]:
    weight = circuit.weight(q)
    assert weight is not None
    negative, positive = signed_sums(c.powered(weight.astype(np.int64), q.weight_exp))
    return int(negative.min(initial=0)), int(positive.max(initial=0))
