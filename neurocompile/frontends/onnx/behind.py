"""What lies behind a model's last neurons: which of it the chip computes, and what is left to the host.

A node from which no neuron is reached may be the host's. It stays on the chip where an operator of
the SpikingGraph can say it and, behind a mean over time, is linear (the mean commutes with it).
Where it is not, the host takes it and all that reads it: such a node is only followed, as a
:class:`Followed` value, so that it is known where its samples and steps lie. Samples never mix; steps
may, for the host has all of them: their axis is then one of features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.bounds import bounds_of
from neurocompile.frontends.onnx.constants import uniform
from neurocompile.frontends.onnx.context import Importer, Pattern, Traced
from neurocompile.host.operators import ALONG, BINARY, HOST_OPERATORS, HOST_VIEWS, REDUCTIONS, UNARY
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import OPEN, Atom, Layout, LayoutError, shown
from neurocompile.ir.text import Ref
from neurocompile.passes.sink_time_mean import LINEAR

__all__ = ["Behind", "HostNode"]

Dims = tuple[tuple[Atom, ...], ...]
Rule = Callable[[Importer, onnx.NodeProto], None]


@dataclass(frozen=True, kw_only=True)
class Followed(s.Node):
    """Stands for a value that the host computes; no graph keeps it."""


@dataclass(frozen=True)
class HostNode:
    """A node of the host; ``constants``: operands whose value is another here than in the file."""

    node: onnx.NodeProto
    constants: dict[int, np.ndarray]


@dataclass
class Behind:
    """State of one import."""

    names: set[str]
    """Tensors from which no neuron is reached."""
    rule: Rule
    """Follows one node by the rules of the chip."""
    nodes: list[HostNode] = field(default_factory=list)
    values: set[str] = field(default_factory=set)
    """Tensors that the host makes."""

    def takes(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` may be the host's."""
        return all(o in self.names for o in node.output if o)

    def place(self, im: Importer, node: onnx.NodeProto) -> None:
        """On the chip, if that can be; else on the host, if that can be; else the
        error that the chip's rule raised.
        """
        if not self.values.intersection(node.input):
            before = im.saved()
            count = len(im.nodes)
            try:
                self.rule(im, node)
                if _for_chip(im, node, im.nodes[count:]):
                    return
                error: NeurocompileError | None = None
            except NeurocompileError as caught:
                error = caught
            im.restore(before)
            if node.op_type not in HOST_OPERATORS and error is not None:
                raise error
        self._follow(im, node, len(self.nodes))

    def adopts(self, im: Importer, node: onnx.NodeProto, operands: list[str]) -> bool:
        """Whether the host may as well compute ``node``, which is the chip's: it moves, adds or
        scales, and the layer in front has not taken it over.
        """
        refs = {im.traced[i].ref for i in operands}
        merged = node.op_type not in HOST_VIEWS and im.traced[node.output[0]].ref in refs
        light = node.op_type in HOST_VIEWS | UNARY | BINARY | REDUCTIONS and node.op_type != "Pad"
        return (
            light and not merged and self.takes(node) and not self.values.intersection(node.output)
        )

    def adopt(self, im: Importer, node: onnx.NodeProto) -> None:
        """Give ``node`` to the host, in front of what it has, behind what makes its operands."""
        makers = [
            k for k, n in enumerate(self.nodes) if set(n.node.output).intersection(node.input)
        ]
        self._follow(im, node, max(makers, default=-1) + 1)

    def _follow(self, im: Importer, node: onnx.NodeProto, place: int) -> None:
        if node.op_type not in HOST_OPERATORS or node.domain not in ("", "ai.onnx"):
            raise im.error("NC1003", "this operator is not known, on the chip or behind it")
        before = im.saved()
        try:
            changed = _follow(im, node, self.rule)
        except NeurocompileError:
            timed = [i for i in node.input if i in im.traced and _has(im.traced[i].dims, "T")]
            if not timed:
                raise
            im.restore(before)
            kept = {name: im.traced[name] for name in timed}
            for name in timed:
                im.traced[name] = _as(im, node, _untimed(im.traced[name].dims))
            try:
                changed = _follow(im, node, self.rule)
            finally:
                im.traced.update(kept)
            for output in filter(None, node.output):
                im.traced[output] = _timed_again(im, node, im.traced[output], kept[timed[0]].dims)
        self.nodes.insert(place, HostNode(node, changed))
        self.values.update(filter(None, node.output))


