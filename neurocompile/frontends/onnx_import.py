"""ONNX file -> SpikingGraph: follow time and batch through the file's reshapes, keep one node a layer.

Time is born where the file repeats its input. Whatever depends on the input is understood or named in an error;
everything else is folded to constants. :mod:`neurocompile.frontends.onnx_context` says how tensors are followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.onnx_context import Importer, Traced
from neurocompile.frontends.onnx_fold import fold
from neurocompile.frontends.onnx_layers import LAYER_RULES
from neurocompile.frontends.onnx_lif import DOMAIN
from neurocompile.frontends.onnx_load import LoadedModel
from neurocompile.frontends.onnx_shapes import SHAPE_RULES
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.layout import Atom, Layout, LayoutError

__all__ = ["ImportedModel", "import_onnx"]

_PROBE_BATCH = 8191
"""Stands for a dynamic batch while shapes are folded: a prime that divides no layer's size."""

_RULES = LAYER_RULES | SHAPE_RULES

_CLOSEST = {
    "Softmax": "softmax-free attention (scale * Q K^T V between LIF layers)",
    "LayerNormalization": "BatchNormalization",
    "InstanceNormalization": "BatchNormalization",
    "Gelu": "LIF", "Erf": "LIF", "Relu": "LIF", "Sigmoid": "LIF", "Tanh": "LIF", "Clip": "LIF",
    "AveragePool": "MaxPool, or a strided Conv", "ConvTranspose": "Conv",
    "Loop": "ai.neurocompile::LIF, one node a layer (neurocompile.export_onnx)",
    "Scan": "ai.neurocompile::LIF, one node a layer (neurocompile.export_onnx)",
    "Greater": "ai.neurocompile::LIF, one node a layer (neurocompile.export_onnx)",
    "GreaterOrEqual": "ai.neurocompile::LIF, one node a layer (neurocompile.export_onnx)",
    "Max": "MaxPool", "Einsum": "MatMul",
}  # fmt: skip


@dataclass(frozen=True)
class ImportedModel:
    """A SpikingGraph of stage ``imported``, and the file's tensor name of each of its spiking layers."""

    graph: s.SpikingGraph
    layer_values: dict[str, str]


def import_onnx(model: LoadedModel, name: str) -> ImportedModel:
    """Import a checked file; NC1003, NC1006, NC1008, NC1009 or NC1010 for what is not supported."""
    importer = Importer(model)
    try:
        _run(importer)
        graph = s.SpikingGraph(name, "imported", tuple(importer.nodes), importer.tensors, importer.exported_T)
        importer.where = "the imported graph"
        if shapes(graph) != importer.shapes:
            raise ValueError("shapes are not consistent")
    except NeurocompileError:
        raise
    except Exception as error:  # attributes and operands that the ONNX checker lets pass are of any type and number
        raise NeurocompileError(
            "NC1009", f"{importer.where}: attributes or operands that ONNX does not define here "
            f"({type(error).__name__}: {str(error)[:160]})"
        ) from error  # fmt: skip
    return ImportedModel(graph, importer.layer_values)


def _run(im: Importer) -> None:
    inputs = [i for i in im.graph.input if i.name not in im.constants]
    if len(inputs) != 1 or len(im.graph.output) != 1:
        raise NeurocompileError(
            "NC1009", f"the model has {len(inputs)} inputs and {len(im.graph.output)} outputs; one of each is supported"
        )
    _refuse_unknown(im, inputs[0].name)
    _input(im, inputs[0])
    for node in im.graph.node:
        im.where = f"node '{node.name or node.output[0]}' ({node.op_type})"
        if node.op_type == "Constant":
            continue
        if all(i in im.constants or not i for i in node.input):
            _fold(im, node)
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        try:
            _RULES[node.op_type](im, node, attributes)
        except LayoutError as error:
            raise NeurocompileError("NC1009", f"{im.where}: {error}") from error
    if not any(isinstance(n, s.LIF) for n in im.nodes):
        raise NeurocompileError("NC1010", f"'{im.model.path}' holds no spiking neuron")
    im.where = "the output"
    _output(im, im.graph.output[0].name)


def _refuse_unknown(im: Importer, source: str) -> None:
    """Name every unsupported node that depends on the input, at once."""
    dynamic, problems = {source}, []
    for node in im.graph.node:
        if not dynamic.intersection(node.input):
            continue
        known = node.op_type in _RULES and node.domain in ("", "ai.onnx", DOMAIN)
        if known and (node.op_type == "LIF") == (node.domain == DOMAIN):
            if node.op_type != "Shape":
                dynamic.update(node.output)
            continue
        dynamic.update(node.output)
        operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        closest = _CLOSEST.get(node.op_type)
        advice = f"closest supported form: {closest}" if closest else "no supported form is close to it"
        problems.append(f"node '{node.name or node.output[0]}': operator {operator} is not supported; {advice}")
    if problems:
        raise ViolationList("NC1003", problems)


def _fold(im: Importer, node: onnx.NodeProto) -> None:
    feeds = {i: im.constants[i] for i in node.input if i}
    values = fold(node, feeds, im.model.proto.opset_import, im.where)
    im.constants.update(zip(filter(None, node.output), values))


def _input(im: Importer, value: onnx.ValueInfoProto) -> None:
    kind = value.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        found = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise NeurocompileError("NC1006", f"input '{value.name}' is {found}; float32 is supported")
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if len(sizes) < 2 or min(sizes[1:]) < 1:
        raise NeurocompileError(
            "NC1006", f"input '{value.name}' has shape {sizes}; (batch, features...) with fixed features is supported"
        )
    batch = sizes[0] or _PROBE_BATCH
    shape = tuple(sizes[1:])
    ref = im.emit(s.Input, value.name, shape, shape=shape)
    atoms = ((Atom(batch, 1, "B"),) if batch > 1 else (), *Layout.contiguous(shape).dims)
    im.traced[value.name] = Traced(ref, Layout(atoms))


def _output(im: Importer, name: str) -> None:
    if name not in im.traced:
        raise NeurocompileError("NC1009", f"output '{name}' does not depend on the input")
    t = im.traced[name]
    if any(a.axis == "T" for d in t.dims for a in d):
        raise NeurocompileError(
            "NC1009", f"output '{name}' still has its time axis; end the model with a mean over time"
        )
    ref = im.features(t)
    im.emit(s.Output, "logits" if name in im.shapes else name, im.shapes[ref], x=ref)
