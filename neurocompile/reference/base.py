"""A float model that runs: what the imported graph and the quantized one are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Reference", "ReferenceRun"]


@dataclass(frozen=True)
class ReferenceRun:
    """``layers``: name -> uint8 spikes (samples, steps, *shape); ``logits``: the first output,
    (samples, ...), its mean over time if there is one a step; ``what`` ran.
    """

    what: str
    logits: np.ndarray
    layers: dict[str, np.ndarray]
    others: tuple[np.ndarray, ...] = ()
    """Further outputs, in the model's order."""

    @property
    def outputs(self) -> tuple[np.ndarray, ...]:
        """All of them."""
        return (self.logits, *self.others)


class Reference(Protocol):
    """What a front end read, in a runtime that is not ours."""

    def run(self, x: np.ndarray) -> ReferenceRun:
        """Run float32 ``x`` (samples, *input shape) for the steps that the model itself runs."""
        ...

    def original(self, x: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """All outputs of ``x`` before the front end rewrote anything; None if it rewrote nothing."""
        ...
