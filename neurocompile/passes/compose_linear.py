"""A linear layer that reads a sum of linear layers reads what these read, by products of the weights.

Concatenation is such a sum, each part put into its place by a matrix of zeros and ones
(``frontends/onnx/joins.py``); a recurrent container reads its input beside its own spikes. What
stands between would be a neuron a value, and a step of time, which spikes that feed back do not have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.spiking_rules import IS_IMPORTED
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["ComposeLinear"]


@dataclass(frozen=True)
class ComposeLinear(SpikingPass):
    """Requires a float graph. A Linear over private sums of private Linear layers becomes a sum of
    Linear layers, where one of these puts a part into its place, or where spikes feed back."""

    name: ClassVar[str] = "compose-linear"
    requires = (IS_IMPORTED,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            parts = _parts(graph, node) if isinstance(node, s.Linear) else []
            loop = any(_feeds_back(graph, p) for p in parts)
            if loop or any(_places(graph, p) for p in parts):
                _distributed(rewriter, graph, node, parts, loop)  # type: ignore[arg-type]
            else:
                rewriter.emit(rewriter.resolved(node))
        return rewriter.finish()


def _parts(graph: s.SpikingGraph, layer: s.Linear) -> list[s.Node]:
    """The summands that a layer reads, if nothing else reads them; none for a single one."""
    found, stack = [], [layer.x]
    while stack:
        node = graph.node[stack.pop()]
        private = len(graph.users[node.name]) == 1
        if isinstance(node, s.Add) and private and _alike(graph, node):
            stack += [node.b, node.a]
        else:
            found.append(node)
    return found if len(found) > 1 or _composed(graph, found[0]) else []


def _alike(graph: s.SpikingGraph, node: s.Add) -> bool:
    """Whether both summands are as wide as their sum, as far as linear layers say."""
    widths = [
        len(graph.tensors[n.weight])
        for n in (graph.node[i] for i in node.inputs)
        if isinstance(n, s.Linear)
    ]
    return len(widths) < 2 or widths[0] == widths[1]


def _composed(graph: s.SpikingGraph, part: s.Node) -> bool:
    return isinstance(part, s.Linear) and len(graph.users[part.name]) == 1


def _places(graph: s.SpikingGraph, part: s.Node) -> bool:
    """Puts its input into places: each in one, with weight 1."""
    if not isinstance(part, s.Linear) or part.bias is not None:
        return False
    weight = graph.tensors[part.weight]
    return (
        weight.shape[0] > weight.shape[1]
        and bool(((weight == 0) | (weight == 1)).all())
        and bool((weight.sum(axis=0) == 1).all())
    )


def _feeds_back(graph: s.SpikingGraph, part: s.Node) -> bool:
    while isinstance(part, (s.Linear, s.Rearrange, s.Scale)):
        part = graph.node[part.x]
    return isinstance(part, s.Previous)


def _distributed(
    rewriter: Rewriter, graph: s.SpikingGraph, layer: s.Linear, parts: list[s.Node], loop: bool
) -> None:
    """``layer`` over each of ``parts``, added up under its name; in a ``loop`` nothing private is left
    in between.
    """
    weight = np.asarray(graph.tensors[layer.weight], np.float64)
    bias = 0.0 if layer.bias is None else np.asarray(graph.tensors[layer.bias], np.float64)
    total: Ref | None = None
    for k, part in enumerate(parts):
        own, x = weight, Ref(part.name)
        while _composed(graph, part) and (loop or _places(graph, part)):
            assert isinstance(part, s.Linear)
            if part.bias is not None:
                bias = bias + own @ np.asarray(graph.tensors[part.bias], np.float64)
            own, x = own @ np.asarray(graph.tensors[part.weight], np.float64), part.x
            part = graph.node[x]
        last = k == len(parts) - 1
        name = layer.name if len(parts) == 1 else rewriter.fresh(f"{layer.name}.part{k}")
        fields: dict[str, Any] = {
            "weight": rewriter.tensor(f"{name}.weight", own.astype(np.float32)),
            "bias": None,
        }
        if last and np.any(bias):
            fields["bias"] = rewriter.tensor(f"{name}.bias", np.asarray(bias, np.float32))
        made = rewriter.emit(replace(layer, name=name, x=rewriter.resolve(x), **fields))
        if total is not None:
            name = layer.name if last else rewriter.fresh(f"{layer.name}.sum{k}")
            made = rewriter.emit(s.Add(name=name, a=total, b=made))
        total = made
