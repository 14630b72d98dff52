"""Sums over windows of a feature map, the integer part of average pooling: connections of weight 1,
no neuron.

Without a border it is one strided pattern; with one, a convolution with ones in each channel.
"""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref

__all__ = ["sum_pool"]


def sum_pool(
    builder: Builder,
    population: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    name: str,
    more: tuple[int, int] = (0, 0),
) -> tuple[c.Projection, tuple[int, ...]]:
    """The projection that pools an (H, W, C) population, destination still open, and the shape of
    the result.

    Args:
        more: border behind the last row and column beyond ``padding``. Zeros of the kernel make
            both ends alike.
    """
    height, width, channels = builder.shape(population)
    rows, columns = (
        (n + 2 * p + m - k) // st + 1
        for n, p, m, k, st in zip((height, width), padding, more, kernel, stride)
    )
    if any((*padding, *more)):
        zeros = [(max(m, 0), max(-m, 0)) for m in more]
        ones = np.pad(np.ones((channels, *kernel, 1), np.int16), ((0, 0), *zeros, (0, 0)))
        weight = builder.tensor(f"{name}.ones", ones)
        padding = (padding[0] + max(more[0], 0), padding[1] + max(more[1], 0))
        projection: c.Projection = c.Conv2d(
            name="",
            src=Ref(population),
            dst=Ref(""),
            weight=weight,
            stride=stride,
            padding=padding,
            groups=channels,
            sign="excitatory",
        )
    else:
        projection = strided(
            population,
            (rows, columns, channels, *kernel),
            (stride[0] * width * channels, stride[1] * channels, 1, width * channels, channels),
            (columns * channels, channels, 1, 0, 0),
        )
    return projection, (rows, columns, channels)
