"""ONNX models of one operator on rows of feature maps, for the tests of operands."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto
from onnx_cases import ints, lif, model, normal, op, timed

SHAPE = (4, 6, 6)
CONSTANTS = {
    "rows": ints(-1, *SHAPE),
    "k": normal(4, 4, 3, 3),
    "k1": normal(4, 4, 3),
    "b": normal(4, seed=1),
    "b5": normal(5, seed=1),
    "one": np.float32(1),
    "nan": np.full(4, np.nan, np.float32),
    "inf": np.float32(np.inf),
    "many": normal(2),
    "chosen": np.arange(6) > 2,
    "zeros": np.zeros(4, np.float32),
    "ones": np.ones(4, np.float32),
    "none_f": np.zeros(0, np.float32),
    "i0": ints(0),
    "i1": ints(1),
    "i2": ints(2),
    "i9": ints(9),
    "i12": ints(1, 2),
    "i15": ints(1, 5),
    "i02": ints(0, 2),
    "square": ints(0, 1).reshape(1, 2),
    "i9s": ints(0, 9).reshape(2, 1),
    "matrix": ints(0, 1, 2, 1, -1, 5).reshape(2, 3),
    "column": ints(3, 0, 3, 5).reshape(4, 1),
    "pads": ints(0, 0, 1, 1, 0, 0, 1, 1),
    "axes": ints(2),
    "grow": np.array([1, 1, 2, 2], np.float32),
    "huge": np.array([1, 1, 100, 1], np.float32),
    "tenth": np.array([1, 1, 0.1, 1], np.float32),
}


def map_of(
    nodes: list[NodeProto], out: tuple[int, ...] = SHAPE, T: int = 2, **more: np.ndarray
) -> ModelProto:
    """x (B, 4, 6, 6) over T steps as rows 'r'; ``nodes`` make 'c', which spikes 's' are made of."""
    back = [op("Reshape", "c cut", "c3"), lif("c3", "s")]
    body = [op("Reshape", "t rows", "r"), *nodes, *back]
    found, fixed = timed(SHAPE, [*body, op("ReduceMean", "s zero", "out", keepdims=0)], T)
    used = {i for node in found for i in node.input}
    constants = {**CONSTANTS, "cut": ints(T, -1, *out), **fixed, **more}
    return model(found, {k: v for k, v in constants.items() if k in used}, ("batch", *SHAPE))


def node(kind: str, inputs: str, **attributes: object) -> list[NodeProto]:
    """One node that makes 'c'; ``-`` is an input that is left out."""
    made = op(kind, inputs, "c", **attributes)
    made.input[:] = ["" if i == "-" else i for i in made.input]
    return [made]
