"""Lower a quantized SpikingGraph to populations and projections: the CircuitGraph, depths and
delays still open.

Linear layers, sums, gains and views become projections; only what must be a neuron becomes one. A
value that several layers read, or that a gate or pool needs, is relayed once. The rules by kind of
node lie in :mod:`neurocompile.passes.lowering`.
"""

from __future__ import annotations

import neurocompile.passes.lowering  # noqa: F401 (fills the table of rules)
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.lowering.state import Lowering

__all__ = ["lower"]


def lower(graph: SpikingGraph, steps: int, weight_bits: int = 8) -> CircuitGraph:
    """The circuit of a quantized ``graph`` for ``steps`` steps a sample; exact: the same integers
    at every layer.

    Raises NC2001 for a product of two graded signals, NC2013 for a kind of node without a rule.
    """
    lowering = Lowering(graph, weight_bits, steps)
    for node in graph.nodes:
        lowering.lower(node)
    circuit = lowering.builder.finish(graph.name, steps)
    check_circuit(circuit, "lower")
    return circuit
