"""The float model in onnxruntime, with every spiking layer's output: the file itself as reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.importer import ImportedModel
from neurocompile.frontends.onnx.load import LoadedModel
from neurocompile.frontends.onnx.values import samples_first
from neurocompile.frontends.recover.graph import captured
from neurocompile.ir.analysis import shapes
from neurocompile.ir.layout import Layout
from neurocompile.reference.base import ReferenceRun
from neurocompile.reference.isolated import isolated_session
from neurocompile.reference.large import split
from neurocompile.reference.runtime import runtime

__all__ = ["OnnxReference", "run_onnx", "run_original"]

_BATCH = 64


@dataclass(frozen=True)
class OnnxReference:
    """The file itself, as a :class:`~neurocompile.reference.base.Reference`."""

    loaded: LoadedModel
    imported: ImportedModel

    def run(self, x: np.ndarray) -> ReferenceRun:
        """:func:`run_onnx`."""
        return run_onnx(self.loaded, self.imported, x)

    def original(self, x: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """:func:`run_original`."""
        return run_original(self.loaded, self.imported, x)


def run_onnx(model: LoadedModel, imported: ImportedModel, x: np.ndarray) -> ReferenceRun:
    """Run ``x`` (samples, *the input's sample_shape) float32 at the T the file was exported with;
    outputs are means over time.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    shape = shapes(imported.graph)
    proto.graph.output.extend(onnx.ValueInfoProto(name=v) for v in imported.layer_values.values())
    layers = [(imported.layouts[name], shape[name]) for name in imported.layer_values]
    found = _placed(_run(proto, model, imported, x), [*imported.outputs, *layers])
    count = len(imported.outputs)
    logits, *others = (v.mean(axis=1) for v in found[:count])
    spikes = zip(imported.layer_values, found[count:])
    return ReferenceRun(
        f"onnxruntime {runtime().__version__} on the CPU, float32",
        logits,
        {name: np.ascontiguousarray(v, np.uint8) for name, v in spikes},
        tuple(others),
    )


def run_original(
    model: LoadedModel, imported: ImportedModel, x: np.ndarray
) -> tuple[np.ndarray, ...] | None:
    """Outputs of a file as it was before its neurons were recovered; None if it was not, or is no
    map of x to outputs.
    """
    if model.original is None or len(model.original.graph.input) != 1:
        return None
    original = onnx.ModelProto()
    original.CopyFrom(model.original)
    del original.graph.output[:]
    original.graph.output.extend(onnx.ValueInfoProto(name=o.name) for o in model.proto.graph.output)
    found = _placed(_run(original, model, imported, x), imported.outputs)
    return tuple(v.mean(axis=1) for v in found)


def _placed(parts: _Parts, places: Sequence[tuple[Layout, tuple[int, ...]]]) -> list[np.ndarray]:
    """What several calls gave, each output (samples, steps, *shape)."""
    return [
        np.concatenate([samples_first(p, *place)[:k] for p, k in zip(part, parts.counts)])
        for part, place in zip(parts.values, places)
    ]


@dataclass(frozen=True)
class _Parts:
    """What several calls gave: for each output one array a call, and the samples of each call that
    count.
    """

    values: list[list[np.ndarray]]
    counts: list[int]


def _live(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto``, which is a copy, with nothing but what its outputs need: what nobody reads may
    never end.
    """
    needed = {o.name for o in proto.graph.output}
    nodes = []
    for node in reversed(proto.graph.node):  # each behind what it reads, or the file was refused
        if needed.intersection(node.output):
            needed.update(node.input, captured(node))
            nodes.append(node)
    if len(nodes) < len(proto.graph.node):
        kept = [t for t in proto.graph.initializer if t.name in needed]
        del proto.graph.node[:], proto.graph.initializer[:]
        proto.graph.node.extend(reversed(nodes))
        proto.graph.initializer.extend(kept)
    return proto


def _run(
    proto: onnx.ModelProto, model: LoadedModel, imported: ImportedModel, x: np.ndarray
) -> _Parts:
    """Outputs of ``proto``; each sample in a call of its own if neurons run over samples there."""
    single, axis = bool(imported.leaking), int(imported.time_first)
    try:
        session = isolated_session(*split(_live(proto)))
        source = session.get_inputs()[0]
        fixed = source.shape[axis] if isinstance(source.shape[axis], int) else 0
        if single and fixed > 1:
            raise NeurocompileError(
                "NC1008",
                f"'{model.path}' has a fixed batch of {fixed}, and neurons that run over it: what they do to one "
                "sample alone cannot be compared; export it with a batch of 1, or a dynamic one",
            )
        batch, found, counts = fixed or (1 if single else _BATCH), [], []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            padded = (
                np.concatenate([part, np.zeros((batch - len(part), *x.shape[1:]), x.dtype)])
                if fixed
                else part
            )
            found.append(
                session.run(None, {source.name: np.ascontiguousarray(padded.swapaxes(0, axis))})
            )
            counts.append(len(part))
    except NeurocompileError as error:
        if error.code != "NC1024":
            raise
        raise NeurocompileError("NC1024", f"'{model.path}': {error.message}") from error
    except Exception as error:  # onnxruntime raises types of its own C++ part
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NeurocompileError(
            "NC1002", f"onnxruntime refuses '{model.path}': {reason[:200]}"
        ) from error
    return _Parts([list(column) for column in zip(*found)], counts)
