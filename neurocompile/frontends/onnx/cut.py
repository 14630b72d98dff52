"""Where a model is cut between chip and host: the values that the chip gives, joined to one, and the
ONNX graph that makes the model's outputs of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import frexp, prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.behind import Behind
from neurocompile.frontends.onnx.context import Importer, Traced
from neurocompile.frontends.onnx.values import has_time
from neurocompile.host.check import CUT, ONNX_ERRORS, STEPWISE
from neurocompile.host.part import HostPart
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import OPEN, Atom, Layout, shown
from neurocompile.ir.text import Ref, unique_name

__all__ = ["cut_model"]

_LARGEST_JOIN = 1 << 24
"""Weights of a layer that puts one of several values in its place."""

_LOOKED_THROUGH = (s.Rearrange, s.TimeMean, s.Scale, s.Offset, s.Sum, s.SumPool2d)
"""Kinds of node that leave the size of values about as it is, but for a factor."""


@dataclass(frozen=True)
class _Cut:
    """A tensor of the file that the chip gives."""

    name: str
    traced: Traced
    ref: Ref
    """The value of its feature axes, in order."""
    shape: tuple[int, ...]
    start: int
    """First of its elements in the whole."""
    factor: float
    """By which the chip's value is larger, a power of two."""

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def timed(self) -> bool:
        return has_time(self.traced.layout)


def cut_model(im: Importer, behind: Behind, outputs: list[str]) -> HostPart:
    """Emit the Output of the SpikingGraph, and give the host's part.

    Args:
        outputs: tensors that the model returns.

    NC1008 for an output that mixes samples or time with features, NC1009 for what cannot be joined.
    """
    _fewer(im, behind, outputs)
    cuts = _cuts(im, behind, outputs)
    timed = any(c.timed for c in cuts)
    whole, shape = _join(im, cuts)
    im.emit(s.Output, CUT, shape, x=whole, per_step=timed)
    im.outputs = [_lies(im, name) for name in outputs]
    content = _Tail(im, behind, outputs, cuts, timed).content()
    try:
        return HostPart.of(content)
    except (ValueError, *ONNX_ERRORS) as error:
        raise NeurocompileError(
            "NC1009", f"what lies behind the last neurons cannot be run by the host: {error}"
        ) from error


def _lies(im: Importer, name: str) -> tuple[Layout, tuple[int, ...]]:
    """How the output ``name`` lies over its features, in order, and their sizes."""
    dims = _output_dims(im, name)
    _check_apart(im, name, dims)
    sizes = tuple(prod(a.size for a in run) for d in dims for run in im.runs(d))
    pattern = im.pattern(Traced(Ref(""), Layout(dims)))
    return im.filled(pattern, Layout.contiguous(sizes).dims), sizes


def _output_dims(im: Importer, name: str) -> tuple[tuple[Atom, ...], ...]:
    """Axes of an output; a batch of 1 that lost its label is the first of them."""
    dims = im.traced[name].dims
    if "B" in {a.axis for d in dims for a in d} or not dims or dims[0]:
        return dims
    return ((Atom(1, 1, "B"),), *dims[1:])


def _read(behind: Behind) -> list[str]:
    """Tensors that the host reads, constants among them."""
    return [
        i
        for h in behind.nodes
        for k, i in enumerate(h.node.input)
        if i and i not in behind.values and k not in h.constants
    ]


def _fewer(im: Importer, behind: Behind, outputs: list[str]) -> None:
    """Give the host views, sums and factors in front of what it reads, where the chip has to give
    no more elements then: of ``x - mean(x)`` and ``x`` the chip need not give both, nor make the first.
    """
    made = {o: n for n in im.graph.node for o in n.output if o}
    place = {id(n): k for k, n in enumerate(im.graph.node)}
    fixed: set[str] = set()
    while True:
        by_host = {i for i in _read(behind) if i in im.traced and i not in behind.values}
        read = by_host | {o for o in outputs if o not in behind.values}
        for name in sorted(read - fixed):
            fixed.add(name)
            cone, base = _cone(im, behind, made, name)
            fresh = sum(_elements(im, b) for b in base - read)
            if cone and fresh <= (_elements(im, name) if name in by_host else 0):
                for node in sorted(cone, key=lambda n: -place[id(n)]):
                    behind.adopt(im, node)
                break
        else:
            return


