"""The host part of a program: from the chip's last values, the *cut*, to what the model returns.

Behind its last neurons a model may hold what no neuron computes (an MLP with ReLU, LayerNorm,
softmax, weights of its own for each step), or return several tensors. The chip then gives every
value that is linear in its spikes, joined to one vector, and the host makes the outputs of them:
a small ONNX graph, which onnxruntime runs in float32.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.host.check import CUT, HostOutput, Interface, checked
from neurocompile.host.operators import HOST_LAYERS

if TYPE_CHECKING:
    from neurocompile.reference.runtime import Session

__all__ = ["HostPart"]

_BATCH = 64
_MOST_ELEMENTS = 1 << 24
"""Of the largest value of one call."""


@dataclass(frozen=True)
class HostPart:
    """A checked ONNX model from :data:`~neurocompile.host.check.CUT` to the outputs."""

    content: bytes
    """Serialized."""
    interface: Interface

    @classmethod
    def of(cls, content: bytes) -> HostPart:
        """ValueError where :func:`~neurocompile.host.check.checked` refuses ``content``."""
        return cls(content, checked(content))

    @property
    def stepwise(self) -> bool:
        """Whether the host reads the chip's values of every step, not their mean."""
        return self.interface.stepwise

    @property
    def outputs(self) -> tuple[HostOutput, ...]:
        """In the model's order."""
        return self.interface.outputs

    @property
    def main(self) -> str:
        """Name of the output that labels and predictions are about: the first that is classes, else
        the first.
        """
        classes = (o.name for o in self.outputs if len(o.shape) == 1 and o.shape[0] > 1)
        return next(classes, self.outputs[0].name)

    @cached_property
    def operators(self) -> dict[str, int]:
        """How often each of the model's operators occurs that computes something; empty if the
        host only takes the outputs apart.
        """
        nodes = [n for n in onnx.ModelProto.FromString(self.content).graph.node if n.name]
        return dict(sorted(Counter(n.op_type for n in nodes if n.op_type in HOST_LAYERS).items()))

    def __str__(self) -> str:
        """One line: what the host computes, and of how many values."""
        what = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in self.operators.items())
        of = "every step" if self.stepwise else "their mean over time"
        return (
            f"{what or 'takes the outputs apart'}; reads {self.interface.elements:,} values, {of}"
        )

    def check_steps(self, T: int) -> None:
        """NC1007 if what lies behind the neurons has weights of its own for each of other steps."""
        if self.interface.steps not in (0, T):
            raise NeurocompileError(
                "NC1007",
                f"T is {T}, and what the model computes behind its last neurons reads each of "
                f"{self.interface.steps} steps: leave T out, or export the model with {T} steps",
            )

    def run(self, cut: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Outputs float64 (samples, ...) by name, means over time of those that the model gives at
        every step; and these, (samples, T, ...).

        Args:
            cut: (samples, elements...), or (samples, T, elements...) if :attr:`stepwise`.
        """
        lead = 2 if self.stepwise else 1
        cut = np.ascontiguousarray(
            cut.reshape(*cut.shape[:lead], self.interface.elements), np.float32
        )
        values = self._values(cut)
        means = {o.name: v.mean(axis=1) if o.stepwise else v for o, v in zip(self.outputs, values)}
        return means, {o.name: v for o, v in zip(self.outputs, values) if o.stepwise}

    def _values(self, cut: np.ndarray) -> list[np.ndarray]:
        fixed = self.interface.batch
        batch = fixed or min(_BATCH, max(_MOST_ELEMENTS // self.interface.largest, 1))
        parts = []
        for start in range(0, max(len(cut), 1), batch):
            part = cut[start : start + batch]
            count = len(part)
            if fixed and count < fixed:
                part = np.concatenate([part, np.zeros((fixed - count, *cut.shape[1:]), cut.dtype)])
            try:
                found = self._session.run(None, {CUT: part})
            except Exception as error:  # onnxruntime raises types of its own C++ part
                raise NeurocompileError(
                    "NC5004", f"onnxruntime refuses the host part: {str(error)[:200]}"
                ) from error
            parts.append([np.asarray(v[:count], np.float64) for v in found])
        return [np.concatenate(column) for column in zip(*parts)]

    @cached_property
    def _session(self) -> Session:
        from neurocompile.reference.runtime import open_session

        try:
            return open_session(self.content)
        except Exception as error:
            raise NeurocompileError(
                "NC5004", f"onnxruntime refuses the host part: {str(error)[:200]}"
            ) from error
