"""Values of a file, computed by onnxruntime, in the order in which the imported graph keeps them."""

from __future__ import annotations

from math import prod

import numpy as np

from neurocompile.ir.layout import Layout

__all__ = ["has_time", "samples_first"]


def samples_first(array: np.ndarray, layout: Layout, shape: tuple[int, ...]) -> np.ndarray:
    """``array`` as (samples, steps, *shape); steps is 1 where the tensor has no time.

    Args:
        array: a tensor of the file, for any number of samples.
        layout: how the tensor lies over the value, with its atoms of batch and time.
        shape: of the value.
    """
    atoms = [a for dim in layout.dims for a in dim]
    fixed = prod(a.size for a in atoms if a.axis != "B")
    samples = array.size // fixed
    if samples * fixed != array.size:
        raise ValueError(f"an array of {array.size:,} elements for samples of {fixed:,}")
    split = array.reshape([samples if a.axis == "B" else a.size for a in atoms])
    places = range(len(atoms))
    order = [i for i in places if atoms[i].axis == "B"] + [
        i for i in places if atoms[i].axis == "T"
    ]
    order += sorted((i for i in places if not atoms[i].axis), key=lambda i: -atoms[i].stride)
    return split.transpose(order).reshape(samples, -1, *shape)


def has_time(layout: Layout) -> bool:
    """True if the tensor has one value a step."""
    return any(a.axis == "T" for dim in layout.dims for a in dim)
