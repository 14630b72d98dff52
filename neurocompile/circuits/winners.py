"""Winner-take-all and k winners.

*Comparators*: unit (i, j) fires if x_i beats x_j (ties go to the lower index); whoever beats n - k
others wins. Exact from the second step on, with n^2 neurons::

    c_ij = [x_i - x_j >= 0] for i < j, [x_i - x_j >= 1] for i > j;   w_i = [sum_j c_ij >= n - k]

*Subtractive inhibition* (what Lemma 3 of the paper describes): every neuron still active loses the
excess of active ones, until k are left, which then keep what they have. n neurons three times, as
many steps as the (k+1)-th input is large::

    y = relu(y - g + load);   s = [y - g + load > 0];   g = relu(sum_j s_j - k)      (right sides of the step before)

g is late by one step, so values are loaded times 2 n, and by 1 to n more for the rank in ties: the
last loser then leaves the winners more than one late subtraction takes, and zeros are active too.
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

__all__ = ["k_winners", "subtractive_winners"]


def k_winners(
    n: int, k: int, largest: int, steps: int = 1, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """The k largest of n inputs, int32 (samples, n) in 0..``largest``, as spikes of population
    ``winner`` in every step.
    """
    _check(n, k, largest, 1, steps, fields)
    builder = Builder(fields)
    x = builder.population(c.HostInput, "x", (n,), "x", low=0, high=largest)
    # rows win ties against later columns: bias 1 makes > into >=
    ties = (64 * (np.arange(n)[:, None] <= np.arange(n)[None])).astype(np.int16)
    better = builder.population(
        c.LIF,
        "better",
        (n, n),
        "better",
        vth=0,
        dv=ALL,
        reset=True,
        bias=builder.tensor("ties", ties),
    )
    builder.drive(
        better, [strided(x, (n, n), (1, 0), (n, 1)), strided(x, (n, n), (0, 1), (n, 1), weight=-1)]
    )
    winner = builder.population(c.LIF, "winner", (n,), "winner", vth=n - k, dv=ALL, reset=True)
    builder.drive(
        winner, [strided(better, (n, n), (n, 1), (1, 0))]
    )  # itself included: more than n - k
    return _finish(builder, winner, n, f"{k} winners", steps)


def subtractive_winners(
    n: int, k: int, largest: int, steps: int, fields: ChipFields = LOIHI2
) -> c.CircuitGraph:
    """The same by subtractive inhibition; population ``active`` has converged after about ``2 n^2
    largest`` steps at most.
    """
    whole("n", n)
    _check(n, k, largest, 2 * n * n, steps, fields)
    builder, scale, reach = Builder(fields), 2 * n, (2 * n * n) * (largest + 1)
    x = builder.population(c.HostInput, "x", (n,), "x", low=0, high=largest)
    load = builder.population(c.GradedRelu, "load", (n,), "load", largest=reach)
    past = builder.population(
        c.LIF,
        "past",
        (1,),
        "past",
        vth=0,
        dv=ALL,
        reset=True,
        bias=builder.tensor("past.bias", np.ones(1, np.int16)),
    )
    ranks = builder.population(c.GradedRelay, "rank", (n,), "rank", largest=scale * n)
    one = builder.always_on("rank")
    for i in range(n):  # constants beyond the 8 bits of one synapse
        for term in builder.terms(scale * (n - i)):
            builder.drive(ranks, [strided(one, (1,), (0,), (0,), weight=term, dst_offset=i)])
    for term in builder.terms(scale * n):
        builder.drive(load, [strided(x, (n,), (1,), (1,), weight=term)])
    builder.drive(load, [strided(ranks, (n,), (1,), (1,))])
    bound = 1 << max(reach.bit_length() - fields.weight_bits, 0)
    builder.drive(
        load, [recurrent(strided(past, (n,), (0,), (1,), weight=-(-(-reach // bound) * bound)))]
    )  # step 0 only
    y = builder.population(c.GradedRelu, "y", (n,), "y", largest=reach)
    active = builder.population(
        c.LIF, "active", (n,), "active", vth=0, dv=ALL, reset=True, largest=reach
    )
    excess = builder.population(c.GradedRelu, "excess", (1,), "excess", largest=n)
    minus_k = builder.always_on("excess")
    builder.drive(
        excess,
        [
            strided(minus_k, (1,), (0,), (0,), weight=-k),
            recurrent(strided(active, (n,), (1,), (0,))),
        ],
    )
    for name in (y, active):
        builder.drive(
            name, [strided(load, (n,), (1,), (1,)), recurrent(strided(y, (n,), (1,), (1,)))]
        )
        builder.drive(name, [recurrent(strided(excess, (n,), (0,), (1,), weight=-1))])
    return _finish(builder, active, n, f"{k} winners by subtraction", steps)


def _check(n: int, k: int, largest: int, scale: int, steps: int, fields: ChipFields) -> None:
    whole("n", n), whole("k", k), whole("largest", largest, 0, 1 << 60), whole("steps", steps)
    many, most = fields.weight // 2, min(fields.current // 4, 30_000)
    if not 1 <= k <= n <= many or not 1 <= largest or scale * (largest + 1) > most:
        raise NeurocompileError(
            "NC2011",
            f"{k} winners of {n} inputs up to {largest:,}: k is 1..n, n at most {many}, inputs at most {most // scale - 1:,}",
        )


def _finish(builder: Builder, spikes: str, n: int, name: str, steps: int) -> c.CircuitGraph:
    out = builder.population(c.GradedRelay, "out", (n,), "out")
    builder.drive(out, [strided(spikes, (n,), (1,), (1,))])
    builder.readout(out)
    return builder.finish(name, steps)
