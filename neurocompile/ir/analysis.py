"""Shapes and integer ranges of a SpikingGraph's values, which most passes ask for."""

from __future__ import annotations

from neurocompile.ir.bounds import Range, ranges
from neurocompile.ir.shapes import shapes

__all__ = ["Range", "ranges", "shapes"]
