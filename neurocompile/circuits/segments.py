"""Functions of one value by segments: sums of rectifiers, in two to a few steps, without a state.

A smooth function of many elements is ``constant + sum w_k relu(x - knot_k)``: a neuron a knot and an
element, then one shift. A function that falls over many octaves, such as 1 / x of a softmax's sum,
which exists once a row, is summed from its right end, so that its small values keep their digits::

    near_k = relu(x - start_k);   part_k = relu(length_k - near_k) = min(max(end_k - x, 0), length_k)
    y = constant + sum over exponents e of floor(sum of weight_k part_k / 2^e)

with x in a coarser unit for the segments of larger x.

Segments of one exponent add up before the shift, so that they round once together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.constants import Constants
from neurocompile.circuits.digits import shifted
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref

__all__ = ["clip", "falling", "piecewise"]


def piecewise(
    builder: Builder,
    x: str,
    knots: np.ndarray,
    weights: np.ndarray,
    constant: int,
    shift: int,
    name: str,
    layer: str,
) -> str:
    """A population like ``x``: ``floor((constant + sum weights relu(x - knots)) / 2^shift)``."""
    shape = builder.shape(x)
    n, constants = prod(shape), Constants(builder, name, layer)
    total = builder.population(c.GradedRelay, f"{name}.sum" if shift else name, shape, layer)
    for k, (knot, weight) in enumerate(zip(knots.tolist(), weights.tolist(), strict=True)):
        if weight:
            part = builder.population(c.GradedRelu, f"{name}.from{k}", shape, layer)
            builder.drive(part, [strided(x, (n,), (1,), (1,))])
            constants.add(part, -knot)
            sign = 1 if weight > 0 else -1
            builder.drive(
                total,
                [
                    strided(part, (n,), (1,), (1,), weight=sign * w)
                    for w in builder.terms(abs(weight))
                ],
            )
    constants.add(total, constant)
    return shifted(builder, total, shift, name, layer)


def falling(
    builder: Builder, x: str, tensors: Sequence[np.ndarray], constant: int, name: str, layer: str
) -> str:
    """A population like ``x``, see above.

    Args:
        tensors: int64 (K,): ends, lengths, weights, exponents, bits dropped from x.
    """
    ends, lengths, weights, exponents, drops = tensors
    shape = builder.shape(x)
    rows, constants = prod(shape), Constants(builder, name, layer)
    out = builder.population(c.GradedRelay, name, shape, layer)
    constants.add(out, constant)
    coarse, most = {0: x}, builder.fields.shift
    for drop in range(1, int(drops.max(initial=0)) + 1):
        if drop % most == 0 or drop in drops:
            base = (drop - 1) // most * most
            coarse[drop] = shifted(builder, coarse[base], drop - base, f"{name}.x{drop}", layer)
    for drop in np.unique(drops[weights > 0]).tolist():
        chosen = np.flatnonzero((drops == drop) & (weights > 0))
        count, groups = len(chosen), np.unique(exponents[chosen]).tolist()
        near = builder.population(c.GradedRelu, f"{name}.near", (rows, 1, count), layer)
        builder.drive(near, [strided(coarse[drop], (rows, count), (1, 0), (count, 1))])
        constants.add(near, lengths[chosen] - ends[chosen])
        part = builder.population(c.GradedRelu, f"{name}.part", (rows, 1, count), layer)
        builder.drive(part, [strided(near, (rows * count,), (1,), (1,), weight=-1)])
        constants.add(part, lengths[chosen])
        # a sum for each exponent, (rows, 1, exponents): a 1 x 1 convolution
        total = builder.population(c.GradedRelay, f"{name}.sum", (rows, 1, len(groups)), layer)
        kernel = np.where(exponents[chosen] == np.array(groups)[:, None], weights[chosen], 0)
        weight = builder.tensor(f"{name}.weight", kernel.astype(np.int16)[:, None, None])
        builder.drive(
            total, [c.Conv2d(name="", src=Ref(part), dst=Ref(""), weight=weight, sign="excitatory")]
        )
        for i, e in enumerate(groups):
            read, pattern = total, ((rows,), (len(groups),), (1,))
            if e > 0:
                read = builder.population(c.GradedRelay, f"{name}.shifted", shape, layer)
                one = strided(total, *pattern, src_offset=i)
                builder.drive(read, [replace(one, weight_exp=-min(e, most))])
                read = shifted(builder, read, e - min(e, most), f"{name}.shifted", layer)
                pattern, i = ((rows,), (1,), (1,)), 0
            builder.drive(out, [strided(read, *pattern, weight=1 << max(-e, 0), src_offset=i)])
    return out


def clip(builder: Builder, x: str, low: int, high: int, name: str, layer: str) -> str:
    """A population like ``x``: ``min(max(x, low), high)`` by two rectifiers."""
    shape = builder.shape(x)
    n, constants = prod(shape), Constants(builder, name, layer)
    above = builder.population(c.GradedRelu, f"{name}.above", shape, layer)
    builder.drive(above, [strided(x, (n,), (1,), (1,))])
    constants.add(above, -low)
    left = builder.population(c.GradedRelu, f"{name}.left", shape, layer)
    builder.drive(left, [strided(above, (n,), (1,), (1,), weight=-1)])
    constants.add(left, high - low)
    out = builder.population(c.GradedRelay, name, shape, layer)
    builder.drive(out, [strided(left, (n,), (1,), (1,), weight=-1)])
    constants.add(out, high)
    return out
