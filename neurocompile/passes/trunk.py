"""Residuals of real values (membrane shortcuts): what is added must count in one unit.

SpikingResformer, Spike-driven Transformer and Meta-SpikeFormer carry a real residual between their
LIFs. Its summands are the outputs of linear layers, each of which would like its own weight scale.
A trunk is a set of values that sums and views tie together; the quantizer gives it one unit, fine
enough for its finest layer, and every layer a weight exponent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range
from neurocompile.ir.tables import KindTable

__all__ = ["Trunk", "find_trunks"]


@dataclass(frozen=True)
class Trunk:
    """Values of one unit: the linear layers that make them, the LIFs that read them (each with the
    largest number of values that it reads summed up), and what else makes some."""

    producers: tuple[s.Conv2d | s.Linear, ...]
    neurons: tuple[tuple[s.LIF, int], ...]
    others: tuple[s.Node, ...]


def find_trunks(
    graph: s.SpikingGraph, integer: Mapping[str, Range | None], size: Mapping[str, tuple[int, ...]]
) -> dict[str, Trunk]:
    """The trunk of each linear layer whose output enters a sum of real values, by the layer's name.

    Args:
        graph: stage canonical.
        integer: ranges of the values that are integers in the float model; their sums need no
            common unit.
        size: shapes of all values.
    """
    parent: dict[str, str] = {n.name: n.name for n in graph.nodes}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    sums = set()
    for node in graph.nodes:
        if (
            isinstance(node, (s.Add, s.MaxPool2d, s.Offset, s.Rearrange))
            and integer[node.name] is None
        ):
            for i in node.inputs:
                parent[root(i)] = root(node.name)
            if isinstance(node, s.Add):
                sums.add(node.name)
    members: dict[str, list[s.Node]] = {}
    for node in graph.nodes:
        members.setdefault(root(node.name), []).append(node)
    trunks = {}
    for group in members.values():
        if not any(n.name in sums for n in group):
            continue
        names = {n.name for n in group}
        producers = tuple(n for n in group if isinstance(n, (s.Conv2d, s.Linear)))
        trunk = Trunk(
            producers,
            tuple(_neurons(graph, names, size)),
            tuple(
                n
                for n in group
                if not isinstance(
                    n, (s.Conv2d, s.Linear, s.Add, s.MaxPool2d, s.Offset, s.Rearrange)
                )
            ),
        )
        trunks.update({n.name: trunk for n in producers})
    return trunks


SUMMED: KindTable[Callable[[Any, tuple[int, ...]], int]] = KindTable(
    "trunks", (), "how many values of a trunk it adds up"
)
"""(node, shape of what it reads) -> number of values in each of its own. Behind other kinds stand no
values of the trunk's unit."""
SUMMED.add(lambda node, shape: prod(shape[i] for i in node.axes), s.Sum)
SUMMED.add(lambda node, shape: 1, s.Rearrange)


def _neurons(
    graph: s.SpikingGraph, names: set[str], size: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[s.LIF, int]]:
    """LIFs that read a value of ``names``, directly or through sums over axes and views of these."""
    summed = dict.fromkeys(names, 1)
    for node in graph.nodes:
        if isinstance(node, s.LIF) and node.x in summed:
            yield node, summed[node.x]
        elif (rule := SUMMED.get(node)) is not None and node.inputs[0] in summed:
            x = node.inputs[0]
            summed[node.name] = summed[x] * rule(node, size[x])
