"""What every node of a SpikingGraph is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from neurocompile.ir.text import Ref, TensorRef

__all__ = ["FLOATING", "QUANTIZED", "STAGES", "Node"]

STAGES = ("imported", "canonical", "quantized")
FLOATING = ("imported", "canonical")
QUANTIZED = ("quantized",)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A layer; ``name`` is also the name of its output value."""

    stages: ClassVar[tuple[str, ...]] = STAGES
    """Of graphs that may have such nodes: every analysis of such a graph has a rule for them."""

    name: str

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """Values read."""
        return tuple(
            v
            for v in (getattr(self, f.name) for f in dataclasses.fields(self))
            if isinstance(v, Ref)
        )

    @property
    def tensors(self) -> tuple[TensorRef, ...]:
        """Tensors read."""
        return tuple(
            v
            for v in (getattr(self, f.name) for f in dataclasses.fields(self))
            if isinstance(v, TensorRef)
        )
