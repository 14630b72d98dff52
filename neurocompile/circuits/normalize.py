"""Divisive normalization ``r_i = x_i / sum_j x_j`` by lateral inhibition, at full rate: one spike
decision a step.

An interneuron carries S, the sum of all inputs. Neuron i integrates x_i, fires when its membrane
reaches S, and S is taken from it. What it fires of T steps is r_i with an error below 1/T: no spike
is lost, only the rest of the membrane. With ``half`` the membrane starts at S/2, which halves the
error. (Subtracting the pool's activity, as the paper's Lemma 3 has it, converges to winner-take-all
instead: :mod:`neurocompile.circuits.winners`.)

A reset by S is a product of a spike and a graded value. A gate takes one step, so the membrane is
kept as ``p - q`` with the subtrahend one step late, and the spike as the sum of two units, of which
the last spike chooses one; every loop then has length one (all right sides of the step before; M >
3 S)::

    p = p - q + x            q = relu(S + M s - M)                   the gate S s
    a = [p - q + x - S - M s >= 0]       b = [p - q + x - 2 S + M s - M >= 0]        s = a + b

With ``half`` everything is doubled, p is signed, and the thresholds are S and 3 S in place of 2 S
and 4 S.

Equal inputs then fire in the same steps, and round together: 16 rates of 1/16 are all 0 or all 1/8
at T = 8. :func:`staggered` membranes start at 1/32, 17/32, 9/32, .. of S instead, so that equal
inputs take turns. A sum over rates, such as an attention head's, is then off by the root of n
roundings, not by n of them.

The stochastic form compares x_i with noise that is uniform on 0..S-1 (from the host) in every step:
independent Bernoulli spikes with probability r_i, the code that the paper's 1/sqrt(T) bounds are
about.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.parameters import MOST, whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = [
    "STARTS",
    "divide",
    "largest_sum_of",
    "normalization",
    "recurrent",
    "staggered",
    "stochastic_normalization",
    "threshold_unit",
]

STARTS = tuple(2 * int(f"{j:04b}"[::-1], 2) + 1 for j in range(16))
"""Where membranes of 16 neighbours start, in 1/32 of the sum."""


def largest_sum_of(fields: ChipFields = LOIHI2, half: bool = False, steps: int = 1) -> int:
    """Of all inputs: membranes and inhibition together keep to a current (8,000 on Loihi 2). With
    ``half`` membranes start at half of the sum and everything is doubled: a unit reads up to 31 times
    the sum. Where idle steps follow the ``steps`` of a sample, up to the next power of two, inhibition
    holds for these too: 5,698 and 3,048.
    """
    idle = fields.power_of_two_period and steps & (steps - 1)
    if half:
        return fields.current // (43 if idle else 31)
    return min(fields.current // (23 if idle else 16), 8_000)


def normalization(
    n: int, largest_sum: int, steps: int, half: bool = False, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """The circuit for inputs int32 (samples, n) >= 0 whose sum is 1..``largest_sum`` (at most
    8,000 on Loihi 2, 4,228 with ``half``; 5,698 and 3,048 where ``steps`` is no power of two).

    Its readout is the rate of each neuron; population ``out`` has the spikes as 0 and 1.
    """
    whole("n", n), whole("largest_sum", largest_sum, -MOST, 1 << 60), whole("steps", steps)
    most = largest_sum_of(fields, half, steps)
    if not 1 <= largest_sum <= most:
        raise NeurocompileError(
            "NC2011",
            f"normalization of {n} inputs with sums up to {largest_sum:,} over {steps:,} steps: sums "
            f"reach {most:,}" + (" with half=True" if half else ""),
        )
    builder = Builder(fields)
    x = builder.population(c.HostInput, "x", (n,), "x", low=0, high=largest_sum)
    total = builder.population(c.GradedRelay, "sum", (1,), "sum", largest=largest_sum)
    builder.drive(total, [strided(x, (n,), (1,), (0,))])
    return _read(
        builder, "normalization", n, divide(builder, x, total, 1, n, largest_sum, half), steps
    )


def divide(
    builder: Builder,
    x: str,
    total: str,
    rows: int,
    n: int,
    largest_sum: int,
    half: bool = True,
    prefix: str = "",
    threshold: str = "",
) -> tuple[str, str]:
    """The loops of :func:`normalization` for ``rows`` sums at once; returns two populations, never
    on together.

    Args:
        x: graded population of rows * n values >= 0, constant from where they start; until then 0.
        total: graded population of the rows' sums, 1..``largest_sum``; ``largest_sum`` until x
            starts.
        threshold: of :func:`staggered`, in place of ``half``.
    """
    half = half and not threshold
    unit, size = 2 if half else 1, rows * n
    shape = (n,) if rows == 1 else (rows, n)
    reach, inhibition = 3 * unit * largest_sum, 4 * unit * largest_sum
    membrane_kind = c.GradedRelay if half or threshold else c.GradedRelu
    p = builder.population(membrane_kind, f"{prefix}p", shape, f"{prefix}membrane", largest=reach)
    q = builder.population(
        c.GradedRelu, f"{prefix}q", shape, f"{prefix}reset", largest=unit * largest_sum
    )
    a, b = (threshold_unit(builder, f"{prefix}{name}", shape, reach) for name in ("a", "b"))
    one = builder.always_on(f"{prefix}gate")
    patterns = {total: ((rows, n), (1, 0), (n, 1)), one: ((size,), (0,), (1,))}

    def add(dst: str, forward: list[tuple[str, int]], loops: list[tuple[str, int]]) -> None:
        for src, weight in (*forward, *loops):
            pattern = patterns.get(src, ((size,), (1,), (1,)))
            for term in builder.terms(abs(weight)):
                projection = strided(src, *pattern, weight=term if weight > 0 else -term)
                builder.drive(
                    dst, [recurrent(projection) if (src, weight) in loops else projection]
                )

    membrane, spike = [(p, 1), (q, -1)], [(a, inhibition), (b, inhibition)]
    low = [(threshold, -1)] if threshold else [(total, -1)]
    high = [*low, (total, -1)] if threshold else [(total, -3 if half else -2)]
    add(p, [(x, unit)], membrane)
    add(q, [(total, unit), (one, -inhibition)], spike)
    add(a, [(x, unit), *low], [*membrane, (a, -inhibition), (b, -inhibition)])
    add(b, [(x, unit), *high, (one, -inhibition)], [*membrane, *spike])
    return a, b


def staggered(
    builder: Builder, total: str, rows: int, n: int, largest_sum: int, prefix: str = ""
) -> str:
    """Thresholds (rows, n) at which membranes that start at 0 fire as if neuron j had started at
    ``STARTS[j % 16] S >> 5``.
    """
    shape, size = (rows, n), rows * n
    scaled = builder.population(
        c.GradedRelay,
        f"{prefix}start.32",
        shape,
        f"{prefix}start",
        largest=max(STARTS) * largest_sum,
    )
    for j, weight in enumerate(STARTS[:n]):
        columns = len(range(j, n, len(STARTS)))
        builder.drive(
            scaled,
            [
                strided(
                    total, (rows, columns), (1, 0), (n, len(STARTS)), weight=weight, dst_offset=j
                )
            ],
        )
    start = builder.population(
        c.GradedRelay, f"{prefix}start", shape, f"{prefix}start", largest=largest_sum
    )
    builder.drive(start, [replace(strided(scaled, (size,), (1,), (1,)), weight_exp=-5)])
    found = builder.population(
        c.GradedRelay, f"{prefix}threshold", shape, f"{prefix}start", largest=largest_sum
    )
    builder.drive(
        found,
        [strided(total, shape, (1, 0), (n, 1)), strided(start, (size,), (1,), (1,), weight=-1)],
    )
    return found


def stochastic_normalization(
    n: int, largest_sum: int, steps: int, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """The stochastic form. Input int32 (samples, steps, 2 n): x in every step, then noise, uniform
    on 0..sum(x)-1.
    """
    whole("n", n), whole("largest_sum", largest_sum, most=fields.current), whole("steps", steps)
    builder = Builder(fields)
    x = builder.population(c.HostInput, "x", (2 * n,), "x", low=0, high=largest_sum, stepwise=True)
    fired = builder.population(c.LIF, "fired", (n,), "fired", vth=0, dv=ALL, reset=True)
    builder.drive(
        fired, [strided(x, (n,), (1,), (1,)), strided(x, (n,), (1,), (1,), weight=-1, src_offset=n)]
    )
    return _read(builder, "stochastic normalization", n, (fired,), steps)


def recurrent(projection: c.Projection) -> c.Projection:
    """``projection``, one step late within one depth."""
    return replace(projection, recurrent=True)


def threshold_unit(builder: Builder, name: str, shape: tuple[int, ...], largest: int = 0) -> str:
    """Neurons without memory that fire where their input is >= 0."""
    one = builder.tensor(f"{name}.at_least", np.ones(1, np.int16))
    return builder.population(
        c.LIF, name, shape, name, vth=0, dv=ALL, bias=one, reset=True, largest=largest
    )


def _read(
    builder: Builder, name: str, n: int, spikes: tuple[str, ...], steps: int
) -> c.CircuitGraph:
    """Sum of disjoint spike populations as ``out``, read as rates."""
    out = builder.population(c.GradedRelay, "out", (n,), "out")
    builder.drive(out, [strided(s, (n,), (1,), (1,)) for s in spikes])
    builder.readout(out)
    return builder.finish(name, steps)
