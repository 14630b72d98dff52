"""What importing an ONNX file keeps in mind, and the steps that its rules share.

Every tensor of the file is a value of the SpikingGraph seen through a
:class:`~neurocompile.ir.layout.Layout` whose atoms are labelled time ("T"), batch ("B") or feature
(""). Reshapes and transpositions only change layouts; a Rearrange node appears where an operation
needs its features in another order than they lie.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.general import PREVIOUS
from neurocompile.frontends.onnx.load import LoadedModel
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import OPEN, Atom, Layout, shown
from neurocompile.ir.text import Ref, TensorRef, unique_name

__all__ = ["Border", "Importer", "Joined", "Pattern", "Rule", "Traced"]

Pattern = tuple[tuple[Atom, ...] | None, ...]
"""Of a tensor's axes: the time and batch atoms of an axis, None for a feature axis.

Where an axis holds features beside time or batch (windows folded into the batch), a *hole*, an atom
of stride 0 without an axis, stands for each run of them: a feature axis of the value.
"""

_LARGEST_VALUE = 1 << 30
"""Elements of one value at one step."""
_CHANGED = (
    "constants",
    "traced",
    "nodes",
    "shapes",
    "tensors",
    "exported_T",
    "layer_values",
    "layouts",
    "leaking",
    "borders",
    "padded",
    "joined",
    "otherwise",
)
"""State of an Importer that its rules change."""


@dataclass(frozen=True)
class Traced:
    """A tensor of the file: value ``ref`` of the SpikingGraph through ``layout`` (time and batch
    axes included).
    """

    ref: Ref
    layout: Layout

    @property
    def dims(self) -> tuple[tuple[Atom, ...], ...]:
        return self.layout.dims


@dataclass
class Border:
    """What a file writes over the border of a padded feature map: by (axis, last side), one number
    a channel.
    """

    padding: tuple[int, int]
    sides: dict[tuple[int, bool], np.ndarray]
    done: bool = False


@dataclass(frozen=True)
class Joined:
    """A feature map (C, H, W) that is others, one after another along C."""

    parts: tuple[tuple[Ref, int, int], ...]
    """Of each: value, first channel in the whole, channels."""


def _role(dim: tuple[Atom, ...]) -> tuple[Atom, ...] | None:
    """What a pattern says of one axis."""
    if not any(a.axis for a in dim):
        return None
    found: list[Atom] = []
    for atom in dim:
        if atom.axis:
            found.append(atom)
        elif found and not found[-1].axis:
            found[-1] = Atom(found[-1].size * atom.size, 0)
        else:
            found.append(Atom(atom.size, 0))
    return tuple(found)


def _holes(role: tuple[Atom, ...] | None) -> int:
    """Feature axes that an axis of a tensor holds."""
    return 1 if role is None else sum(not a.axis for a in role)


def _runs(dim: tuple[Atom, ...], role: tuple[Atom, ...] | None) -> list[tuple[Atom, ...]]:
    """The feature axes that are in ``dim``, an axis of ``role``; each of size 1 where it is."""
    if role is None:
        return [dim]
    groups = (tuple(g) for key, g in groupby(dim, lambda a: bool(a.axis)) if not key)
    return list(groups) if dim else [()] * _holes(role)


def _clean(name: str) -> str:
    """``name`` in the characters that the text form knows."""
    return re.sub(r"[^A-Za-z0-9_.\-/]", "_", name)


def _indexed(dim: tuple[Atom, ...]) -> list[Atom]:
    """An axis without its labels."""
    return [a for a in dim if a.size > 1]


class Importer:
    """State of one import."""

    def __init__(self, model: LoadedModel, per_sample: bool = False) -> None:
        self.model = model
        self.graph = model.proto.graph
        self.constants = dict(model.constants)
        self.traced: dict[str, Traced] = {}
        self.nodes: list[s.Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors: dict[str, np.ndarray] = {}
        self.exported_T = 0
        self.batch = OPEN
        self.neurons: dict[str, Ref] = {}  # by the names of the file's nodes
        self.fed_back = {
            a.s.decode()
            for n in self.graph.node
            if n.op_type == PREVIOUS
            for a in n.attribute
            if a.name == "of"
        }
        self.layer_values: dict[str, str] = {}
        self.layouts: dict[str, Layout] = {}
        self.outputs: list[tuple[Layout, tuple[int, ...]]] = []
        self.per_sample = per_sample
        self.leaking: list[str] = []
        self.borders: dict[str, Border] = {}
        # of a map that a Pad made: its tensor, that inside, and the border, begins before ends
        self.padded: dict[str, tuple[Traced, Traced, tuple[int, ...]]] = {}
        self.joined: dict[str, Joined] = {}
        # constants that depend on the length of an open batch, and what another length makes of them
        self.otherwise: dict[str, np.ndarray] = {}
        self.where = "the graph"
        self.readers = Counter(i for n in self.graph.node for i in n.input) + Counter(
            o.name for o in self.graph.output
        )

    def error(self, code: str, why: str) -> NeurocompileError:
        return NeurocompileError(code, f"{self.where}: {why}")

    def saved(self) -> dict[str, Any]:
        """What rules change, to be brought back by :meth:`restore`."""
        kept = {name: vars(self)[name] for name in _CHANGED}
        return {name: v if isinstance(v, int) else copy(v) for name, v in kept.items()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Undo all rules since ``saved`` was taken, which is used up."""
        vars(self).update(saved)

    def name(self, wanted: str) -> str:
        return unique_name(_clean(wanted) or "value", self.shapes.__contains__)

    def emit(self, kind: type[s.Node], wanted: str, size: tuple[int, ...], **fields: Any) -> Ref:
        name = self.name(wanted)
        if prod(size) > _LARGEST_VALUE or min(size, default=1) < 1:
            raise self.error(
                "NC1009",
                f"a value of shape {shown(size)}; 1 to {_LARGEST_VALUE:,} elements are supported",
            )
        self.nodes.append(kind(name=name, **fields))
        self.shapes[name] = size
        return Ref(name)

    def tensor(self, name: str) -> TensorRef:
        return self.store(name, self.constants[name])

    def store(self, wanted: str, array: np.ndarray) -> TensorRef:
        """``array`` as float32, under a name of its own unless an equal one is there."""
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
        if not np.isfinite(array).all():
            raise self.error("NC1004", f"'{wanted}' is NaN or infinite in float32")
        known = self.tensors
        name = unique_name(
            _clean(wanted) or "tensor", lambda n: n in known and not np.array_equal(known[n], array)
        )
        self.tensors[name] = array
        return TensorRef(name)

    def window(self, *groups: Sequence[int]) -> None:
        """Strides, dilations and kernels are two numbers >= 1."""
        if any(len(g) != 2 or min(g) < 1 for g in groups):
            found = [list(g) for g in groups]
            raise self.error(
                "NC1009", f"a window over (H, W) needs pairs of numbers >= 1, found {found}"
            )

    def constant(self, node: onnx.NodeProto, index: int, default: Any = None) -> Any:
        if index >= len(node.input) or not node.input[index]:
            return default
        if node.input[index] not in self.constants:
            raise self.error("NC1009", f"input {index} must be a constant")
        return self.constants[node.input[index]]

    @staticmethod
    def settled(t: Traced, first: int = 1) -> Traced:
        """``t`` with the labels of its axes from ``first`` on moved to axis 0.

        A label (an axis of time or batch of size 1) indexes nothing, so it stands in nobody's way:
        where an operator's form says that an axis is one of features, it is one.
        """
        moved = tuple(a for d in t.dims[first:] for a in d if a.size == 1)
        if not moved or not first:
            return t
        rest = [tuple(a for a in d if a.size > 1) for d in t.dims[first:]]
        return Traced(t.ref, Layout((t.dims[0] + moved, *t.dims[1:first], *rest)))

    def features(self, t: Traced, common: Pattern | None = None) -> Ref:
        """The value whose array is the tensor's feature axes in order.

        With ``common``, the pattern of an operation's result: the axes that are features there,
        with leading 1s.
        """
        rank = 0 if common is None else sum(map(_holes, common))
        pattern = self.pattern(t) if common is None else common[len(common) - len(t.dims) :]
        if any(d and not any(a.axis for a in d) for d, p in zip(t.dims, pattern) if p is not None):
            raise self.error(
                "NC1008",
                f"features of {shown(t.layout.shape)} meet time or batch of the other operand",
            )
        roles = [(_role(d) or (), p) for d, p in zip(t.dims, pattern) if d and p is not None]
        if any(_indexed(role) != _indexed(p) for role, p in roles):
            raise self.error(
                "NC1008",
                f"an axis of {shown(t.layout.shape)} mixes time or batch with features otherwise than the other operand",
            )
        dims = [run for d, p in zip(t.dims, pattern) for run in _runs(d, p)]
        layout = Layout(((),) * (rank - len(dims)) + tuple(dims))
        if layout.shape == self.shapes[t.ref] and layout.is_contiguous:
            return t.ref
        atoms = [a for d in layout.simplified().dims for a in d]
        return self.emit(
            s.Rearrange,
            f"{t.ref}.view",
            layout.shape,
            x=t.ref,
            shape=layout.shape,
            sizes=tuple(a.size for a in atoms),
            strides=tuple(a.stride for a in atoms),
        )

    def axis_of(self, x: Traced, dim: int) -> int | None:
        """The axis of the value behind ``x`` that axis ``dim`` of the tensor is, whole and alone;
        None if there is none.
        """
        (atoms,), shape = Layout((x.dims[dim],)).simplified().dims, self.shapes[x.ref]
        found = (
            k
            for k, n in enumerate(shape)
            if atoms == ((Atom(n, prod(shape[k + 1 :])),) if n > 1 else ())
        )
        return next(found, None)

    def block_of(self, x: Traced, dim: int) -> tuple[int, int] | None:
        """(axis, count) where axis ``dim`` of the tensor is the outer part of an axis of the value
        behind ``x``, in blocks of ``count`` elements; None if there is none.
        """
        (atoms,), shape = Layout((x.dims[dim],)).simplified().dims, self.shapes[x.ref]
        if len(atoms) != 1:
            return None
        for axis, size in enumerate(shape):
            count = size // atoms[0].size
            if atoms[0] == Atom(size // max(count, 1), count * prod(shape[axis + 1 :])):
                return axis, count
        return None

    def over(self, x: Traced, ref: Ref) -> Traced:
        """A tensor that lies over the value ``ref`` as ``x`` lies over its own, which has the same
        shape.
        """
        return Traced(ref, x.layout)

    def fresh(self, ref: Ref, pattern: Pattern) -> Traced:
        """A tensor over a new value, whose axes fill the feature axes and holes of ``pattern``."""
        return Traced(ref, self.filled(pattern, Layout.contiguous(self.shapes[ref]).dims))

    @staticmethod
    def filled(pattern: Pattern, features: Iterable[tuple[Atom, ...]]) -> Layout:
        """``pattern`` with its feature axes and holes, in order."""
        rest = iter(features)
        return Layout(
            tuple(
                next(rest)
                if p is None
                else tuple(atom for a in p for atom in ((a,) if a.axis else next(rest)))
                for p in pattern
            )
        )

    @staticmethod
    def pattern(t: Traced) -> Pattern:
        return tuple(map(_role, t.dims))

    @staticmethod
    def place(t: Traced, dim: int) -> int:
        """The feature axis that axis ``dim`` of the tensor is, in :meth:`features`."""
        return sum(_holes(_role(d)) for d in t.dims[:dim])

    @staticmethod
    def runs(dim: tuple[Atom, ...]) -> list[tuple[Atom, ...]]:
        """The feature axes that an axis of a tensor holds: itself, or those beside time and batch."""
        return _runs(dim, _role(dim))

    def as_map(self, x: Traced, axes: int) -> tuple[Ref, int]:
        """A tensor (N, C, ...) of ``axes`` spatial axes, 1 or 2, as a value (W C, H, W), and the
        number W of windows that N holds beside time and batch.
        """
        lead = _role(x.dims[0])
        windows = _runs(x.dims[0], lead)
        if len(x.dims) != 2 + axes or lead is None and windows != [()]:
            raise self.error(
                "NC1008", f"batch and time must be the first axis of {shown(x.layout.shape)}"
            )
        if any(atom.axis == "T" and atom.size > 1 for dim in x.dims[1:] for atom in dim):
            raise self.error(
                "NC1008",
                f"a window over the steps of time, of {shown(x.layout.shape)}: weights of its own for each step; every "
                "step is treated alike, or all are averaged, x.mean(0)",
            )
        channels = (*(a for run in windows for a in run), *x.dims[1])
        times = tuple(a for a in x.dims[0] if a.axis)
        dims = (*[times] * bool(times), channels, *x.dims[2:], *((),) * (2 - axes))
        return self.features(Traced(x.ref, Layout(dims))), prod(a.size for r in windows for a in r)

    def from_map(self, x: Traced, ref: Ref, axes: int) -> Traced:
        """The tensor of the file over a map ``ref``, made of ``x`` through :meth:`as_map`."""
        runs = _runs(x.dims[0], _role(x.dims[0]))
        windows = [prod(a.size for a in run) for run in runs]
        channels = self.shapes[ref][0] // prod(windows)
        sizes = (*windows, channels, *self.shapes[ref][1 : 1 + axes])
        dims = list(Layout.contiguous(sizes).dims)
        pattern = (_role(x.dims[0]), *(None,) * (1 + axes))
        return Traced(ref, self.filled(pattern, dims))

    def keep(self, node: onnx.NodeProto, t: Traced) -> None:
        self.traced[node.output[0]] = t

    def common(self, a: Traced, b: Traced, axes: int) -> Pattern:
        """The pattern of a result whose first ``axes`` axes are both operands' axes, broadcast."""
        rank = max(len(a.dims), len(b.dims))
        pa = (None,) * (rank - len(a.dims)) + self.pattern(a)
        pb = (None,) * (rank - len(b.dims)) + self.pattern(b)
        for i, (x, y) in enumerate(zip(pa, pb)):
            if i < axes and x is not None and y is not None and _indexed(x) != _indexed(y):
                raise self.error("NC1008", "the operands have time or batch on different axes")
        return tuple(
            max(x, y, key=len) if x and y else y if x is None else x for x, y in zip(pa, pb)
        )

    @staticmethod
    def fits(value: np.ndarray, x: Traced) -> bool:
        """True if a sum with ``value`` has the shape of ``x``."""
        return np.broadcast_shapes(value.shape, x.layout.shape) == x.layout.shape

    def made(self, ref: Ref) -> s.Node:
        """The node that computes the value ``ref``."""
        return next(n for n in reversed(self.nodes) if n.name == ref)

    def is_private(self, linear: s.Node) -> bool:
        """True if the file's nodes read the value of ``linear`` one after the other, and no other
        node did.
        """
        seen = [name for name, t in self.traced.items() if t.ref == linear.name]
        return all(self.readers[name] == 1 for name in seen) and not any(
            linear.name in n.inputs for n in self.nodes
        )

    def axes(self, axes: Sequence[int], rank: int) -> list[int]:
        """Axes counted from the front, each once, in order."""
        found = sorted(int(i) + rank * (int(i) < 0) for i in axes)
        if len(set(found)) != len(found) or any(not 0 <= i < rank for i in found):
            raise self.error("NC1009", f"axes {[int(i) for i in axes]} of {rank}")
        return found

    def relayout(self, node: onnx.NodeProto, layout: Layout) -> None:
        self.keep(node, Traced(self.traced[node.input[0]].ref, layout))


Rule = Callable[[Importer, onnx.NodeProto, dict[str, Any]], None]
"""Adds what one node of the file computes: (importer, node, attributes)."""