def _for_chip(im: Importer, node: onnx.NodeProto, made: list[s.Node]) -> bool:
    """Whether the chip can compute the nodes ``made`` of ``node``, behind which is no neuron."""
    averaged: set[str] = set()
    for n in im.nodes:
        if type(n) is s.TimeMean or averaged.intersection(n.inputs):
            averaged.add(n.name)
    attention = any(type(n) is s.Softmax for n in im.nodes)
    for n in made:
        kind = type(n)
        if kind in (s.Function, s.Normalization, s.StepSoftmax, s.Quotient, s.TokenMean):
            return False
        if kind is s.Softmax and not _weighs(im, node.output[0]):
            return False
        if kind in (s.Mul, s.MatMul) and not any(bounds_of(im, i) for i in n.inputs):
            return False  # of two real values
        late = [i in averaged for i in n.inputs]
        commutes = kind in (*LINEAR, s.TimeMean) and all(late)
        if any(late) and not commutes and not attention:
            return False
    return True


def _weighs(im: Importer, name: str) -> bool:
    """Whether the softmax ``name`` is multiplied with another signal, as attention does."""
    seen = {name}
    for node in im.graph.node:
        if not seen.intersection(node.input):
            continue
        others = [i for i in node.input if i and i not in seen and i not in im.constants]
        if node.op_type in ("MatMul", "Mul", "Einsum") and others:
            return True
        seen.update(node.output)
    return False


# ---- following a node ----------------------------------------------------------------------------


def _follow(im: Importer, node: onnx.NodeProto, rule: Rule) -> dict[int, np.ndarray]:
    """Keep how the output of ``node`` lies; operands that have to change."""
    try:
        if node.op_type in UNARY:
            im.keep(node, _as(im, node, im.traced[node.input[0]].dims))
        elif node.op_type in BINARY:
            return _broadcast(im, node)
        elif node.op_type in ALONG or node.op_type in (
            "GroupNormalization",
            "InstanceNormalization",
        ):
            _along(im, node)
        elif node.op_type in REDUCTIONS:
            _reduced(im, node)
        elif node.op_type == "Resize":
            _resized(im, node)
        elif node.op_type == "Expand":
            _expanded(im, node)
            return _shape_operand(im, node)
        else:
            rule(im, node)
            if node.op_type == "Concat":
                _check_joined(im, node)
            return _shape_operand(im, node)
    except LayoutError as error:
        raise im.error("NC1009", str(error)) from error
    return {}


def _as(im: Importer, node: onnx.NodeProto, dims: Dims) -> Traced:
    """A value of the host whose tensor has the labels and sizes of ``dims``."""
    pattern: Pattern = im.pattern(Traced(Ref(""), Layout(dims)))
    sizes = tuple(prod(a.size for a in run) for d in dims for run in im.runs(d))
    ref = im.emit(Followed, f"host.{node.output[0]}", sizes)
    return Traced(ref, im.filled(pattern, Layout.contiguous(sizes).dims))


def _has(dims: Dims, axis: str) -> bool:
    return any(a.axis == axis for d in dims for a in d)


def _untimed(dims: Dims) -> Dims:
    """With features in the place of steps."""
    return tuple(
        tuple(
            Atom(a.size, a.stride) if a.axis == "T" else a for a in d if a.axis != "T" or a.size > 1
        )
        for d in dims
    )


