"""Ranges of real values among the statistics of an exported file, so that it needs no data again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import onnx

from neurocompile.calibration import (
    CALIBRATION_KEY,
    calibrate_on,
    calibration_from_metadata,
    real_values,
)
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.importer import import_onnx
from neurocompile.frontends.onnx.load import load_onnx
from neurocompile.passes.canonicalize import canonicalize

__all__ = ["with_ranges"]

_REAL = {
    *("LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"),
    *("Softmax", "Exp", "Erf", "Gelu", "Sigmoid", "HardSwish", "Swish", "Tanh", "Softplus"),
    *("Sqrt", "Reciprocal", "Pow", "ReduceMax"),
}
"""Operators of ONNX that real operators are made of; without one nothing is imported again."""


def with_ranges(content: bytes, samples: np.ndarray) -> bytes:
    """The file ``content`` with the ranges of its real values on ``samples`` (N, *input shape) among
    its statistics; as it is where it has none, or cannot be imported, which a build says.
    """
    proto = onnx.load_from_string(content)
    nodes = [*proto.graph.node, *(n for f in proto.functions for n in f.node)]
    metadata = {p.key: p.value for p in proto.metadata_props}
    known = calibration_from_metadata(metadata)
    if known is None or not _REAL.intersection(n.op_type for n in nodes):
        return content
    with tempfile.TemporaryDirectory(prefix="neurocompile-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        try:
            graph = canonicalize(import_onnx(load_onnx(path), "model").graph)
        except NeurocompileError:
            return content
    if not real_values(graph):
        return content
    found = calibrate_on(graph, samples, known.T)
    stored = msgspec.structs.replace(known, values=found.values, spreads=found.spreads)
    text = msgspec.json.encode(stored).decode()
    onnx.helper.set_model_props(proto, {**metadata, CALIBRATION_KEY: text})
    return proto.SerializeToString(deterministic=True)
