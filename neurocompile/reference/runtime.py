"""onnxruntime, with its telemetry off.

From 1.29 on its wheels for Linux queue events (names of graphs and producers, error messages)
below the user's home, on by default. A compiler of other people's models writes nothing of them
anywhere but where it was told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PREVIOUS", "LoopSession", "Session", "open_session", "runtime"]


class Session(Protocol):
    """What sessions share, onnxruntime's own and ours."""

    def get_inputs(self) -> list[Any]: ...

    def get_outputs(self) -> list[Any]: ...

    def run(self, names: Any, feeds: dict[str, np.ndarray]) -> list[Any]:
        """All outputs, or those of ``names``."""


PREVIOUS = "Previous"
"""Operator of ``ai.neurocompile`` that stands for what a neuron sent one step before."""

_SWITCH = "ORT_DISABLE_TELEMETRY"


def runtime() -> Any:
    """The module onnxruntime. Its telemetry is off: by the environment if we import it, by its
    own call if someone did before.
    """
    os.environ[_SWITCH] = "1"
    import onnxruntime

    disable = getattr(onnxruntime, "disable_telemetry_events", None)
    if disable is not None:
        disable()
    return onnxruntime


def open_session(proto: bytes, weights: Mapping[str, np.ndarray] | None = None) -> Session:
    """A session of a serialized ONNX model on the CPU that prints no warnings; errors are
    onnxruntime's own.

    Args:
        weights: of a model above 2 GB, its large tensors (:func:`neurocompile.reference.large.split`).

    Where neurons of the model feed their spikes back (``ai.neurocompile::Previous``), calls go
    through that loop.
    """
    if PREVIOUS.encode() in proto:
        model = onnx.ModelProto.FromString(proto)
        if any(n.op_type == PREVIOUS and n.domain == "ai.neurocompile" for n in model.graph.node):
            return LoopSession(model, weights)
    return _open(proto, weights)


def _open(proto: bytes, weights: Mapping[str, np.ndarray] | None) -> onnxruntime.InferenceSession:
    ort = runtime()
    options = ort.SessionOptions()
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(w) for w in weights.values()]
        options.add_external_initializers(list(weights), values)
    options.log_severity_level = 3
    return ort.InferenceSession(proto, options, ["CPUExecutionProvider"])


class LoopSession:
    """A session of a model whose neurons feed their spikes back, of the interface of onnxruntime's.

    Spikes of the step before are one more input, zeros at first. Step t of a layer depends on its
    spikes of earlier steps alone: each call with the spikes that came out of the one before makes one more step
    right, and the first that changes nothing is the answer.
    """

    def __init__(
        self, model: onnx.ModelProto, weights: Mapping[str, np.ndarray] | None = None
    ) -> None:
        graph, neurons = model.graph, {n.name: n.output[0] for n in model.graph.node if n.output}
        self._outputs = len(graph.output)
        self._loops: list[tuple[str, str, int, tuple[int, ...]]] = []
        kept = []
        for node in graph.node:
            if node.op_type != PREVIOUS:
                kept.append(node)
                continue
            fields = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            steps, shape = fields["steps"], tuple(fields["shape"])
            name, of = node.output[0], neurons[fields["of"].decode()]
            kind = onnx.TensorProto.FLOAT
            info = onnx.helper.make_tensor_value_info(name, kind, [steps, None, *shape])
            graph.input.append(info)
            self._loops.append((name, of, steps, shape))
        del graph.node[:]
        graph.node.extend(kept)
        known = {o.name for o in graph.output}
        for of in dict.fromkeys(of for _, of, _, _ in self._loops):
            if of not in known:
                graph.output.append(onnx.ValueInfoProto(name=of))
        self._session = _open(model.SerializeToString(), weights)

    def get_inputs(self) -> list[Any]:
        """Of the model itself."""
        fed = {name for name, _, _, _ in self._loops}
        return [i for i in self._session.get_inputs() if i.name not in fed]

    def get_outputs(self) -> list[Any]:
        """Of the model itself."""
        return self._session.get_outputs()[: self._outputs]

    def run(self, names: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs, or those of ``names``; ``feeds`` has the one input."""
        (x,) = feeds.values()
        sizes = self.get_inputs()[0].shape
        frames = len(sizes) > 1 and isinstance(sizes[0], int) and not isinstance(sizes[1], int)
        batch = x.shape[int(frames)]  # behind the steps that samples bring
        back = {
            name: np.zeros((steps, batch, *shape), np.float32)
            for name, _, steps, shape in self._loops
        }
        outputs = [o.name for o in self._session.get_outputs()]
        for _ in range(max(steps for _, _, steps, _ in self._loops) + 1):
            found = dict(zip(outputs, self._session.run(None, {**feeds, **back})))
            after = {name: _one_later(found[of]) for name, of, _, _ in self._loops}
            if all(np.array_equal(after[name], back[name]) for name in back):
                return [found[name] for name in names or outputs[: self._outputs]]
            back = after
        raise NeurocompileError(
            "NC1009",
            f"the spikes of '{self._loops[0][1]}' feed back through what reads later steps",
        )


def _one_later(spikes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(spikes[:1]), spikes[:-1]])