def _cone(
    im: Importer, behind: Behind, made: dict[str, onnx.NodeProto], name: str
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Nodes in front of ``name`` that move, add or scale, and the tensors in front of them."""
    cone, base, stack, seen = [], set(), [name], {name}
    while stack:
        tensor = stack.pop()
        node = made.get(tensor)
        operands = [i for i in node.input if i in im.traced] if node is not None else []
        if node is None or not operands or not behind.adopts(im, node, operands):
            base.add(tensor)
            continue
        cone.append(node)
        stack += [i for i in operands if i not in seen]
        seen.update(operands)
    return cone, base


def _elements(im: Importer, name: str) -> int:
    """Of a sample, at all steps."""
    return prod(a.size for d in im.traced[name].dims for a in d if a.axis != "B")


def _cuts(im: Importer, behind: Behind, outputs: list[str]) -> list[_Cut]:
    names = dict.fromkeys([*outputs, *_read(behind)])
    wanted = [n for n in names if n in im.traced and n not in behind.values]
    found, refs = [], {}
    for name in wanted:
        refs[name] = im.features(im.traced[name])
    largest = {name: _magnitude(im, ref) for name, ref in refs.items()}
    top = max(largest.values())
    start = 0
    for name in wanted:
        shape = im.shapes[refs[name]]
        _, power = frexp(top / largest[name])
        factor = 1.0 if len(wanted) == 1 else 2.0 ** (power - 1)
        found.append(_Cut(name, im.traced[name], refs[name], shape, start, factor))
        start += prod(shape)
    return found


def _magnitude(im: Importer, ref: Ref) -> float:
    """About how large the weights of the layer are that makes the value ``ref``; 1 for spikes."""
    factor = 1.0
    while (node := im.made(ref)) and type(node) in _LOOKED_THROUGH:
        factor *= abs(getattr(node, "factor", 1.0))
        ref = node.inputs[0]
    weight = getattr(node, "weight", None)
    if weight is not None:
        factor *= float(np.abs(im.tensors[weight]).max())
    return factor if 1e-30 < factor < 1e30 else 1.0


def _join(im: Importer, cuts: list[_Cut]) -> tuple[Ref, tuple[int, ...]]:
    """One value whose elements, row-major, are those of all ``cuts``, each behind the other."""
    _average_late(im, cuts)
    if len(cuts) == 1:
        return cuts[0].ref, im.shapes[cuts[0].ref]
    maps = len({c.shape[1:] for c in cuts}) == 1 and all(len(c.shape) == 3 for c in cuts)
    counts = [c.shape[0] if maps else c.size for c in cuts]
    total, start = sum(counts), 0
    placed: dict[Ref, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for cut, count in zip(cuts, counts):
        if total * count > _LARGEST_JOIN:
            sizes = ", ".join(f"{c.size:,}" for c in cuts)
            raise NeurocompileError(
                "NC1009",
                f"outputs of {sizes} elements cannot be had at once; choose one (head=, --head)",
            )
        place = cut.factor * np.eye(total, count, -start)
        x, weight, bias = _layer(im, cut, maps)
        placed.setdefault(x, []).append((cut.name, place @ weight, place @ bias))
        start += count
    whole: Ref | None = None
    for x, layers in placed.items():  # those that read the same value are one layer
        name = f"{layers[0][0]}.place"
        weight, bias = sum(w for _, w, _ in layers), sum(b for _, _, b in layers)
        fields: dict[str, Any] = {"x": x}
        if np.any(bias):
            fields["bias"] = im.store(f"{name}.bias", bias)
        fields["weight"] = im.store(name, weight[:, :, None, None] if maps else weight)
        shape = (total, *cuts[0].shape[1:]) if maps else (total,)
        ref = im.emit(s.Conv2d if maps else s.Linear, name, shape, **fields)
        whole = ref if whole is None else im.emit(s.Add, CUT, shape, a=whole, b=ref)
    assert whole is not None
    return whole, im.shapes[whole]


def _layer(im: Importer, cut: _Cut, maps: bool) -> tuple[Ref, np.ndarray, np.ndarray]:
    """What makes ``cut`` as a matrix and a bias on a value: the layer itself, if nothing else reads
    it, or the identity.
    """
    made = im.made(cut.ref)
    count = cut.shape[0] if maps else cut.size
    if isinstance(made, s.Linear) and not any(cut.ref in n.inputs for n in im.nodes):
        weight = im.tensors[made.weight].astype(np.float64)
        bias = np.zeros(count) if made.bias is None else im.tensors[made.bias].astype(np.float64)
        return made.x, weight, bias
    return cut.ref if maps else _flat(im, cut), np.eye(count), np.zeros(count)


def _flat(im: Importer, cut: _Cut) -> Ref:
    if len(cut.shape) == 1:
        return cut.ref
    n = (cut.size,)
    return im.emit(s.Rearrange, f"{cut.name}.flat", n, x=cut.ref, shape=n, sizes=n, strides=(1,))


def _average_late(im: Importer, cuts: list[_Cut]) -> None:
    """Where the host reads steps, it averages what is a mean itself: all values of the whole have
    steps.
    """
    if not any(c.timed for c in cuts) or all(c.timed for c in cuts):
        return
    inner = {i for n in im.nodes if isinstance(n, (s.LIF, s.Softmax)) for i in _below(im, n)}
    means = {n.name: n.x for n in im.nodes if isinstance(n, s.TimeMean) and n.name not in inner}

    def passed(value: Any) -> Any:
        while isinstance(value, Ref) and value in means:
            value = means[value]
        return value

    im.nodes[:] = [
        n if n.name in means else type(n)(**{k: passed(v) for k, v in vars(n).items()})
        for n in im.nodes
    ]
    for k, cut in enumerate(cuts):
        cuts[k] = _Cut(cut.name, cut.traced, passed(cut.ref), cut.shape, cut.start, cut.factor)


def _below(im: Importer, node: s.Node) -> set[str]:
    """Everything that ``node`` depends on."""
    nodes = {n.name: n for n in im.nodes}
    found: set[str] = set()
    stack: list[str] = list(node.inputs)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += nodes[name].inputs
    return found


class _Tail:
    """Writes the host's ONNX graph."""

    def __init__(
        self, im: Importer, behind: Behind, outputs: list[str], cuts: list[_Cut], timed: bool
    ) -> None:
        self.im, self.behind, self.outputs, self.cuts, self.timed = im, behind, outputs, cuts, timed
        self.opset = next(
            o.version for o in im.model.proto.opset_import if o.domain in ("", "ai.onnx")
        )
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.names: dict[str, str] = {}
        """Of the file's tensors."""
        self.batch = 0
        self.steps = 0
        self.taken = {CUT}

    def content(self) -> bytes:
        shown_names = self._output_names()
        read = set(_read(self.behind))
        for cut in self.cuts:
            part = self._part(cut)
            if cut.name in read:
                self.names[cut.name] = self._file_tensor(cut, part)
            for name, out in zip(self.outputs, shown_names):
                if name == cut.name:
                    lead = 2 if cut.timed else 1
                    features = [n for d in _output_dims(self.im, name) for n in self._features(d)]
                    self.emit("Reshape", [part, self.ints([0] * lead + features)], out)
        for host in self.behind.nodes:
            self._host(host)
        for name, out in zip(self.outputs, shown_names):
            if name in self.behind.values:
                self._output(name, out)
        return self._model(shown_names)

    # ---- from the cut to the file's tensors ---------------------------------------------------

    def _part(self, cut: _Cut) -> str:
        """(samples, elements) of ``cut``, or (samples, steps, elements)."""
        value = CUT
        if len(self.cuts) > 1:
            ends = [self.ints([n]) for n in (cut.start, cut.start + cut.size, -1)]
            value = self.emit("Slice", [value, *ends])
        if cut.factor != 1.0:
            value = self.emit("Mul", [value, self.tensor(np.float32(1 / cut.factor))])
        if self.timed and not cut.timed:
            if self.opset >= 18:
                value = self.emit("ReduceMean", [value, self.ints([1])], keepdims=0)
            else:
                value = self.emit("ReduceMean", [value], axes=[1], keepdims=0)
        return value

    def _file_tensor(self, cut: _Cut, part: str) -> str:
        """As the file has it."""
        dims, T = cut.traced.dims, self.im.exported_T
        lead = [0, 0] if cut.timed else [0]
        if cut.timed:
            self.steps = max(T, 1)
        order: list[int] = []
        place = len(lead)
        for dim in dims:
            for kind in _kinds(dim):
                if kind:
                    order.append(0 if kind == "B" else 1)
                else:
                    order.append(place)
                    place += 1
        if 0 not in order:  # a batch of 1 that lost its axis
            self.batch = 1
            order.insert(0, 0)
        if cut.timed and 1 not in order:
            raise self.im.error("NC1008", f"the steps of '{cut.name}' cannot be found")
        value = self.emit("Reshape", [part, self.ints([*lead, *cut.shape])])
        if order != sorted(order):
            value = self.emit("Transpose", [value], perm=order)
        return self.emit("Reshape", [value, self.ints(self._sizes(dims))])

    def _features(self, dim: tuple[Atom, ...]) -> list[int]:
        return [prod(a.size for a in run) for run in self.im.runs(dim)]

    @staticmethod
    def _sizes(dims: tuple[tuple[Atom, ...], ...]) -> list[int]:
        """Of a tensor of the file; -1 where samples are."""
        return [
            -1 if any(a.axis == "B" for a in d) else n for d, n in zip(dims, Layout(dims).shape)
        ]

    # ---- what the host computes -----------------------------------------------------------------

    def _host(self, host: Any) -> None:
        node = onnx.NodeProto(
            op_type=host.node.op_type, name=host.node.name or next(filter(None, host.node.output))
        )
        node.attribute.extend(host.node.attribute)
        for a in node.attribute:
            a.doc_string = ""
        for k, name in enumerate(host.node.input):
            if k in host.constants:
                node.input.append(self.tensor(host.constants[k]))
            elif not name:
                node.input.append("")
            elif name in self.names:
                node.input.append(self.names[name])
            else:
                self.names[name] = self.tensor(self.im.constants[name])
                node.input.append(self.names[name])
        for name in host.node.output:
            self.names[name] = self.fresh() if name else ""
            node.output.append(self.names[name])
            if name and not any(a.axis == "B" for d in self.im.traced[name].dims for a in d):
                self.batch = 1
        self.nodes.append(node)

    def _output(self, name: str, out: str) -> None:
        """Samples first, then steps, then features, each axis its own."""
        dims = _output_dims(self.im, name)
        kinds = [kind for d in dims for kind in _kinds(d)]
        sizes: list[int] = []
        for dim in dims:
            features = iter(self._features(dim))
            for kind in _kinds(dim):
                size = prod(a.size for a in dim if a.axis == kind) if kind else next(features)
                sizes.append(-1 if kind == "B" else size)
        if "B" not in kinds:
            self.batch, kinds, sizes = 1, ["B", *kinds], [1, *sizes]
        order = [kinds.index(k) for k in "BT" if k in kinds]
        order += [i for i, k in enumerate(kinds) if not k]
        value = self.names[name]
        if order == sorted(order):
            self.emit("Reshape", [value, self.ints(sizes)], out)
            return
        value = self.emit("Reshape", [value, self.ints(sizes)])
        self.emit("Transpose", [value], out, perm=order)

    # ---- the message ------------------------------------------------------------------------------

    def _output_names(self) -> list[str]:
        found: list[str] = []
        for name in self.outputs:
            found.append(unique_name(name or "output", self.taken.__contains__))
            self.taken.add(found[-1])
        return found

    def _model(self, names: list[str]) -> bytes:
        inner = [self.steps or "steps"] if self.timed else []
        total = sum(c.size for c in self.cuts)
        samples = self.batch or "samples"
        source = helper.make_tensor_value_info(CUT, TensorProto.FLOAT, [samples, *inner, total])
        stepwise = [
            out for name, out in zip(self.outputs, names) if has_time(self.im.traced[name].layout)
        ]
        graph = helper.make_graph(
            self.nodes,
            "host",
            [source],
            [self._value(name, out, samples) for name, out in zip(self.outputs, names)],
            list(self.tensors.values()),
        )
        model = helper.make_model(
            graph,
            producer_name="neurocompile",
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=10,
        )
        if stepwise:
            helper.set_model_props(model, {STEPWISE: json.dumps(stepwise)})
        for declared, value in zip(model.graph.output, self._inferred(model).graph.output):
            kind = value.type.tensor_type.elem_type
            declared.type.tensor_type.elem_type = kind or TensorProto.FLOAT
        return model.SerializeToString(deterministic=True)

    @staticmethod
    def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
        plain = onnx.ModelProto()
        plain.CopyFrom(model)
        for value in plain.graph.output:
            value.ClearField("type")
        return onnx.shape_inference.infer_shapes(plain)

    def _value(self, name: str, out: str, samples: int | str) -> onnx.ValueInfoProto:
        dims = _output_dims(self.im, name)
        features = [n for d in dims for n in self._features(d)]
        steps: list[int | str] = []
        if has_time(Layout(dims)):
            steps = [self.steps or "steps"]
        return helper.make_tensor_value_info(out, TensorProto.FLOAT, [samples, *steps, *features])

    def emit(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or self.fresh()
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def fresh(self) -> str:
        name = unique_name(f"v{len(self.nodes)}", self.taken.__contains__)
        self.taken.add(name)
        return name

    def ints(self, values: list[int]) -> str:
        return self.tensor(np.asarray(values, np.int64))

    def tensor(self, value: Any) -> str:
        name = unique_name(f"w{len(self.tensors)}", self.taken.__contains__)
        self.taken.add(name)
        array = np.asarray(value)
        if array.dtype.kind == "i" and (np.abs(array % OPEN == 0) & (array != 0)).any():
            raise self.im.error(
                "NC1009", "what lies behind the neurons computes with the number of samples"
            )
        self.tensors[name] = numpy_helper.from_array(
            np.ascontiguousarray(array).reshape(array.shape), name
        )
        return name


def _kinds(dim: tuple[Atom, ...]) -> list[str]:
    """What an axis of the file runs over, in order: "B", "T", or "" for each run of features."""
    found: list[str] = []
    for atom in dim:
        if not found or found[-1] != atom.axis:
            found.append(atom.axis)
    return found or [""]


def _check_apart(im: Importer, name: str, dims: tuple[tuple[Atom, ...], ...]) -> None:
    for dim in dims:
        kinds = {a.axis for a in dim if a.size > 1}
        if "" in kinds and len(kinds) > 1:
            raise im.error(
                "NC1008",
                f"an axis of {shown(Layout(dims).shape)} holds samples or time beside features: take them apart, x.unflatten(0, (-1, n))",
            )
