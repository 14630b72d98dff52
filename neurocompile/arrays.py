"""Whatever a user gives for an array, as one of numpy's; NC1006 for what is none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    import torch

__all__ = ["ArrayLike", "as_array", "is_array"]

ArrayLike = Union[np.ndarray, "torch.Tensor", Sequence[Any]]
"""What :func:`as_array` takes; elements of sequences are numbers, or sequences again."""


def is_array(value: Any) -> bool:
    """Whether ``value`` is numpy's array or a tensor of torch; torch is not imported for the
    answer.
    """
    return isinstance(value, np.ndarray) or _is_tensor(value)


def as_array(value: Any, name: str) -> np.ndarray:
    """``value`` as numpy's array of numbers or booleans, of its own type where numpy has it.

    Args:
        value: an array, a tensor (on any device, with or without a gradient, bfloat16 too), or
            nested lists of numbers.
        name: what errors call it.
    """
    wanted = "an array (samples, ...) of float32 is needed"
    if _is_tensor(value):
        if value.is_meta:
            raise NeurocompileError(
                "NC1006", f"{name} is on torch's meta device, which holds no values; {wanted}"
            )
        try:
            tensor = value.detach().cpu()
            # numpy has no bfloat16 and no 8 bit floats
            known = not tensor.dtype.is_floating_point or tensor.dtype.itemsize > 2
            return (tensor if known else tensor.float()).resolve_conj().resolve_neg().numpy()
        except Exception as error:  # sparse, quantized, nested, of a device that is gone
            shape = "nested" if value.is_nested else f"{tuple(value.shape)}"  # which has no shape
            raise NeurocompileError(
                "NC1006",
                f"{name} is a {shape} tensor of {value.dtype} that numpy cannot hold; {wanted}",
            ) from error
    kind = type(value).__name__
    try:
        array = np.asarray(value)
    except Exception as error:  # rows of other lengths, or whatever a class raises
        raise NeurocompileError(
            "NC1006", f"{name} is a {kind} of no regular shape; {wanted}"
        ) from error
    if array.dtype.kind not in "biufc":
        raise NeurocompileError("NC1006", f"{name} is {_said(value, array)}; {wanted}")
    return array


def _said(value: Any, array: np.ndarray) -> str:
    if value is None:
        return "None"
    return f"{array.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
