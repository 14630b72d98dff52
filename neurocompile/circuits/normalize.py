"""Divisive normalization ``r_i = x_i / sum_j x_j`` by lateral inhibition, at full rate: one spike decision a step.

An interneuron carries S, the sum of all inputs. Neuron i integrates x_i, fires when its membrane reaches S, and S is taken
from it. What it fires of T steps is r_i with an error below 1/T: no spike is lost, only the rest of the membrane. With
``half`` the membrane starts at S/2, which halves the error. (Subtracting the pool's activity, as the paper's Lemma 3 has
it, converges to winner-take-all instead: :mod:`neurocompile.circuits.winners`.)

A reset by S is a product of a spike and a graded value. A gate takes one step, so the membrane is kept as ``p - q`` with
the subtrahend one step late, and the spike as the sum of two units, of which the last spike chooses one; every loop then
has length one (all right sides of the step before; M > 3 S)::

    p = p - q + x            q = relu(S + M s - M)                   the gate S s
    a = [p - q + x - S - M s >= 0]       b = [p - q + x - 2 S + M s - M >= 0]        s = a + b

With ``half`` everything is doubled, p is signed, and the thresholds are S and 3 S in place of 2 S and 4 S.

The stochastic form compares x_i with noise that is uniform on 0..S-1 (from the host) in every step: independent Bernoulli
spikes with probability r_i, the code that the paper's 1/sqrt(T) bounds are about.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Builder, strided, terms
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref

__all__ = ["LARGEST_SUM", "divide", "normalization", "recurrent", "stochastic_normalization", "threshold_unit"]

LARGEST_SUM = 8_000
"""Of all inputs: membranes and inhibition together keep to the 17 bits of a current."""


def normalization(n: int, largest_sum: int, steps: int, half: bool = False) -> c.CircuitGraph:
    """The circuit for inputs int32 (samples, n) >= 0 whose sum is 1..``largest_sum`` (at most 8,000).

    Its readout is the rate of each neuron; population ``out`` has the spikes as 0 and 1.
    """
    if n < 1 or not 1 <= largest_sum <= LARGEST_SUM or steps < 1:
        raise NeurocompileError(
            "NC2011", f"normalization of {n} inputs with sums up to {largest_sum:,} over {steps:,} steps: sums reach {LARGEST_SUM:,}"
        )
    builder = Builder()
    x = builder.population(c.HostInput, "x", (n,), "x", low=0, high=largest_sum)
    total = builder.population(c.GradedRelay, "sum", (1,), "sum", largest=largest_sum)
    builder.drive(total, [strided(x, (n,), (1,), (0,))])
    return _read(builder, "normalization", n, divide(builder, x, total, 1, n, largest_sum, half), steps)


def divide(
    builder: Builder, x: str, total: str, rows: int, n: int, largest_sum: int, half: bool = True, prefix: str = ""
) -> tuple[str, str]:
    """The loops of :func:`normalization` for ``rows`` sums at once; returns two populations, never on together.

    Args:
        x: graded population of rows * n values >= 0, constant from where they start; until then 0.
        total: graded population of the rows' sums, 1..``largest_sum``; ``largest_sum`` until x starts.
    """
    unit, size = 2 if half else 1, rows * n
    shape = (n,) if rows == 1 else (rows, n)
    reach, inhibition = 3 * unit * largest_sum, 4 * unit * largest_sum
    membrane_kind = c.GradedRelay if half else c.GradedRelu
    p = builder.population(membrane_kind, f"{prefix}p", shape, f"{prefix}membrane", largest=reach)
    q = builder.population(c.GradedRelu, f"{prefix}q", shape, f"{prefix}reset", largest=unit * largest_sum)
    a, b = (threshold_unit(builder, f"{prefix}{name}", shape, reach) for name in ("a", "b"))
    one = builder.always_on(f"{prefix}gate")
    patterns = {total: ((rows, n), (1, 0), (n, 1)), one: ((size,), (0,), (1,))}

    def add(dst: str, forward: list[tuple[str, int]], loops: list[tuple[str, int]]) -> None:
        for src, weight in (*forward, *loops):
            pattern = patterns.get(src, ((size,), (1,), (1,)))
            for term in terms(abs(weight)):
                projection = strided(src, *pattern, weight=term if weight > 0 else -term)
                builder.drive(dst, [recurrent(projection) if (src, weight) in loops else projection])

    membrane, spike = [(p, 1), (q, -1)], [(a, inhibition), (b, inhibition)]
    low, high = (1, 3) if half else (1, 2)
    add(p, [(x, unit)], membrane)
    add(q, [(total, unit), (one, -inhibition)], spike)
    add(a, [(x, unit), (total, -low)], [*membrane, (a, -inhibition), (b, -inhibition)])
    add(b, [(x, unit), (total, -high), (one, -inhibition)], [*membrane, *spike])
    return a, b


def stochastic_normalization(n: int, largest_sum: int, steps: int) -> c.CircuitGraph:
    """The stochastic form. Input int32 (samples, steps, 2 n): x in every step, then noise, uniform on 0..sum(x)-1."""
    builder = Builder()
    x = builder.population(c.HostInput, "x", (2 * n,), "x", low=0, high=largest_sum, stepwise=True)
    fired = builder.population(c.LIF, "fired", (n,), "fired", vth=0, dv=4096, reset=True)
    builder.drive(fired, [strided(x, (n,), (1,), (1,)), strided(x, (n,), (1,), (1,), weight=-1, src_offset=n)])
    return _read(builder, "stochastic normalization", n, (fired,), steps)


def recurrent(projection: c.Projection) -> c.Projection:
    """``projection``, one step late within one depth."""
    return replace(projection, recurrent=True)


def threshold_unit(builder: Builder, name: str, shape: tuple[int, ...], largest: int = 0) -> str:
    """Neurons without memory that fire where their input is >= 0."""
    one = builder.tensor(f"{name}.at_least", np.ones(1, np.int16))
    return builder.population(c.LIF, name, shape, name, vth=0, dv=4096, bias=one, reset=True, largest=largest)


def _read(builder: Builder, name: str, n: int, spikes: tuple[str, ...], steps: int) -> c.CircuitGraph:
    """Sum of disjoint spike populations as ``out``, read as rates."""
    out = builder.population(c.GradedRelay, "out", (n,), "out")
    builder.drive(out, [strided(s, (n,), (1,), (1,)) for s in spikes])
    builder.readouts.append(c.Readout(name=builder.name("readout"), src=Ref(out), scale=1.0))
    return builder.finish(name, steps)
