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
from math import prod

import numpy as np

from neurocompile.circuits.builder import Builder, strided, terms
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
                [strided(part, (n,), (1,), (1,), weight=sign * w) for w in terms(abs(weight))],
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
    coarse = {0: x}
    for drop in range(1, int(drops.max(initial=0)) + 1):
        if drop % 7 == 0 or drop in drops:
            base = (drop - 1) // 7 * 7
            coarse[drop] = shifted(builder, coarse[base], drop - base, f"{name}.x{drop}", layer)
    for e, drop in sorted(set(zip(exponents.tolist(), drops.tolist(), strict=True))):
        chosen = np.flatnonzero((exponents == e) & (drops == drop) & (weights > 0))
        count = len(chosen)
        if not count:
            continue
        group = (rows, 1, count)
        near = builder.population(c.GradedRelu, f"{name}.near", group, layer)
        builder.drive(near, [strided(coarse[drop], (rows, count), (1, 0), (count, 1))])
        constants.add(near, lengths[chosen] - ends[chosen])
        part = builder.population(c.GradedRelu, f"{name}.part", group, layer)
        builder.drive(part, [strided(near, (rows * count,), (1,), (1,), weight=-1)])
        constants.add(part, lengths[chosen])
        total = builder.population(c.GradedRelay, f"{name}.sum", (rows, 1, 1), layer)
        kernel = builder.tensor(
            f"{name}.weight", weights[chosen].astype(np.int16).reshape(1, 1, 1, -1)
        )
        builder.drive(
            total,
            [
                c.Conv2d(
                    name="",
                    src=Ref(part),
                    dst=Ref(""),
                    weight=kernel,
                    sign="excitatory",
                    weight_exp=max(-e, 0),
                )
            ],
        )
        total = shifted(builder, total, max(e, 0), f"{name}.shifted", layer)
        builder.drive(out, [strided(total, (rows,), (1,), (1,))])
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
