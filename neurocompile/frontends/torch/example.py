"""What a user gives beside a module: an example input, calibration samples, and weights of other
precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from neurocompile.advice import warn
from neurocompile.arrays import as_array, is_array
from neurocompile.errors import NeurocompileError
from neurocompile.options import LARGEST_T

__all__ = ["check_values", "in_float32", "own_steps", "samples_of"]

_STEPS = (
    "T",
    "num_steps",
    "n_steps",
    "nb_steps",
    "time_steps",
    "timesteps",
    "time_step",
    "time_window",
    "simulation_steps",
)
"""Attributes in which authors keep the number of steps of a sample."""


def samples_of(value: Any, name: str) -> np.ndarray:
    """float32 (samples, ...), finite.

    Args:
        value: a floating-point tensor or array of any precision (its values decide nothing but
            statistics), or a tuple or list of one of them, as torch.onnx.export takes.
        name: what errors call it.

    Raises NC1006 (type, shape), NC1009 (several inputs), NC1012 (NaN, infinity).
    """
    if isinstance(value, (tuple, list)) and any(is_array(v) or v is None for v in value):
        given = [v for v in value if v is not None]
        if len(given) != 1:
            raise NeurocompileError("NC1009", _several(name, len(given)))
        (value,) = given
    if isinstance(value, Mapping):
        raise NeurocompileError("NC1009", _several(name, len(value)))
    array = as_array(value, name)
    if array.dtype.kind in "iu" and array.ndim >= 2 and len(array):
        raise NeurocompileError(
            "NC1006",
            f"{name} is {array.dtype} {array.shape}: token ids? Look their embedding up on the host, and give the "
            "model what the embedding makes, float32 (samples, ...)",
        )
    if array.dtype.kind != "f" or array.ndim < 2 or not len(array):
        raise NeurocompileError(
            "NC1006", f"{name} is {array.dtype} {array.shape}, needed is float32 (samples, ...)"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite here
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise NeurocompileError("NC1012", f"{name} holds NaN or infinity")
    return array


def _several(name: str, count: int) -> str:
    return (
        f"{name} holds {count} inputs, one is supported: float32 (samples, ...). Write a module around the model that "
        "takes one tensor and makes the others from it, or holds them as buffers"
    )


def check_values(model: nn.Module) -> None:
    """NC1014 for weights that hold no values (torch's meta device)."""
    for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise NeurocompileError(
                "NC1014",
                f"'{path}' of {type(model).__name__} is on torch's meta device, which holds no values: load the weights "
                "first, model.load_state_dict(weights, assign=True)",
            )


def in_float32(model: nn.Module) -> nn.Module:
    """``model`` itself, which is a copy, in single precision: exact for half and bfloat16 weights,
    rounded for double.
    """
    tensors = [*model.parameters(), *model.buffers()]
    others = {t.dtype for t in tensors if t.is_floating_point()} - {torch.float32}
    if not others:
        return model
    names = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in others))
    rounded = ", which rounds its weights" if torch.float64 in others else ""
    warn(
        f"{type(model).__name__} has {names} weights: it is compiled in float32, as model.float(){rounded}"
    )
    return model.float()


def own_steps(model: nn.Module) -> int | None:
    """T by an attribute of the module, or of the first of its submodules that has one; None
    without, or where submodules disagree.
    """
    for modules in ([model], list(model.modules())[1:]):
        found = {
            value
            for module in modules
            for value in (vars(module).get(name) for name in _STEPS)
            if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_T
        }
        if found:
            return found.pop() if len(found) == 1 else None
    return None
