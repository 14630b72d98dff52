"""Bounds of the real values of a canonical float graph: what a quantizer must leave room for."""

from __future__ import annotations

from collections.abc import Mapping

from neurocompile.calibration import Calibration
from neurocompile.ir import spiking as s
from neurocompile.ir.bounds import intervals
from neurocompile.ir.interval import Interval
from neurocompile.ir.shapes import Shape

__all__ = ["magnitudes"]


def magnitudes(
    graph: s.SpikingGraph, size: Mapping[str, Shape], calibration: Calibration
) -> dict[str, float]:
    """Largest absolute value of every value, for inputs within the calibration's range and its
    number of steps."""
    bounds = Interval(calibration.input.min, calibration.input.max)
    found = intervals(graph, bounds, calibration.T, size)
    return {name: float(i.magnitude) for name, i in found.items() if i is not None}
