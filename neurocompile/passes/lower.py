"""Lower a quantized SpikingGraph to populations and projections: the CircuitGraph, depths and
delays still open.

Linear layers, sums, gains and views become projections; only what must be a neuron becomes one. A
value that several layers read, or that a gate or pool needs, is relayed once. The rules by kind of
node lie in :mod:`neurocompile.passes.lowering`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import neurocompile.passes.lowering  # noqa: F401 (fills the table of rules)
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.circuit_rules import IS_UNSCHEDULED
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import IS_QUANTIZED
from neurocompile.passes.base import Pass
from neurocompile.passes.lowering.state import Lowering
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["Lower", "lower"]


def lower(
    graph: SpikingGraph, steps: int, weight_bits: int = 8, fields: ChipFields = LOIHI2
) -> CircuitGraph:
    """The circuit of a quantized ``graph`` for ``steps`` steps a sample; exact: the same integers
    at every layer.

    Raises NC2001 for a product of two graded signals, NC2013 for a kind of node without a rule.
    """
    return Lower(steps, weight_bits, fields)(graph)


@dataclass(frozen=True)
class Lower(Pass[SpikingGraph, CircuitGraph]):
    """Requires stage quantized. Ensures a circuit that :class:`Schedule` takes."""

    name: ClassVar[str] = "lower"
    takes = SpikingGraph
    requires = (IS_QUANTIZED,)
    ensures = (IS_UNSCHEDULED,)

    steps: int
    weight_bits: int = 8
    fields: ChipFields = LOIHI2
    """Of the chip whose synapses and neurons it is made for."""

    def apply(self, graph: SpikingGraph) -> CircuitGraph:
        graph = graph.live()
        lowering = Lowering(graph, self.weight_bits, self.steps, self.fields)
        for node in graph.nodes:
            lowering.lower(node)
        lowering.loops.check(lowering.builder)
        return lowering.builder.finish(graph.name, self.steps)
