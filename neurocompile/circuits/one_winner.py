"""Divisive normalization with one winner a step: n neurons compete, and exactly one fires in every
step but the first.

Every membrane gains its input, the largest membrane fires, and S, the sum of all inputs, is taken
from it. Inhibition needs a step to arrive, so the winner of a step is that of the membranes one
step before::

    p_i(t) = p_i(t-1) + x_i - S w_i(t-1)         w(t) = one-hot of the largest p(t-1), ties to the lower index;  w(0) = 0

Of T steps a neuron wins ``x_i / S`` up to O(1/T), without noise. On the chip comparators read what
the membranes read, and a winner's spike is S itself: a rectifier that all n comparators of its row,
itself included, lift above zero::

    c_ij = [p_i - S w_i + x_i  >=  p_j - S w_j + x_j]        S w_i = relu(S + M (sum_j c_ij - n))      (right sides one step before)

Membranes lie within -2 S and 2 n S, and (2 n + 2) S apart at most: they sum to 2 S, a winner's is
above their mean when it is chosen, and at most two inhibitions are on their way.
"""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.normalize import recurrent
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.parameters import whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["one_winner"]


def one_winner(n: int, largest_sum: int, steps: int, fields: ChipFields = LOIHI2) -> c.CircuitGraph:
    """The circuit for inputs int32 (samples, n) >= 0 whose sum is 1..``largest_sum``; NC2011 if (6
    n + 8) times that exceeds a current (131,071 on Loihi 2).

    Its readout is how often each neuron won; population ``out`` has the winners as 0 and 1.
    """
    whole("n", n), whole("largest_sum", largest_sum, 0, 1 << 60), whole("steps", steps)
    most, widest = fields.weight // 2, fields.current // (6 * n + 8)
    if not 1 <= n <= most or not 1 <= largest_sum <= widest:
        raise NeurocompileError(
            "NC2011",
            f"one winner a step of {n} inputs with sums up to {largest_sum:,} over {steps:,} steps: n is 1 to {most}, and sums "
            f"reach {widest:,}",
        )
    builder, reach = Builder(fields), (2 * n + 2) * largest_sum
    x = builder.population(c.HostInput, "x", (n,), "x", low=0, high=largest_sum)
    total = builder.population(c.GradedRelay, "sum", (1,), "sum", largest=largest_sum)
    builder.drive(total, [strided(x, (n,), (1,), (0,))])
    membrane = builder.population(c.GradedRelay, "membrane", (n,), "membrane", largest=reach)
    ties = (64 * (np.arange(n)[:, None] <= np.arange(n)[None])).astype(
        np.int16
    )  # > becomes >= for the lower index
    better = builder.population(
        c.LIF,
        "better",
        (n, n),
        "better",
        vth=0,
        dv=ALL,
        reset=True,
        bias=builder.tensor("ties", ties),
        largest=reach,
    )
    charge = builder.population(c.GradedRelu, "charge", (n,), "charge", largest=largest_sum)
    rows, columns = ((n, n), (1, 0), (n, 1)), ((n, n), (0, 1), (n, 1))
    builder.drive(membrane, [strided(x, (n,), (1,), (1,))])
    builder.drive(
        membrane,
        [
            recurrent(strided(src, (n,), (1,), (1,), weight=w))
            for src, w in ((membrane, 1), (charge, -1))
        ],
    )
    for pattern, sign in ((rows, 1), (columns, -1)):
        builder.drive(better, [strided(x, *pattern, weight=sign)])
        builder.drive(
            better,
            [
                recurrent(strided(src, *pattern, weight=sign * w))
                for src, w in ((membrane, 1), (charge, -1))
            ],
        )
    one = builder.always_on("charge")
    builder.drive(charge, [strided(total, (n,), (0,), (1,))])
    for weight in builder.terms(largest_sum):
        builder.drive(charge, [recurrent(strided(better, (n, n), (n, 1), (1, 0), weight=weight))])
    builder.drive(
        charge,
        [
            strided(one, (n,), (0,), (1,), weight=-weight)
            for weight in builder.terms(n * largest_sum)
        ],
    )
    fired = builder.population(c.LIF, "fired", (n,), "fired", vth=0, dv=ALL, reset=True)
    builder.drive(fired, [strided(charge, (n,), (1,), (1,))])
    out = builder.population(c.GradedRelay, "out", (n,), "out")
    builder.drive(out, [strided(fired, (n,), (1,), (1,))])
    builder.readout(out)
    return builder.finish("one winner a step", steps)
