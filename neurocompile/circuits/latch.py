"""Sums over a whole sample, held for the next one: what a softmax or a mean over time inside of a
model needs.

A sum over T steps is known after the last of them. *A* adds up, a gate lets its sum pass in step
T-1 alone, and *L* keeps that for T steps. The projections from the gate advance by T-1 steps, so L
holds the same sample's sum in all of its steps and is T steps deeper: the next sample is already
being added up meanwhile, and throughput stays one sample in T steps::

    A(t) = A(t-1) + x(t)        G(t) = relu(A(t) + M last(t) - M)        L(t) = L(t-1) + G(t + T-1)

``last`` is one neuron that fires in step T-1. Signed sums in -M..M take 2 M from ``last``, and L
loses M.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.normalize import recurrent
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c

__all__ = ["hold", "total"]


def total(
    builder: Builder,
    inputs: tuple[c.Projection, ...],
    shape: tuple[int, ...],
    bounds: tuple[int, int],
    steps: int,
    name: str,
    layer: str,
) -> str:
    """A graded population of ``shape`` that is, in all T steps, the sum over the T steps of
    ``inputs`` (without destination).

    Args:
        bounds: lowest and highest partial sum; NC2012 if they leave what a loop of the chip holds.
    """
    largest, limit = max(-bounds[0], bounds[1], 1), builder.fields.held >> (bounds[0] < 0)
    if steps < 2 or largest > limit:
        raise NeurocompileError(
            "NC2012",
            f"layer '{layer}' sums up to {largest:,} over {steps:,} steps; at least 2 steps and sums of at most "
            f"{limit:,} are supported, use fewer steps or channels",
            layer=layer,
        )
    kind = c.GradedRelay if bounds[0] < 0 else c.GradedRelu
    added = builder.population(kind, f"{name}.sum", shape, layer, largest=largest)
    builder.drive(added, inputs)
    size = int(np.prod(shape))
    builder.drive(added, [recurrent(strided(added, (size,), (1,), (1,)))])
    return hold(builder, added, bounds, steps, name, layer)


def hold(
    builder: Builder, value: str, bounds: tuple[int, int], steps: int, name: str, layer: str
) -> str:
    """A graded population that is, in all T steps, what the graded population ``value`` is in step
    T-1, T steps deeper.
    """
    shape, largest = builder.shape(value), max(-bounds[0], bounds[1], 1)
    size, signed = int(np.prod(shape)), bounds[0] < 0
    bias = builder.tensor(f"{name}.last.bias", np.full(1, 64, np.int16))
    last = builder.population(
        c.LIF, f"{name}.last", (1,), layer, vth=steps - 1, bias=bias, reset=True
    )
    gate, one = (
        builder.population(
            c.GradedRelu, f"{name}.gate", shape, layer, largest=(1 + signed) * largest
        ),
        builder.always_on(f"{name}.gate"),
    )
    builder.drive(gate, [strided(value, (size,), (1,), (1,))])
    builder.drive(
        gate,
        [
            strided(last, (size,), (0,), (1,), weight=w)
            for w in builder.terms((1 + signed) * largest)
        ],
    )
    builder.drive(
        gate, [strided(one, (size,), (0,), (1,), weight=-w) for w in builder.terms(largest)]
    )
    held = builder.population(
        c.GradedRelay if signed else c.GradedRelu, name, shape, layer, largest=largest
    )
    advanced = [strided(gate, (size,), (1,), (1,))]
    advanced += [
        strided(last, (size,), (0,), (1,), weight=-w)
        for w in builder.terms(largest if signed else 0)
    ]
    builder.drive(held, [replace(q, advance=steps - 1) for q in advanced])
    builder.drive(held, [recurrent(strided(held, (size,), (1,), (1,)))])
    return held
