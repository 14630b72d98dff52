"""The float model in onnxruntime, with every spiking layer's output: the file itself as reference."""

from __future__ import annotations

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx_import import ImportedModel
from neurocompile.frontends.onnx_load import LoadedModel
from neurocompile.reference.base import ReferenceRun

__all__ = ["run_onnx", "run_original"]

_BATCH = 64


def run_onnx(model: LoadedModel, imported: ImportedModel, x: np.ndarray) -> ReferenceRun:
    """Run ``x`` (samples, *input shape) float32 at the T the file was exported with."""
    import onnxruntime

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    values = list(imported.layer_values.values())
    proto.graph.output.extend(onnx.ValueInfoProto(name=v) for v in values)
    logits, *spikes = _run(proto, model, x)
    layers = {name: np.moveaxis(found, 0, 1) for name, found in zip(imported.layer_values, spikes)}
    return ReferenceRun(
        f"onnxruntime {onnxruntime.__version__} on the CPU, float32", logits,
        {name: np.ascontiguousarray(found, np.uint8) for name, found in layers.items()},
    )  # fmt: skip


def run_original(model: LoadedModel, x: np.ndarray) -> np.ndarray | None:
    """Output of a file as it was before its neurons were recovered; None if it was not, or is no map of x to logits."""
    if model.original is None or len(model.original.graph.output) != 1 or len(model.original.graph.input) != 1:
        return None
    return _run(model.original, model, x)[0]


def _run(proto: onnx.ModelProto, model: LoadedModel, x: np.ndarray) -> list[np.ndarray]:
    """Outputs of ``proto``, the first with samples on axis 0, the others (time, samples, ...)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        source = session.get_inputs()[0]
        fixed = source.shape[0] if isinstance(source.shape[0], int) else 0
        batch, parts = fixed or _BATCH, []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            padded = np.concatenate([part, np.zeros((batch - len(part), *x.shape[1:]), x.dtype)]) if fixed else part
            first, *rest = session.run(None, {source.name: padded})
            parts.append([first[: len(part)], *(found[:, : len(part)] for found in rest)])
    except Exception as error:  # onnxruntime raises types of its own C++ part
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NeurocompileError("NC1002", f"onnxruntime refuses '{model.path}': {reason[:200]}") from error
    return [np.concatenate(found, axis=min(i, 1)) for i, found in enumerate(zip(*parts))]
