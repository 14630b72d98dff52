"""Multiplications of the same network run once as an ordinary network, without spikes and time."""

from __future__ import annotations

from math import prod

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes

__all__ = ["MAC_PJ", "ann_macs"]

MAC_PJ = 4.6
"""32-bit float multiply and add in 45 nm: Horowitz, ISSCC 2014 (the convention of the
spiking-transformer papers).
"""


def ann_macs(graph: s.SpikingGraph) -> int:
    """Multiply-accumulates of one forward pass: convolutions (their padding included, as papers
    count), linear layers, matrix products, element-wise products."""
    size, total = shapes(graph), 0
    for node in graph.nodes:
        out = prod(size[node.name])
        if isinstance(node, (s.Conv2d, s.Linear)):
            total += out * prod(graph.tensors[node.weight].shape[1:])
        elif isinstance(node, s.MatMul):
            total += out * size[node.a][-1]
        elif isinstance(node, s.Mul):
            total += out
    return total
