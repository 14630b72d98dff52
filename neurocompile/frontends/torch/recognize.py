"""What a user gave for a torch module: whether it is one, and what to say if it is not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from neurocompile.arrays import is_array

__all__ = ["is_module", "refused"]


def is_module(model: Any) -> bool:
    """Whether ``model`` is a module that can be exported; torch is not imported for the answer."""
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and isinstance(model, torch.nn.Module)
        and not isinstance(model, torch.jit.ScriptModule)
    )


def refused(model: Any) -> str:
    """What ``model``, which no front end reads, is, and what to give in its place."""
    wanted = "the path of an ONNX file, or a torch module, is needed"
    kind, package = type(model).__name__, type(model).__module__.partition(".")[0]
    if isinstance(model, Mapping):
        weights = any(is_array(value) for value in model.values())
        what = (
            "a state_dict" if weights else "a checkpoint" if "state_dict" in model else f"a {kind}"
        )
        return f"the model is {what}: weights without a network. Build the module, load them, and give compile(module, x)"
    if isinstance(model, type):
        return f"the model is the class {model.__name__}; give an instance of it, {model.__name__}(...)"
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return (
            "the model is TorchScript, in which the Python code of its neurons is gone; give the module that it was "
            "scripted from"
        )
    if package == "torch" and kind == "ExportedProgram":
        return "the model is a program of torch.export; give the module that it was exported from"
    if package == "onnx":
        return "the model is an ONNX message; write it, onnx.save(model, path), and give the path"
    if is_array(model):
        return f"the model is an array; {wanted}, and the array after it"
    if callable(model):
        return f"the model is a function ({getattr(model, '__name__', kind)}); {wanted}"
    return f"the model is {'None' if model is None else f'a {kind}'}; {wanted}"
