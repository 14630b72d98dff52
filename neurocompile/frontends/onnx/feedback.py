"""Spikes that feed back into their own layer: the operator ``Previous``, and the layers that it is
of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx

from neurocompile.frontends.onnx.context import Importer, Traced
from neurocompile.frontends.onnx.general import PREVIOUS
from neurocompile.frontends.onnx.shapes import LARGEST_T
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Atom, Layout

__all__ = ["close_loops", "previous"]


def previous(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """The spikes of a neuron that comes later; :func:`close_loops` finds it by its name."""
    steps, shape = int(attributes.get("steps", 0)), tuple(map(int, attributes.get("shape", ())))
    of = attributes.get("of", b"").decode()
    if not 2 <= steps <= LARGEST_T or not shape or not of or im.exported_T not in (0, steps):
        raise im.error("NC1009", f"{steps} steps of shape {list(shape)} of the neuron '{of}'")
    im.exported_T = steps
    ref = im.emit(s.Previous, node.name or node.output[0], shape, of=of, shape=shape)
    lead = (Atom(steps, 1, "T"),), (Atom(im.batch, 1, "B"),)
    im.keep(node, Traced(ref, Layout((*lead, *Layout.contiguous(shape).dims))))


def close_loops(im: Importer) -> None:
    """Let each :class:`~neurocompile.ir.spiking.Previous` name its layer of the graph; NC1009 where
    that is not there, or has another shape.
    """
    for place, node in enumerate(im.nodes):
        if not isinstance(node, s.Previous):
            continue
        im.where = f"node '{node.name}' ({PREVIOUS})"
        ref = im.neurons.get(node.of)
        layer = None if ref is None else im.made(ref)
        if not isinstance(layer, s.LIF) or im.shapes[layer.name] != node.shape:
            raise im.error(
                "NC1009", f"no neuron '{node.of}' of shape {list(node.shape)} is in the file"
            )
        im.nodes[place] = replace(node, of=layer.name, levels=layer.levels)
