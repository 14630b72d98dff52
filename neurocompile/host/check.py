"""Check the host part of an artifact, which may come from a stranger, before onnxruntime sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto, numpy_helper

from neurocompile.host.operators import HOST_OPERATORS

__all__ = ["CUT", "ONNX_ERRORS", "STEPWISE", "HostOutput", "Interface", "checked"]

CUT = "cut"
"""The one input: what the chip gives, (samples, elements) or (samples, steps, elements)."""
STEPWISE = "neurocompile.stepwise"
"""Metadata: a JSON list of the outputs that have one value a step, behind the axis of samples."""
ONNX_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
"""What the onnx package raises of a model that is not well-formed."""
_LARGEST_BYTES = 1 << 28
_LARGEST_VALUE = 1 << 24
"""Elements of one sample."""
_MOST_NODES = 1 << 14
_OPSETS = range(16, 24)
_IR = range(8, 13)
_FIELDS = {"ir_version", "producer_name", "opset_import", "graph", "metadata_props"}
_GRAPH_FIELDS = {"node", "name", "initializer", "input", "output"}
_ATTRIBUTES = frozenset(
    getattr(onnx.AttributeProto, kind)
    for kind in ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")
)


@dataclass(frozen=True)
class HostOutput:
    """One output of the model, without axes of samples and steps."""

    name: str
    shape: tuple[int, ...]
    stepwise: bool = False
    """The model gives it at every step."""


@dataclass(frozen=True)
class Interface:
    """What goes in and comes out."""

    elements: int
    stepwise: bool
    """The host reads the chip's values of every step, not their mean."""
    steps: int
    """The only T that the host part runs at; 0 for any."""
    batch: int
    """Samples of one call; 0 for any number."""
    outputs: tuple[HostOutput, ...]
    largest: int
    """Elements of the largest value of one sample."""


def checked(content: bytes) -> Interface:
    """The interface of a serialized host part; ValueError (or one of :data:`ONNX_ERRORS`) for anything that :mod:`~neurocompile.host`
    does not write: other operators, bodies, external data, open or enormous sizes.
    """
    proto = _parsed(content)
    graph = proto.graph
    domains = [(o.domain, o.version) for o in proto.opset_import]
    if len(domains) != 1 or domains[0][0] or domains[0][1] not in _OPSETS:
        raise ValueError(f"operator sets {domains}")
    if proto.ir_version not in _IR or len(graph.node) > _MOST_NODES:
        raise ValueError(f"IR version {proto.ir_version}, {len(graph.node):,} nodes")
    for node in graph.node:
        if node.domain or node.op_type not in HOST_OPERATORS:
            raise ValueError(f"operator {node.domain[:40]}::{node.op_type[:40]}")
        if any(a.type not in _ATTRIBUTES or a.ref_attr_name for a in node.attribute):
            raise ValueError(f"attributes of a {node.op_type}")
    for tensor in graph.initializer:
        if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
            raise ValueError("a tensor outside of the file")
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind not in "fiub" or array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"a tensor of {array.dtype}, or with NaN")
    onnx.checker.check_model(proto)
    return _interface(proto)


def _parsed(content: bytes) -> onnx.ModelProto:
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"{len(content):,} bytes")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ValueError("not an ONNX model") from error
    odd = _names(proto) - _FIELDS or _names(proto.graph) - _GRAPH_FIELDS
    if odd or any(p.key != STEPWISE for p in proto.metadata_props):
        raise ValueError(f"fields {sorted(odd)}")
    return proto


def _names(message: Message) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


def _interface(proto: onnx.ModelProto) -> Interface:
    graph = proto.graph
    if len(graph.input) != 1 or graph.input[0].name != CUT or not graph.output:
        raise ValueError("one input, the cut, and one output or more are needed")
    kind = graph.input[0].type.tensor_type
    batch, *inner, elements = _sizes(graph.input[0])
    if kind.elem_type != TensorProto.FLOAT or len(inner) > 1 or elements < 1:
        raise ValueError("a cut is float32 (samples, elements) or (samples, steps, elements)")
    steps = inner[0] if inner else 0
    largest = _bounded(proto, batch, bool(inner), steps)
    stepwise: list[Any] = next((json.loads(p.value) for p in proto.metadata_props), [])
    names = [o.name for o in graph.output]
    known = isinstance(stepwise, list) and all(name in names for name in stepwise)
    if not known or len(set(names)) != len(names) or stepwise and not inner:
        raise ValueError("outputs that are named twice, or not at all")
    outputs = []
    for value in graph.output:
        first, *sizes = _sizes(value)
        lead = value.name in stepwise
        if (
            first != batch
            or lead
            and (not sizes or sizes[0] != steps)
            or min(sizes[lead:], default=1) < 1
        ):
            raise ValueError(f"output {list(_sizes(value))}, for samples {batch}")
        outputs.append(HostOutput(value.name, tuple(sizes[lead:]), lead))
    return Interface(elements, bool(inner), steps, batch, tuple(outputs), largest)


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    """Lengths of the axes; 0 for an open one."""
    dims = value.type.tensor_type.shape.dim
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in dims]
    if not sizes or min(sizes) < 0:
        raise ValueError(f"'{value.name[:80]}' has no shape")
    return sizes


def _bounded(proto: onnx.ModelProto, batch: int, timed: bool, steps: int) -> int:
    """Elements of the largest value of one sample; ValueError unless the size of each follows from
    that of the cut, and outputs are what they say.
    """
    trial = onnx.ModelProto()
    trial.CopyFrom(proto)
    samples, T = batch or 3, steps or 5
    dims = trial.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = samples
    if timed:
        dims[1].dim_value = T
    declared = {value.name: _sizes(value) for value in trial.graph.output}
    for value in trial.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(trial, strict_mode=True, data_prop=True)
    found = {
        v.name: [
            d.dim_value if d.HasField("dim_value") else -1 for d in v.type.tensor_type.shape.dim
        ]
        for v in (*inferred.graph.value_info, *inferred.graph.output)
        if v.type.tensor_type.HasField("shape")
    }
    largest = prod([T, _sizes(proto.graph.input[0])[-1]])
    for name in (o for node in proto.graph.node for o in node.output if o):
        sizes = found.get(name)
        if sizes is None or min(sizes, default=1) < 0 or prod(sizes) > _LARGEST_VALUE * samples:
            raise ValueError(f"value '{name[:80]}' of size {sizes}")
        largest = max(largest, -(-prod(sizes) // samples))
    for name, sizes in declared.items():
        real = found.get(name, [])
        if len(real) != len(sizes) or any(n and n != m for n, m in zip(sizes, real)):
            raise ValueError(f"output '{name[:80]}' is {real}, said to be {sizes}")
    return largest
