"""A file of torch's exporter without what names the machine that wrote it."""

from __future__ import annotations

import re

import onnx

from neurocompile.frontends.diagnosis import MODULE_KEY, module_class, module_path

__all__ = ["strip"]


def strip(proto: onnx.ModelProto) -> None:
    """Remove what differs between machines (stack traces, versions) and properties, and call the
    symbolic axis ``batch``.

    Shapes of constants are stored with the constants.
    """
    graph = proto.graph
    proto.producer_name, proto.producer_version, proto.doc_string = "neurocompile", "", ""
    modules = [(module_path(node), module_class(node)) for node in graph.node]
    for part in (
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for node, (path, kind) in zip(graph.node, modules):
        if path and path != node.name:
            node.metadata_props.add(key=MODULE_KEY, value=f"{path}:{kind}")
    constants = {tensor.name for tensor in graph.initializer}
    shapes = [value for value in graph.value_info if value.name not in constants]
    graph.ClearField("value_info")
    graph.value_info.extend(shapes)
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    if not symbol:  # a fixed batch
        return
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dim.dim_param)
