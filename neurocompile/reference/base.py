"""A float model that runs: what the imported graph and the quantized one are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Reference", "ReferenceRun"]


@dataclass(frozen=True)
class ReferenceRun:
    """``layers``: name -> uint8 spikes (samples, steps, *shape); ``logits`` (samples, classes);
    ``what`` ran.
    """

    what: str
    logits: np.ndarray
    layers: dict[str, np.ndarray]


class Reference(Protocol):
    """What a front end read, in a runtime that is not ours."""

    def run(self, x: np.ndarray) -> ReferenceRun:
        """Run float32 ``x`` (samples, *input shape) for the steps that the model itself runs."""
        ...

    def original(self, x: np.ndarray) -> np.ndarray | None:
        """Logits of ``x`` before the front end rewrote anything; None if it rewrote nothing."""
        ...
