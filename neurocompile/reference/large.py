"""Models above protobuf's limit of 2 GB for one message: their large tensors travel beside them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["LIMIT", "check_proto", "split"]

LIMIT = (1 << 31) - (1 << 26)
"""Bytes of tensors above which a model is not one message."""
LARGE = 1 << 16
"""Bytes of a tensor that travels beside such a model."""
_NOWHERE = "beside"


def _beside(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Tensors to keep out of a message; none of a model that is one."""
    sizes = [len(t.raw_data) for t in proto.graph.initializer]
    if sum(sizes) <= LIMIT:
        return []
    return [t for t, size in zip(proto.graph.initializer, sizes) if size >= LARGE]


def split(proto: onnx.ModelProto) -> tuple[bytes, dict[str, np.ndarray]]:
    """``proto`` serialized, and the values of the tensors that it then lacks, by name. ``proto`` is
    the caller's own copy: large tensors are taken out of it.
    """
    weights = {}
    for tensor in _beside(proto):
        weights[tensor.name] = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=_NOWHERE)
    return proto.SerializeToString(), weights


def check_proto(proto: onnx.ModelProto) -> None:
    """onnx.checker.check_model, of the large tensors of a model above the limit name, type and
    shape alone; raises what that raises.
    """
    large = {t.name for t in _beside(proto)}
    if not large:
        onnx.checker.check_model(proto)
        return
    for tensor in proto.graph.initializer:
        if tensor.name in large:
            _check_size(tensor)
    light = onnx.ModelProto(ir_version=proto.ir_version, producer_name=proto.producer_name)
    for kind in ("opset_import", "metadata_props", "functions", "training_info"):
        getattr(light, kind).extend(getattr(proto, kind))
    whole, graph = proto.graph, light.graph
    graph.name, graph.doc_string = whole.name, whole.doc_string
    for kind in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, kind).extend(getattr(whole, kind))
    named = {i.name for i in whole.input}
    for tensor in whole.initializer:
        if tensor.name not in large:
            graph.initializer.append(tensor)
        elif tensor.name not in named:  # one more input in its place
            kind = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(kind)
    onnx.checker.check_model(light)


def _check_size(tensor: onnx.TensorProto) -> None:
    size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    wanted = int(np.prod(tensor.dims, dtype=object)) * size
    if len(tensor.raw_data) != wanted:
        raise onnx.checker.ValidationError(
            f"tensor '{tensor.name}' has {len(tensor.raw_data):,} bytes, its shape needs {wanted:,}"
        )
