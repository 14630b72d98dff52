"""Bring every LIF to one form: ``h = (1 - 1/tau) v + gain x + bias``, resting at 0.

``decay_input`` divides gain and bias by tau. A hard reset to ``v_reset`` becomes one to 0 by the
substitution ``v -> v - v_reset``, which lowers the threshold by as much. A soft reset (``v = h -
v_threshold s``) stays one; it rests at 0 already. An integrator in front of LIFs with hard reset
becomes their synaptic current.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.spiking_rules import IS_IMPORTED, NORMAL_LIF
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["NormalizeLIF"]


@dataclass(frozen=True)
class NormalizeLIF(SpikingPass):
    """Requires any float graph. Ensures the LIF rule of stage canonical; NC2001 for what has no
    such form.
    """

    name: ClassVar[str] = "normalize-lif"
    requires = (IS_IMPORTED,)
    ensures = (NORMAL_LIF,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
        currents = {
            n.name: n for n in graph.nodes if isinstance(n, s.Integrator) and _is_current(graph, n)
        }
        for old in graph.nodes:
            if old.name in currents:
                rewriter.forward(old, rewriter.resolve(old.inputs[0]))
                continue
            node = rewriter.resolved(old)
            if isinstance(node, s.LIF):
                node = _normalize(rewriter, node)
                if (current := currents.get(old.inputs[0])) is not None:
                    node = replace(node, current=current.decay)
            rewriter.emit(node)
        return rewriter.finish()


def _is_current(graph: s.SpikingGraph, node: s.Integrator) -> bool:
    """True for an integrator that only LIFs read whose synapses can integrate: Loihi's own current
    decays, and a hard reset leaves it.
    """
    return 0 < node.decay < 1 and all(
        isinstance(user, s.LIF) and not user.soft_reset and user.bias is None
        for user in graph.users[node.name]
    )


def _normalize(rewriter: Rewriter, node: s.LIF) -> s.LIF:
    rest = 0.0 if node.soft_reset else node.v_reset
    threshold = node.v_threshold - rest
    if threshold <= 0:
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' has threshold {node.v_threshold} <= reset {rest}: it always fires",
            layer=node.name,
        )
    divisor = (
        float(node.tau) if node.decay_input else 1.0
    )  # a tau for each channel divides no input
    if np.isinf(divisor):
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' divides its input by an infinite tau: it never fires",
            layer=node.name,
        )
    bias = node.bias
    if bias is not None and divisor != 1.0:
        bias = rewriter.tensor(
            f"{bias}.normal", np.asarray(rewriter.tensors[bias], np.float64) / divisor
        )
    return replace(
        node,
        v_threshold=threshold,
        v_reset=0.0,
        decay_input=False,
        gain=node.gain / divisor,
        bias=bias,
    )