def _timed_again(im: Importer, node: onnx.NodeProto, y: Traced, before: Dims) -> Traced:
    """``y`` with steps where an operand had them, if there are as many: one value a step."""
    if len(y.dims) != len(before) or _has(y.dims, "T"):
        return y
    dims = tuple(
        old if [a.axis for a in old] == ["T"] and _labels(d) == [("", old[0].size)] else d
        for d, old in zip(y.dims, before)
    )
    return _as(im, node, dims) if dims != y.dims else y


def _labels(dim: tuple[Atom, ...]) -> list[tuple[str, int]]:
    """What an axis runs over, runs of features joined."""
    found: list[tuple[str, int]] = []
    for a in dim:
        if a.size == 1:
            continue
        if found and found[-1][0] == a.axis == "":
            found[-1] = "", found[-1][1] * a.size
        else:
            found.append((a.axis, a.size))
    return found


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _broadcast(im: Importer, node: onnx.NodeProto) -> dict[int, np.ndarray]:
    changed: dict[int, np.ndarray] = {}
    signals = [im.traced[i].dims for i in node.input if i in im.traced]
    values = {k: im.constants[i] for k, i in enumerate(node.input) if i and i not in im.traced}
    rank = max([*map(len, signals), *(v.ndim for v in values.values())])
    dims: list[tuple[Atom, ...]] = [()] * rank
    for signal in signals:
        for k, dim in enumerate(signal, rank - len(signal)):
            mine, other = _labels(dims[k]), _labels(dim)
            if mine and other and mine != other:
                raise im.error("NC1008", "the operands have samples or steps on different axes")
            dims[k] = dim if other or not dims[k] else dims[k]
    for operand, value in values.items():
        for k, n in enumerate(value.shape, rank - value.ndim):
            size, axis = prod(a.size for a in dims[k]), k - rank + value.ndim
            if n == 1 or n == size and not _has((dims[k],), "B"):
                continue
            if size == 1 and not dims[k]:
                dims[k] = (Atom(n, 1),)
                continue
            first = uniform(value).take([0], axis)
            if n != size or uniform(value).shape[axis] > 1:
                raise im.error(
                    "NC1009", f"a constant of shape {shown(value.shape)} differs between samples"
                )
            value = changed[operand] = np.ascontiguousarray(
                np.broadcast_to(first, (*value.shape[:axis], 1, *value.shape[axis + 1 :]))
            )
    im.keep(node, _as(im, node, tuple(dims)))
    return changed


def _along(im: Importer, node: onnx.NodeProto) -> None:
    dims, attributes = im.traced[node.input[0]].dims, _attributes(node)
    old = any(o.domain in ("", "ai.onnx") and o.version < 13 for o in im.model.proto.opset_import)
    if old or len([o for o in node.output if o]) > 1:
        raise im.error("NC1009", "opset 13 or later, and one output, are supported")
    if node.op_type.startswith(("Group", "Instance")):
        axes = list(range(1, len(dims)))
    else:
        (first,) = im.axes([int(attributes.get("axis", -1))], len(dims))
        whole = node.op_type in ("LayerNormalization", "RMSNormalization")
        axes = list(range(first, len(dims) if whole else first + 1))
    _check_axes(im, dims, axes)
    im.keep(node, _as(im, node, dims))


def _check_axes(im: Importer, dims: Dims, axes: list[int], time: bool = False) -> None:
    mixed = [a for i in axes for a in dims[i] if a.axis == "B" and a.size > 1]
    if mixed:
        raise im.error(
            "NC1008",
            f"over samples of the batch, of {shown(Layout(dims).shape)}: samples are computed alone",
        )
    if not time and any(a.axis == "T" and a.size > 1 for i in axes for a in dims[i]):
        raise im.error("NC1008", "over the steps of time")


