"""onnxruntime, with its telemetry off.

From 1.29 on its wheels for Linux queue events (names of graphs and producers, error messages)
below the user's home, on by default. A compiler of other people's models writes nothing of them
anywhere but where it was told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["open_session", "runtime"]

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


def open_session(proto: bytes) -> onnxruntime.InferenceSession:
    """A session of a serialized ONNX model on the CPU that prints no warnings; errors are
    onnxruntime's own.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(proto, options, ["CPUExecutionProvider"])
