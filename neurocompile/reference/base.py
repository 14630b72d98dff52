"""What a run of the float model gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["ReferenceRun"]


@dataclass(frozen=True)
class ReferenceRun:
    """``layers``: name -> uint8 spikes (samples, steps, *shape); ``logits`` (samples, classes);
    ``what`` ran.
    """

    what: str
    logits: np.ndarray
    layers: dict[str, np.ndarray]