def _reduced(im: Importer, node: onnx.NodeProto) -> None:
    dims, attributes = im.traced[node.input[0]].dims, _attributes(node)
    if node.op_type.startswith("Arg"):
        axes = [attributes.get("axis", 0)]
    else:
        given = attributes.get("axes")
        given = im.constant(node, 1) if given is None else given
        if given is None and attributes.get("noop_with_empty_axes", 0):
            given = []
        axes = list(range(len(dims))) if given is None else [int(i) for i in given]
    axes = im.axes(list(axes), len(dims))
    _check_axes(im, dims, axes, time=True)
    kept = bool(attributes.get("keepdims", 1))
    labels = {i: tuple(a for a in dims[i] if a.axis == "B") for i in axes}
    left = tuple(labels.get(i, d) for i, d in enumerate(dims) if kept or i not in labels)
    im.keep(node, _as(im, node, left))


def _expanded(im: Importer, node: onnx.NodeProto) -> None:
    """Axes of one element repeated: of features, for no time begins behind the last neurons."""
    wanted, dims = [int(n) for n in im.constant(node, 1)], list(im.traced[node.input[0]].dims)
    dims = [()] * (len(wanted) - len(dims)) + dims
    for k, n in enumerate(wanted, len(dims) - len(wanted)):
        if n == 1 or prod(a.size for a in dims[k]) > 1 or _has((dims[k],), "B"):
            continue
        if n % OPEN == 0:
            raise im.error("NC1009", "repeats a value once for each sample")
        dims[k] = (Atom(n, 1),)
    im.keep(node, _as(im, node, tuple(dims)))


def _resized(im: Importer, node: onnx.NodeProto) -> None:
    dims = im.traced[node.input[0]].dims
    if "axes" in _attributes(node) or b"tf_crop_and_resize" in _attributes(node).values():
        raise im.error("NC1009", "a Resize of all axes, by scales or sizes, is supported")
    shape = Layout(dims).shape
    scales, sizes = im.constant(node, 2), im.constant(node, 3)
    if sizes is not None and sizes.size:
        wanted = [int(n) for n in sizes]
    else:
        wanted = [
            int(np.floor(n * float(f))) for n, f in zip(shape, scales if scales is not None else ())
        ]
    if len(wanted) != len(dims) or any(
        w != n and any(a.axis for a in d) for w, n, d in zip(wanted, shape, dims)
    ):
        raise im.error("NC1009", f"a Resize of {shown(shape)} to {shown(wanted)}")
    im.keep(
        node,
        _as(
            im,
            node,
            tuple(
                d if w == n else ((Atom(w, 1),) if w > 1 else ())
                for w, n, d in zip(wanted, shape, dims)
            ),
        ),
    )


def _check_joined(im: Importer, node: onnx.NodeProto) -> None:
    """NC1009 for a constant that holds the samples of the example, beside values of any number."""
    dims = im.traced[node.output[0]].dims
    batch = [k for k, d in enumerate(dims) if _has((d,), "B")]
    for value in (im.constants[i] for i in node.input if i not in im.traced):
        if any(k < value.ndim and value.shape[k] > 1 for k in batch):
            raise im.error(
                "NC1009",
                f"a constant of shape {shown(value.shape)}, with the example's number of samples, stands beside "
                "values of steps. A neuron that fires before it adds its input sends nothing in the first step, "
                "whatever comes: compare behind the input",
            )


def _shape_operand(im: Importer, node: onnx.NodeProto) -> dict[int, np.ndarray]:
    """The target of a Reshape or Expand, for any number of samples."""
    computed = [i for i in node.input if i in im.otherwise]
    if node.op_type not in ("Reshape", "Expand"):
        if computed:
            raise im.error("NC1009", "computes with the number of samples")
        return {}
    dims = im.traced[node.output[0]].dims
    open_size = -1 if node.op_type == "Reshape" else 1
    target = [open_size if _has((d,), "B") else n for d, n in zip(dims, Layout(dims).shape)]
    return {1: np.asarray(target, np.int64)}
