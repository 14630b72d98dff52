"""Evaluate nodes whose operands are constants, within bounds: a file of a hundred bytes must not
fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from neurocompile.errors import NeurocompileError

__all__ = ["fold"]

LARGEST = 1 << 27
"""Elements that one folded constant may have."""
_SMALL = 64  # elements of an operand that may say how large the result is
_SHRINKING = frozenset({"Compress", "NonZero", "Unique"})
"""Operators whose result depends on the data, and is not larger than the operand (times its rank).
"""
_READ_IN_PART = frozenset({"Gather", "GatherND", "Slice"})
"""Operators that touch no more of an operand than their result holds: of tables of any size."""
_RANDOM = frozenset({"Bernoulli", "Multinomial"})


def fold(
    node: onnx.NodeProto,
    feeds: Mapping[str, np.ndarray],
    opsets: Sequence[onnx.OperatorSetIdProto],
    where: str,
) -> list[np.ndarray]:
    """The node's outputs; NC1009 for what is random, has a body, or is larger than :data:`LARGEST`
    elements.
    """
    if node.op_type in _RANDOM or node.op_type.startswith("Random"):
        raise NeurocompileError(
            "NC1009",
            f"{where}: draws random numbers: draw on the host, and give the model frames of spikes, (B, T, ...)",
        )
    has_body = any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
    if has_body or node.domain not in ("", "ai.onnx"):
        raise NeurocompileError(
            "NC1009",
            f"{where}: does not depend on the input, and is no plain function of constants",
        )
    if node.op_type in _VIEWS:
        return [_VIEWS[node.op_type](node, *(feeds[i] for i in node.input if i))]
    large = any(array.size > LARGEST for array in feeds.values())
    if large and node.op_type not in _READ_IN_PART:
        raise NeurocompileError(
            "NC1009", f"{where}: reads a constant of more than {LARGEST:,} elements"
        )
    _check_sizes(node, feeds, opsets, where)
    inputs = [onnx.ValueInfoProto(name=n) for n in feeds]
    outputs = [onnx.ValueInfoProto(name=n) for n in node.output if n]
    graph = helper.make_graph([node], "constant", inputs, outputs)
    model = helper.make_model(graph, opset_imports=_evaluable(node, opsets))
    with np.errstate(all="ignore"):  # what is read later is checked to be finite then
        return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, dict(feeds))]


_EVALUABLE = {"DequantizeLinear": 19, "QuantizeLinear": 19}
"""Versions of operators that onnx evaluates and before which it has none; their meaning is the same."""


def _evaluable(
    node: onnx.NodeProto, opsets: Sequence[onnx.OperatorSetIdProto]
) -> list[onnx.OperatorSetIdProto]:
    """``opsets``, where they are too old for an evaluation of ``node`` newer ones."""
    least = _EVALUABLE.get(node.op_type, 0)
    return [
        helper.make_opsetid(o.domain, max(o.version, least)) if o.domain in ("", "ai.onnx") else o
        for o in opsets
    ]


def _expand(_: onnx.NodeProto, array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(int(n) for n in shape)))


def _transpose(node: onnx.NodeProto, array: np.ndarray) -> np.ndarray:
    return array.transpose(next((tuple(a.ints) for a in node.attribute if a.name == "perm"), None))


_VIEWS: dict[str, Callable[..., np.ndarray]] = {"Expand": _expand, "Transpose": _transpose}
"""What takes no memory, of whatever size: a batch that is not known stands as a large number."""


def _check_sizes(
    node: onnx.NodeProto,
    feeds: Mapping[str, np.ndarray],
    opsets: Sequence[onnx.OperatorSetIdProto],
    where: str,
) -> None:
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    small = [
        numpy_helper.from_array(a, name)
        for name, a in feeds.items()
        if a.size <= _SMALL and a.dtype.kind != "O"
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in filter(None, node.output)]
    graph = helper.make_graph([node], "constant", inputs, outputs, initializer=small)
    model = helper.make_model(graph, opset_imports=opsets)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for value in inferred.graph.output:
        kind = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
        known = kind.HasField("shape") and min(dims, default=0) >= 0
        if not known and node.op_type not in _SHRINKING:
            raise NeurocompileError(
                "NC1009", f"{where}: the size of '{value.name}' does not follow from the constants"
            )
        if known and prod(dims) > LARGEST:
            raise NeurocompileError(
                "NC1009",
                f"{where}: '{value.name}' has {prod(dims):,} elements, at most {LARGEST:,} are folded",
            )
