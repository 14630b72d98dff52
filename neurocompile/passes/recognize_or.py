"""A LIF that any input makes fire keeps no state: it is an OR.

On integers x >= 0 without bias, ``gain * 1 >= v_threshold`` makes every x >= 1 fire from rest.
After a spike the membrane is 0 by the hard reset, and x = 0 leaves it 0, so it is 0 before every
step. QKFormer's token attention (threshold 0.5 on a sum of spikes) and SDSA of Spike-driven
Transformer are such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges
from neurocompile.ir.spiking_rules import IS_IMPORTED, NORMAL_LIF
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["RecognizeOr"]


@dataclass(frozen=True)
class RecognizeOr(SpikingPass):
    """Requires normal-form LIFs. Replaces stateless ones by Or."""

    name: ClassVar[str] = "recognize-or"
    requires = (IS_IMPORTED, NORMAL_LIF)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, bounds = Rewriter(graph), ranges(graph)
        for node in graph.nodes:
            if (
                isinstance(node, s.LIF)
                and node.bias is None
                and not (node.soft_reset or node.current)
            ):
                bound = bounds[node.x]
                if (
                    bound is not None
                    and bound.low >= 0
                    and np.float32(node.gain) >= np.float32(node.v_threshold)
                ):
                    node = s.Or(name=node.name, x=node.x)
            rewriter.emit(node)
        return rewriter.finish()
