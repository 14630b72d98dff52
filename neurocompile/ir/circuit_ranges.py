"""Interval arithmetic on a circuit: how large inputs and membranes can become, over all steps of a
sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from neurocompile.ir import circuit as c
from neurocompile.ir.folded_ranges import gates

__all__ = ["Reach", "reaches"]


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
    gains = {q.name: _gain(circuit, q) for q in circuit.projections}
    out: dict[str, tuple[int, int]] = {}
    found: dict[str, Reach] = {}
    closed = gates(circuit)
    for group in circuit.groups:
        if circuit.windows > 1:
            out.update((p.name, _kept(p)) for p in group)
        forward = {p.name: _sum(circuit, p, gains, out, False) for p in group}
        now = {p.name: (0, 0) for p in group}
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
                made[p.name] = _out(p, bounds[p.name])
            now = made
            if (now, state) == before:
                break
        out.update(now)
        found.update(bounds)
    return found


def _kept(p: c.Population) -> tuple[int, int]:
    """What a member of a folded circuit's memory emits, before anything is known of its inputs."""
    return (0, 1) if isinstance(p, c.LIF) else (-p.largest, p.largest)


def _out(p: c.Population, reach: Reach) -> tuple[int, int]:
    if isinstance(p, c.HostInput):
        return p.low, p.high
    if isinstance(p, c.LIF):
        return 0, 1
    return (
        (max(reach.low, 0), max(reach.high, 0))
        if isinstance(p, c.GradedRelu)
        else (reach.low, reach.high)
    )


def _membrane(
    circuit: c.CircuitGraph, p: c.LIF, state: tuple[int, int], high: int
) -> tuple[tuple[int, int], int]:
    """Upper bounds of (current, voltage that stays) after a step, and of the voltage before the
    reset.
    """
    bias = 0 if p.bias is None else int(circuit.tensors[p.bias].max()) << p.bias_exp
    u = max((max(state[0], 0) * (4095 - p.du) >> 12) + (high << 6), 0)
    v = (max(state[1], 0) * (4096 - p.dv) >> 12) + u + bias
    return (u, max(min(v, p.vth << 6), 0)), v


def _sum(
    circuit: c.CircuitGraph,
    p: c.Population,
    gains: dict[str, tuple[int, int]],
    out: dict[str, tuple[int, int]],
    recurrent: bool,
) -> tuple[int, int]:
    low = high = 0
    for q in circuit.incoming[p.name]:
        if q.recurrent == recurrent:
            (negative, positive), (least, most) = gains[q.name], out[q.src]
            if isinstance(q, c.Conv2d):
                least, most = min(least, 0), max(most, 0)  # the border reads zeros
            rounded = max(-q.weight_exp, 0) if isinstance(q, c.Strided) else 0
            low += (positive * least + negative * most) >> rounded
            high += (positive * most + negative * least) >> rounded
    return low, high


def _gain(circuit: c.CircuitGraph, q: c.Projection) -> tuple[int, int]:
    """Least sum of negative and largest sum of positive weights of one destination."""
    if isinstance(q, c.Strided):
        fan = prod(n for n, stride in zip(q.sizes, q.dst_strides) if stride == 0)
        total = fan * q.weight << max(q.weight_exp, 0)
        return min(total, 0), max(total, 0)
    weight = circuit.weight(q)
    assert weight is not None
    flat = c.powered(weight.reshape(len(weight), -1).astype(np.int64), q.weight_exp)
    return int(np.minimum(flat, 0).sum(axis=1).min(initial=0)), int(
        np.maximum(flat, 0).sum(axis=1).max(initial=0)
    )
