"""Spikes that feed back into a neuron with soft reset that drops low bits of its input.

The neuron's input passes a shift on its way, and what its own spikes bring does not: it would come
too late. It arrives shifted already, so its weights are multiples of what the shift drops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.state import Quantization

__all__ = ["feedback_layers", "on_shift"]


def feedback_layers(state: Quantization, lif: s.LIF) -> Iterator[s.Node]:
    """What brings the neuron's own spikes of the step before into the sums that it reads: linear
    layers, or the :class:`~neurocompile.ir.spiking.Previous` itself.
    """
    stack = [lif.x] if lif.name in state.graph.fed_back else []
    while stack:
        node = state.graph.node[stack.pop()]
        if isinstance(node, (s.Add, s.Rearrange)):
            stack += node.inputs
        elif isinstance(_source(state, node), s.Previous):
            yield node


def _source(state: Quantization, node: s.Node) -> s.Node:
    """What a linear layer reads, behind views; or the node itself."""
    while isinstance(node, (s.Conv2d, s.Linear, s.Rearrange)):
        node = state.graph.node[node.x]
    return node


def on_shift(state: Quantization, lif: s.LIF, shift: int) -> bool:
    """Round the weights that bring the neuron's own spikes to multiples of ``2^shift``; whether the
    bounds of sums may have changed.

    Raises NC2002 where that leaves nothing of them.
    """
    if lif.name in state.graph.fed_back and lif.x not in state.graph.node:  # a sum made coarser
        raise _left(lif)
    changed = False
    for layer in feedback_layers(state, lif) if shift else ():
        changed |= _rounded(state, lif, layer, shift)
    if changed:
        for node in state.rewriter.nodes:
            if node.inputs:
                state.track_bound(node)
    return changed


def _rounded(state: Quantization, lif: s.LIF, layer: s.Node, shift: int) -> bool:
    rewriter = state.rewriter
    place = next(k for k, n in enumerate(rewriter.nodes) if n.name == layer.name)
    node = rewriter.nodes[place]
    if not isinstance(node, (s.Conv2d, s.Linear)):
        raise _left(lif)
    weight = rewriter.tensors[node.weight].astype(np.int64)
    if not ((weight << max(node.exponent, 0)) % (1 << shift)).any():
        return False
    grid = 1 << (9 - state.options.weight_bits)  # of weights as they are stored
    exponent = max(shift + 1 - grid.bit_length(), node.exponent, 0)
    unit = grid << exponent
    levels = (1 << (state.options.weight_bits - 1)) - 1
    rounded = np.clip(np.rint((weight << node.exponent) / unit), -levels, levels)
    if weight.any() and not rounded.any():
        raise NeurocompileError(
            "NC2002",
            f"layer '{lif.name}': its recurrent weights are less than the unit of its membrane; use fewer steps",
            layer=lif.name,
        )
    stored = rewriter.tensor(f"{node.weight}.shifted", (grid * rounded).astype(np.int16))
    rewriter.nodes[place] = replace(node, weight=stored, exponent=exponent)
    return True


def _left(lif: s.LIF) -> NeurocompileError:
    return NeurocompileError(
        "NC2002",
        f"layer '{lif.name}' adds its own spikes to sums that leave their field; use fewer steps",
        layer=lif.name,
    )
