"""A NIR file as plain data: nodes by name, edges, subgraphs written out. The file is a stranger's.

Nothing outside of the file is followed (links, external or virtual data), sizes are looked at before
memory is taken, and every node has the fields that NIR gives its kind, in numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError, not_importable

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
MOST_NODES, MOST_BYTES, DEEPEST = 20_000, 4 << 30, 8


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
    try:
        import h5py
    except ImportError as error:
        raise not_importable("a NIR file", error, "nir") from error
    if not path.is_file():
        raise NeurocompileError("NC1001", f"cannot read '{path}': no such file")
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(path)
            reader.graph(_held(file, "node", reader), "", 0)
            return NirFile(reader.nodes, reader.joined())
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise NeurocompileError("NC1002", f"'{path}' is no NIR file: {error}") from error


def _held(group: Any, name: str, reader: _Reader) -> Any:
    """Member ``name`` of a group, if it lies in this very file."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise reader.wrong(f"{group.name} has no '{name}'")
    if not isinstance(link, h5py.HardLink):
        raise reader.wrong(f"'{name}' is a link to elsewhere")
    return group[name]


class _Reader:
    """Nodes and edges so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, 0
        self.nodes: dict[str, NirNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.subgraphs: dict[str, tuple[str, str]] = {}
        """Subgraph -> its Input and its Output."""

    def wrong(self, what: str) -> NeurocompileError:
        return NeurocompileError("NC1002", f"'{self.path}' is no NIR file: {what}")

    def graph(self, group: Any, prefix: str, depth: int) -> None:
        """Take all nodes of a NIRGraph."""
        import h5py

        if not isinstance(group, h5py.Group) or self.text(_held(group, "type", self)) != "NIRGraph":
            raise self.wrong(f"'{prefix or 'node'}' is no NIRGraph")
        if depth > DEEPEST:
            raise self.wrong(f"subgraphs are more than {DEEPEST} deep")
        held = _held(group, "nodes", self)
        ends: dict[str, list[str]] = {"Input": [], "Output": []}
        for name in held:
            node, whole = _held(held, name, self), prefix + name
            if not isinstance(node, h5py.Group):
                raise self.wrong(f"node '{whole}' is no group")
            kind = self.text(_held(node, "type", self))
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
        for start, end in self.pairs(_held(group, "edges", self)):
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
            kind, {n: self.numbers(_held(group, n, self), name, n) for n in names}
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

    def data(self, dataset: Any, what: str) -> np.ndarray:
        """The values of a dataset that lies in this file, of a size that is allowed."""
        import h5py

        if not isinstance(dataset, h5py.Dataset):
            raise self.wrong(f"{what} is no dataset")
        if dataset.is_virtual or dataset.external:
            raise self.wrong(f"{what} lies outside of the file")
        self.bytes += int(dataset.size or 0) * max(dataset.dtype.itemsize, 1)
        if self.bytes > MOST_BYTES:
            raise self.wrong(f"it holds more than {MOST_BYTES:,} bytes")
        return np.asarray(dataset[()])

    def text(self, dataset: Any) -> str:
        """A word."""
        value = self.data(dataset, dataset.name).reshape(-1)
        if value.size != 1:
            raise self.wrong(f"{dataset.name} is no word")
        word = value[0]
        return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)

    def pairs(self, dataset: Any) -> list[tuple[str, str]]:
        """Edges."""
        values = self.data(dataset, dataset.name)
        if values.size == 0:
            return []
        if values.ndim != 2 or values.shape[1] != 2:
            raise self.wrong(f"edges are {values.shape}")
        words = [
            [w.decode("utf-8", "replace") if isinstance(w, bytes) else str(w) for w in row]
            for row in values
        ]
        return [(a, b) for a, b in words]

    def numbers(self, dataset: Any, node: str, field: str) -> np.ndarray:
        """A field of a node."""
        found = self.data(dataset, f"'{field}' of node '{node}'")
        if found.dtype.kind in "iu":
            return found.astype(np.int64)
        if found.dtype.kind == "b":
            return found.astype(np.int64)
        if found.dtype.kind == "f":
            found = found.astype(np.float64)
            if not np.isfinite(found).all():
                raise self.wrong(f"'{field}' of node '{node}' is not finite")
            return found
        if found.dtype.kind in "SO" and field in ("padding", "stride"):
            word = str(found.reshape(-1)[0])
            raise NeurocompileError(
                "NC1003", f"'{field}' of node '{node}' is {word[:20]!r}; numbers are read"
            )
        raise self.wrong(f"'{field}' of node '{node}' holds {found.dtype}")
