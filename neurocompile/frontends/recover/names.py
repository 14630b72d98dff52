"""Readable names for recovered neurons, from the module paths that exporters leave in a file."""

from __future__ import annotations

import re
from collections import Counter

import onnx

from neurocompile.frontends.diagnosis import module_path
from neurocompile.frontends.recover.graph import Graph

__all__ = ["neuron_names"]

_PART = re.compile(r"\.(surrogate\w*|spike_grad|spike_fn)$")
"""What is a part of a neuron, not a neuron."""
_DEPTH = 12
"""Nodes that are looked at below a neuron without a path of its own."""


def neuron_names(chains: list[list[onnx.NodeProto]], graph: Graph) -> list[str]:
    """A unique name for each chain of comparisons: its module path, or the path of the layer before
    it and 'lif'.
    """
    names: list[str] = []
    taken: Counter[str] = Counter()
    for chain in chains:
        base = next(filter(None, map(_module, chain)), "") or _below(chain[0], graph)
        taken[base] += 1
        name = base if taken[base] == 1 else f"{base}_{taken[base]}"
        while name in names:
            taken[base] += 1
            name = f"{base}_{taken[base]}"
        names.append(name)
    return names


def _module(node: onnx.NodeProto) -> str:
    """The module path in a node's metadata or name ('/block/0/q_lif/Sub' is 'block.0.q_lif')."""
    return _PART.sub("", module_path(node))


def _below(node: onnx.NodeProto, graph: Graph) -> str:
    """The nearest module path among what feeds ``node``."""
    front, seen = [node], set()
    for _ in range(_DEPTH):
        following = []
        for place in front:
            for value in place.input:
                maker = graph.producer.get(value)
                if maker is None or value in seen or value not in graph.dynamic:
                    continue
                seen.add(value)
                path = _module(maker)
                if path:
                    return f"{re.sub(r'_[0-9]+$', '', path)}.lif"
                following.append(maker)
        front = following
    return "lif"
