"""Where a sample comes in and its logits go out."""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.errors import NeurocompileError
from neurocompile.ir.nodes.base import Node
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["Input", "Output"]


@dataclass(frozen=True, kw_only=True)
class Input(Node):
    """The model's input, the same in every step or, such as frames of events, one value a step.

    Quantized: ``x_int = clip(rint(x / unit), low, high)``.
    """

    shape: tuple[int, ...]
    """In one step."""
    unit: float = 0.0
    low: int = 0
    high: int = 0
    steps: int = 0
    """Steps that a sample brings, the only T that the model runs at; 0 if it is the same in every
    step of any T.
    """

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample: (steps, *shape) if it brings its steps."""
        return (self.steps, *self.shape) if self.steps else self.shape

    def check_steps(self, T: int) -> None:
        """NC1021 if a sample has another number of steps than ``T``."""
        if self.steps and T != self.steps:
            raise NeurocompileError(
                "NC1021",
                f"T is {T}, and a sample of input '{self.name}' brings {self.steps} steps of its own, "
                f"{list(self.sample_shape)}: build it with T = {self.steps}, or export the model with {T} frames a sample",
            )


@dataclass(frozen=True, kw_only=True)
class Output(Node):
    """The logits ``unit * (x + bias)``; canonical and quantized graphs: of a TimeMean.

    ``per_step``: the model gives one set of logits a step. Their mean over time is the value of
        this node all the same.
    """

    x: Ref
    unit: float = 1.0
    bias: TensorRef | None = None
    per_step: bool = False
    shape: tuple[int, ...] | None = None
    """Of the logits, where it is not that of x, whose elements they are; one number is ()."""
