"""What every node of a SpikingGraph is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from neurocompile.ir.text import Ref, TensorRef

__all__ = ["Node"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A layer; ``name`` is also the name of its output value."""

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
