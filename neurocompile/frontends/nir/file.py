"""A NIR file as plain data: nodes by name, edges, subgraphs written out. The file is a stranger's.

Nothing outside of the file is followed (links, external or virtual data), sizes are looked at before
memory is taken, and every node has the fields that NIR gives its kind, in numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.hdf5 import Hdf5Reader

__all__ = ["KINDS", "NirFile", "NirNode", "read_nir"]

KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Affine": (("weight", "bias"), ()),
    "AvgPool2d": (("kernel_size", "stride", "padding"), ()),
    "Conv1d": (("weight", "bias", "stride", "padding", "dilation", "groups"), ("input_shape",)),
    "Conv2d": (("weight", "bias", "stride", "padding", "dilation", "groups"), ("input_shape",)),
    "CubaLI": (("tau_syn", "tau_mem", "r", "v_leak", "w_in"), ()),
    "CubaLIF": (("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in"), ("v_reset",)),
    "Delay": (("delay",), ()),
    "Flatten": (("start_dim", "end_dim"), ("input_type",)),
    "I": (("r",), ()),
    "IF": (("r", "v_threshold"), ("v_reset",)),
    "Input": (("shape",), ()),
    "LI": (("tau", "r", "v_leak"), ()),
    "LIF": (("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "Linear": (("weight",), ("bias",)),
    "Output": (("shape",), ()),
    "Scale": (("scale",), ()),
    "SumPool2d": (("kernel_size", "stride", "padding"), ()),
    "Threshold": (("threshold",), ()),
}
"""Kinds of nodes: the fields that each has, and those that it may have."""
MOST_NODES, DEEPEST = 20_000, 8


@dataclass(frozen=True)
class NirNode:
    """A node: its kind and its fields, float32 or int64 arrays."""

    kind: str
    fields: dict[str, np.ndarray]


@dataclass(frozen=True)
class NirFile:
    """``nodes`` by name (those of subgraphs are ``outer.inner``), and edges between them."""

    nodes: dict[str, NirNode]
    edges: tuple[tuple[str, str], ...]


def read_nir(path: Path) -> NirFile:
    """Read a file; NC1001 (not readable), NC1002 (no NIR file), NC1003 (a kind that NIR or we have not)."""
    reader = _Reader(path, "a NIR file", "nir")
    with reader.opened() as file:
        reader.graph(reader.held(file, "node"), "", 0)
        return NirFile(reader.nodes, reader.joined())


class _Reader(Hdf5Reader):
    """Nodes and edges so far."""

    def __init__(self, path: Path, what: str, extra: str) -> None:
        super().__init__(path, what, extra)
        self.nodes: dict[str, NirNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.subgraphs: dict[str, tuple[str, str]] = {}
        """Subgraph -> its Input and its Output."""

    def graph(self, group: Any, prefix: str, depth: int) -> None:
        """Take all nodes of a NIRGraph."""
        import h5py

        if not isinstance(group, h5py.Group) or self.word(self.held(group, "type")) != "NIRGraph":
            raise self.wrong(f"'{prefix or 'node'}' is no NIRGraph")
        if depth > DEEPEST:
            raise self.wrong(f"subgraphs are more than {DEEPEST} deep")
        held = self.held(group, "nodes")
        ends: dict[str, list[str]] = {"Input": [], "Output": []}
        for name in held:
            node, whole = self.held(held, name), prefix + name
            if not isinstance(node, h5py.Group):
                raise self.wrong(f"node '{whole}' is no group")
            kind = self.word(self.held(node, "type"))
            if kind == "NIRGraph":
                self.graph(node, f"{whole}.", depth + 1)
                continue
            self.node(node, whole, kind)
            if kind in ends:
                ends[kind].append(whole)
        if prefix:
            if [len(found) for found in ends.values()] != [1, 1]:
                raise self.wrong(f"subgraph '{prefix[:-1]}' has not one Input and one Output")
            self.subgraphs[prefix[:-1]] = ends["Input"][0], ends["Output"][0]
        for start, end in self.pairs(self.held(group, "edges")):
            self.edges.append((prefix + start, prefix + end))

    def node(self, group: Any, name: str, kind: str) -> None:
        """Take one node with its fields."""
        if kind not in KINDS:
            raise NeurocompileError(
                "NC1003",
                f"node '{name}' of '{self.path}' is a {kind[:40]!r}; {', '.join(KINDS)} are read",
            )
        if len(self.nodes) >= MOST_NODES:
            raise self.wrong(f"it has more than {MOST_NODES:,} nodes")
        needed, more = KINDS[kind]
        names = [*needed, *(n for n in more if n in group)]
        self.nodes[name] = NirNode(
            kind, {n: self.field(self.held(group, n), name, n) for n in names}
        )

    def joined(self) -> tuple[tuple[str, str], ...]:
        """Edges between nodes, those to and from subgraphs by their own Input and Output."""
        found = []
        for start, end in self.edges:
            start = self.subgraphs[start][1] if start in self.subgraphs else start
            end = self.subgraphs[end][0] if end in self.subgraphs else end
            for name in (start, end):
                if name not in self.nodes:
                    raise self.wrong(f"an edge names '{name}', which is no node")
            found.append((start, end))
        return tuple(dict.fromkeys(found))

    def pairs(self, dataset: Any) -> list[tuple[str, str]]:
        """Edges."""
        values = self.values(dataset, dataset.name)
        if values.size == 0:
            return []
        if values.ndim != 2 or values.shape[1] != 2:
            raise self.wrong(f"edges are {values.shape}")
        words = [
            [w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in row]
            for row in values
        ]
        return [(a, b) for a, b in words]

    def field(self, dataset: Any, node: str, field: str) -> np.ndarray:
        """A field of a node."""

        def refused(word: str) -> NeurocompileError:
            return NeurocompileError(
                "NC1003", f"'{field}' of node '{node}' is {word[:20]!r}; numbers are read"
            )

        worded = field in ("padding", "stride")
        what = f"'{field}' of node '{node}'"
        return self.numbers(dataset, what, refused if worded else None)
