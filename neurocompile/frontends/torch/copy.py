"""A copy of a user's module to trace and to run: nothing of the original changes, whatever state it
is in.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.torch.neurons import reset

__all__ = ["copied"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ON_CPU = "torch"
"""Backend of SpikingJelly's neurons that needs no GPU; all compute the same."""


def copied(model: nn.Module) -> nn.Module:
    """``model`` on the CPU, in eval mode, neurons on torch's backend and reset, without hooks (a
    warning counts them).

    Potentials that a forward left behind belong to its autograd graph, which torch does not copy:
        they are detached.
    """
    memo = {
        id(t): t.detach().clone()
        for m in model.modules()
        for t in _tensors(vars(m))
        if not t.is_leaf
    }
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:  # whatever the user's modules raise
        raise NeurocompileError(
            "NC1013",
            f"{type(model).__name__} cannot be copied: {str(error).strip().splitlines()[0]}",
        ) from error
    hooked = 0
    for module in twin.modules():
        # Hooks may write into what is the user's; those of torch itself compute weights, as
        # weight_norm does.
        kept = {
            k
            for k, hook in module._forward_pre_hooks.items()
            if type(hook).__module__.startswith("torch.nn.utils")
        }
        hooked += len(module._forward_hooks) + len(module._forward_pre_hooks) - len(kept)
        for name in _HOOKS:
            hooks = getattr(module, name)
            for key in [k for k in hooks if k not in kept or name != "_forward_pre_hooks"]:
                del hooks[key]
        if isinstance(getattr(module, "backend", None), str) and hasattr(module, "v_threshold"):
            module.backend = _ON_CPU
    reset(twin)
    if hooked:
        warnings.warn(
            f"{hooked} forward hooks of {type(model).__name__} are left out of its copy",
            stacklevel=4,
        )
    return twin.cpu().eval()


def _tensors(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Tensors in nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)) and depth < 4:
        for part in value.values() if isinstance(value, dict) else value:
            if not isinstance(part, nn.Module):
                yield from _tensors(part, depth + 1)
