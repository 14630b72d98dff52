"""The host's ONNX graph: the model's outputs of the one value that the chip gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from neurocompile.frontends.onnx.behind import Behind
from neurocompile.frontends.onnx.context import Importer, Traced
from neurocompile.frontends.onnx.values import has_time
from neurocompile.host.check import CUT, STEPWISE
from neurocompile.ir.layout import OPEN, Atom, Layout
from neurocompile.ir.text import Ref, unique_name

__all__ = ["Cut", "HostGraph", "output_dims", "read_by_host"]


@dataclass(frozen=True)
class Cut:
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
        """Number of elements of a sample, or of one of its steps."""
        return prod(self.shape)

    @property
    def timed(self) -> bool:
        """Whether the host reads it step by step."""
        return has_time(self.traced.layout)


def output_dims(im: Importer, name: str) -> tuple[tuple[Atom, ...], ...]:
    """Axes of an output; a batch of 1 that lost its label is the first of them."""
    dims = im.traced[name].dims
    if "B" in {a.axis for d in dims for a in d} or not dims or dims[0]:
        return dims
    return ((Atom(1, 1, "B"),), *dims[1:])


def read_by_host(behind: Behind) -> list[str]:
    """Tensors that the host reads, constants among them."""
    return [
        i
        for h in behind.nodes
        for k, i in enumerate(h.node.input)
        if i and i not in behind.values and k not in h.constants
    ]


class HostGraph:
    """Writes the graph: parts of the chip's value as tensors of the file, the nodes behind them, and
    the outputs.
    """

    def __init__(
        self, im: Importer, behind: Behind, outputs: list[str], cuts: list[Cut], timed: bool
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
        read = set(read_by_host(self.behind))
        for cut in self.cuts:
            part = self._part(cut)
            if cut.name in read:
                self.names[cut.name] = self._file_tensor(cut, part)
            for name, out in zip(self.outputs, shown_names):
                if name == cut.name:
                    lead = 2 if cut.timed else 1
                    features = [n for d in output_dims(self.im, name) for n in self._features(d)]
                    self.emit("Reshape", [part, self.ints([0] * lead + features)], out)
        for host in self.behind.nodes:
            self._host(host)
        for name, out in zip(self.outputs, shown_names):
            if name in self.behind.values:
                self._output(name, out)
        return self._model(shown_names)

    # ---- from the cut to the file's tensors ---------------------------------------------------

    def _part(self, cut: Cut) -> str:
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

    def _file_tensor(self, cut: Cut, part: str) -> str:
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
        dims = output_dims(self.im, name)
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
        dims = output_dims(self.im, name)
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
