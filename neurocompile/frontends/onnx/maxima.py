"""The largest of several signals: of spikes, any that fires; of numbers of spikes and of currents, a
window over them, laid side by side.
"""

from __future__ import annotations

from typing import Any

import onnx

from neurocompile.frontends.onnx.bounds import bounds_of
from neurocompile.frontends.onnx.context import Importer, Rule
from neurocompile.frontends.onnx.joins import added, side_by_side
from neurocompile.frontends.onnx.pools import largest
from neurocompile.ir import spiking as s

__all__ = ["MAXIMUM_RULES"]


def _max(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Of spikes an OR: a neuron without memory that any of them makes fire."""
    operands = [im.traced.get(i) for i in node.input]
    signals = [x for x in operands if x is not None]
    found = [bounds_of(im, x.ref) for x in signals]
    constants = [im.constants[i] for i, x in zip(node.input, operands) if x is None]
    if len(signals) == 1 and all(
        b is not None and (value <= b[0]).all() for b in found for value in constants
    ):
        im.keep(node, signals[0])  # nothing is raised
        return
    if constants:
        raise im.error(
            "NC1009",
            "the largest of a signal and a number that it may be below; of signals it is supported",
        )
    if any(b is None or not b[2] or b[0] < 0 or b[1] > 1 for b in found):
        largest(im, node, side_by_side(im, node, signals), [len(signals[0].dims)], False)
        return
    wanted = node.name or node.output[0]
    total = signals[0]
    for x in signals[1:]:
        total = added(im, f"{wanted}.sum", total, x)
    ref = im.emit(
        s.LIF,
        wanted,
        im.shapes[total.ref],
        x=total.ref,
        tau=1.0,
        v_threshold=1.0,
        decay_input=False,
    )
    made = im.over(total, ref)
    im.layer_values[ref], im.layouts[ref] = node.output[0], made.layout
    im.keep(node, made)


MAXIMUM_RULES: dict[str, Rule] = {"Max": _max}
