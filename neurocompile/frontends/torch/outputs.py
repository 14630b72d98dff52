"""What a forward returns: one tensor, or several with their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch

from neurocompile.errors import NeurocompileError

__all__ = ["chosen", "name_outputs", "returned"]


def chosen(value: Any, head: int | str | None) -> dict[str, torch.Tensor]:
    """The tensors that the forward returns, by name, or the one ``head`` of them, by name or
    number.
    """
    found = _named(value)
    if not found:
        raise NeurocompileError(
            "NC1009",
            f"the forward returns {type(value).__name__} without a tensor; it has to return logits",
        )
    if head is None:
        return found
    names = list(found)
    number = int(head) if isinstance(head, int) or head.isdecimal() and head not in found else None
    if number is not None and number < len(names):
        head = names[number]
    if head not in found:
        shapes = ", ".join(f"{k}: {list(t.shape)}" for k, t in found.items())
        raise NeurocompileError(
            "NC1009",
            f"head is {head!r}; the forward returns {len(found)} tensors ({shapes}): give a name, or a number from 0",
        )
    return {head: found[head]}


def returned(tensors: dict[str, torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """One tensor, or several."""
    values = tuple(tensors.values())
    return values[0] if len(values) == 1 else values


def _named(value: Any) -> dict[str, torch.Tensor]:
    """The tensors among what a forward returned, by the keys of dicts and fields that lead to them,
    joined by dots; ``output_`` and their number for what a tuple or list holds. None and other
    values are left out.
    """
    leaves = torch.utils._pytree.tree_flatten_with_path(value)[0]
    found: dict[str, torch.Tensor] = {}
    for path, leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", "")))) for k in path]
            name = ".".join(keys)
            name = f"output_{len(found)}" if not name or name[0].isdecimal() else name
            found[name if name not in found else f"output_{len(found)}"] = leaf
    return found


def name_outputs(proto: onnx.ModelProto, names: Sequence[str]) -> None:
    """Call the outputs, several, as the forward does."""
    graph = proto.graph
    taken = {o for node in graph.node for o in node.output} | {i.name for i in graph.input}
    for value, name in zip(graph.output, names, strict=True):
        while name in taken:
            name = f"{name}.output"
        graph.node.append(onnx.helper.make_node("Identity", [value.name], [name], name=name))
        value.name = name
