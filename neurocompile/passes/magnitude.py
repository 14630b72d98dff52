"""Bounds of the real values of a canonical float graph, by interval arithmetic: what a quantizer
must leave room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from neurocompile.calibration import Calibration
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.thresholds import grown

__all__ = ["magnitudes"]


def magnitudes(
    graph: s.SpikingGraph, size: Mapping[str, tuple[int, ...]], calibration: Calibration
) -> dict[str, float]:
    """Largest absolute value of every value, for inputs within the calibration's range."""
    found: dict[str, float] = {}
    for node in graph.nodes:
        x = [found[i] for i in node.inputs]
        if isinstance(node, s.Input):
            bound = max(abs(calibration.input.min), abs(calibration.input.max))
        elif isinstance(node, (s.Or, s.Softmax)):
            bound = 1.0
        elif isinstance(node, s.LIF):
            bound = float(node.levels)
        elif isinstance(node, s.Integrator):
            bound = grown(node.decay, calibration.T) * x[0]
        elif isinstance(node, s.MatMul) and isinstance(graph.node[node.a], s.Softmax):
            bound = x[1]  # rows of a softmax sum to 1
        elif isinstance(node, (s.Conv2d, s.Linear)):
            weight = np.abs(graph.tensors[node.weight])
            bound = (
                float(weight.reshape(len(weight), -1).sum(axis=1, dtype=np.float64).max()) * x[0]
            )
        elif isinstance(node, s.Add):
            bound = x[0] + x[1]
        elif isinstance(node, s.Mul):
            bound = x[0] * x[1]
        elif isinstance(node, s.MatMul):
            bound = size[node.a][-1] * x[0] * x[1]
        elif isinstance(node, s.Sum):
            bound = prod(size[node.x][i] for i in node.axes) * x[0]
        elif isinstance(node, s.SumPool2d):
            bound = prod(node.kernel) * x[0]
        elif isinstance(node, s.Offset):
            bound = x[0] + float(np.abs(graph.tensors[node.offset]).max(initial=0))
        else:  # views, maxima, means
            bound = x[0]
        found[node.name] = bound
    return found
