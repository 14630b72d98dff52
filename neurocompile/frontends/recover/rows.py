"""Which operators treat every row of axis 0 alone, so that T steps of B rows are one call on T B
rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from neurocompile.frontends.onnx.einsum import indices_of
from neurocompile.frontends.onnx.general import SOFT_TYPE
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.recover.graph import Graph, attributes_of

__all__ = ["UNDERSTOOD", "UnsuitableError", "constant_inputs"]


class UnsuitableError(Exception):
    """The operator mixes rows, or is not known not to; the text says why, ``advice`` what to do."""

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(why)
        self.advice = advice


_ELEMENTWISE = frozenset(
    "Abs Add And Cast CastLike Ceil Clip Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid "
    "HardSwish Identity LeakyRelu Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Selu "
    "Sigmoid Sign Softplus Sqrt Sub Sum Tanh Where Xor".split()
)
_FIRST_ONLY = frozenset(
    "AveragePool BatchNormalization Conv ConvTranspose GlobalAveragePool GlobalMaxPool InstanceNormalization MaxPool PRelu".split()
)
_WITH_AXES = frozenset(
    "ReduceMax ReduceMean ReduceMin ReduceSum ReduceL1 ReduceL2 ReduceProd ReduceSumSquare Squeeze Unsqueeze Slice "
    "Softmax LogSoftmax LayerNormalization Concat Gather Split ArgMax ArgMin".split()
)


def constant_inputs(
    node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int
) -> dict[int, np.ndarray]:
    """Constant operands that must change, by position, when the operands ``rows`` have ``steps``
    times the rows.

    Raises:
        UnsuitableError: the operator may mix rows.
    """
    kind = node.op_type
    if (kind, node.domain) == (SOFT_TYPE, DOMAIN):  # made of a count without memory
        return _first_only(node, rows, graph, steps)
    if node.domain not in ("", "ai.onnx"):
        raise UnsuitableError(f"operator {node.domain}::{kind} is not known")
    rule = _RULES.get(kind)
    found = None if rule is None else rule(node, rows, graph, steps)
    if found is None:
        raise UnsuitableError("it may mix steps or samples")
    return found


Changed = dict[int, np.ndarray]


def _first_only(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed:
    several = node.op_type == "Gemm" and _rows_of(node, 2, graph) > 1
    if rows != [0] or attributes_of(node).get("transA", 0) or several:
        raise UnsuitableError("its operands other than the first must be constants")
    return {}


def _product(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed:
    ranks = [graph.rank(i) for i in node.input]
    first, second = ranks[0], ranks[1]
    if rows == [0]:
        suits = first is not None and first >= 2 and second == 2
    else:
        suits = rows == [0, 1] and first == second and first is not None and first >= 3
    if not suits:
        raise UnsuitableError(f"a product of operands with {ranks} axes")
    return {}


def _flatten(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed | None:
    return {} if attributes_of(node).get("axis", 1) == 1 else None


def _transpose(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed | None:
    return {} if list(attributes_of(node).get("perm", (1,)))[0] == 0 else None


def _to_shape(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed | None:
    return {1: _target(node, graph, steps)} if rows == [0] else None


def _pad(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed | None:
    pads = graph.constants.get(node.input[1]) if rows == [0] and len(node.input) < 4 else None
    kept = pads is not None and pads[0] == 0 and pads[len(pads) // 2] == 0
    return {} if kept else None


def _rows_of(node: onnx.NodeProto, index: int, graph: Graph) -> int:
    """Rows of a constant operand as broadcast against two axes; 1 if there is none."""
    if index >= len(node.input) or not node.input[index]:
        return 1
    dims = (
        graph.shapes.get(node.input[index])
        or graph.constants.get(node.input[index], np.zeros((2, 1))).shape
    )
    return 1 if len(dims) < 2 else dims[0] or 2


def _elementwise(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed:
    ranks = {graph.rank(node.input[i]) for i in rows}
    if len(rows) > 1 and (None in ranks or len(ranks) > 1):
        raise UnsuitableError(f"operands with {sorted(map(str, ranks))} axes")
    (rank,) = ranks
    once: dict[int, np.ndarray] = {}
    for i, name in enumerate(node.input):
        if i in rows or not name:
            continue
        dims = graph.constants[name].shape if name in graph.constants else graph.shapes.get(name)
        if name in graph.constants and len(dims or ()) == rank and _repeats(graph.constants[name]):
            once[i] = graph.constants[name][:1]  # stored for each sample of the example
            continue
        if (
            dims is None
            or rank is not None
            and len(dims) > rank
            or len(dims) == rank
            and len(dims)
            and dims[0] != 1
        ):
            raise UnsuitableError(f"constant '{name}' {dims} differs between samples")
        if rank is None and len(dims):
            raise UnsuitableError("the number of its axes is not known")
    return once


def _repeats(array: np.ndarray) -> bool:
    return len(array) > 1 and bool((array == array[:1]).all())


def _einsum(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed:
    """Rows are an index that every operand with rows has first, the others not, and the result
    first.
    """
    ranks = [graph.rank(i) for i in node.input]
    if any(rank is None for rank in ranks):
        raise UnsuitableError(f"a product of operands with {ranks} axes")
    terms, result = indices_of(
        attributes_of(node)["equation"].decode(), [rank or 0 for rank in ranks]
    )
    first = result[:1]
    if not first or any(
        (term[:1] == first) != (i in rows) or first in term[1:] for i, term in enumerate(terms)
    ):
        raise UnsuitableError("the first index of its result is not the first of its operands")
    return {}


def _along(node: onnx.NodeProto, rows: list[int], graph: Graph, steps: int) -> Changed:
    """Operators with axes, none of which may be the first."""
    attributes = attributes_of(node)
    axes = attributes.get("axes")
    place = 3 if node.op_type == "Slice" else 1
    if axes is None and node.op_type in (
        "Concat",
        "Gather",
        "Split",
        "Softmax",
        "LogSoftmax",
        "LayerNormalization",
        "ArgMax",
        "ArgMin",
    ):
        axes = [
            attributes.get(
                "axis", 0 if node.op_type in ("Gather", "Split", "ArgMax", "ArgMin") else -1
            )
        ]
    elif axes is None and len(node.input) > place:
        found = graph.constants.get(node.input[place])
        axes = None if found is None else [int(a) for a in found.reshape(-1)]
    rank = graph.rank(node.input[rows[0]])
    if rank is None or not axes:
        raise UnsuitableError("its axes are not known")
    whole = rank + len(axes) if node.op_type == "Unsqueeze" else rank
    if any(a % whole == 0 for a in axes):
        raise UnsuitableError("it works along the first axis")
    if node.op_type == "Concat" and len(rows) != len(node.input):
        raise UnsuitableError("it joins a signal with a constant")
    return {}


def _target(node: onnx.NodeProto, graph: Graph, steps: int) -> np.ndarray:
    """The shape that Reshape or Expand aims at, with the rows left open."""
    name = node.input[1]
    target = list(graph.constants[name]) if name in graph.constants else graph.partial.get(name)
    if not target or any(n is None for n in target[1:]):
        raise UnsuitableError(
            "its target shape is not known",
            ". Export with a fixed batch, or with torch.onnx.export(..., dynamo=True)",
        )
    head, rest = target[0], [int(n) for n in target[1:] if n is not None]
    if node.op_type == "Expand":
        if len(target) != graph.rank(node.input[0]):
            raise UnsuitableError("it adds axes in front")
        return np.asarray([1, *rest], np.int64)
    if -1 in rest:
        if head is None:
            raise UnsuitableError("two lengths of its target shape are open")
        return np.asarray([int(head) * steps, *rest], np.int64)
    if (
        0 in rest
        and attributes_of(node).get("allowzero", 0) == 0
        and graph.rank(node.input[0]) is None
    ):
        raise UnsuitableError("its target shape copies unknown lengths")
    return np.asarray([-1, *rest], np.int64)


Rule = Callable[[onnx.NodeProto, list[int], Graph, int], "Changed | None"]
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys((*_FIRST_ONLY, "Gemm"), _first_only),
    **dict.fromkeys(_WITH_AXES, _along),
    "MatMul": _product,
    "Einsum": _einsum,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Reshape": _to_shape,
    "Expand": _to_shape,
    "Pad": _pad,
}
"""Operator -> (node, operands with rows, graph, steps) -> its constants that change; None where it
mixes rows."""
UNDERSTOOD = frozenset(_RULES)
"""Operators whose rows may be told apart in some form."""
