"""Spikes that feed back into their own layer, as recurrent projections.

The layer's population does not exist yet where its spikes of the step before are read. A stand-in
takes its place there, and gives its projections to the layer when that is lowered: then they are
*recurrent*, one step within one depth. Nothing can stand between: what would be a neuron of its own
takes a step, and none is left (a spike of step t arrives at step t + 1 in the depth that it left).
"""

from __future__ import annotations

from dataclasses import replace

from neurocompile.circuits.builder import Builder, Drive, Signal, channels_last
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref

__all__ = ["Feedback", "recurrent"]


def recurrent(back: tuple[c.Projection, ...], source: str) -> tuple[c.Projection, ...]:
    """The projections ``back`` of a stand-in, from the layer's own population."""
    return tuple(replace(p, src=Ref(source), recurrent=True) for p in back)


class Feedback:
    """The stand-ins of one circuit."""

    def __init__(self) -> None:
        self._layer: dict[str, tuple[str, Layout]] = {}

    def open(self, builder: Builder, node: s.Previous) -> Signal:
        """The stand-in for ``node``, which lies as its layer will: feature maps with channels last, a
        vector as a map of one pixel.
        """
        shape: tuple[int, ...]
        if len(node.shape) == 3:
            shape, layout = (*node.shape[1:], node.shape[0]), channels_last(node.shape)
        elif len(node.shape) == 1:
            shape, layout = (1, 1, *node.shape), Layout.contiguous(node.shape)
        else:
            shape, layout = node.shape, Layout.contiguous(node.shape)
        name = builder.population(c.LIF, node.name, shape, node.of, vth=0)
        self._layer[name] = node.of, layout
        return Signal(name, layout)

    def joins(self, *drives: Drive) -> bool:
        """True if one of the drives comes from a stand-in."""
        return any(p.src in self._layer for drive in drives for p in drive.projections)

    def split(
        self, name: str, drive: Drive, layout: Layout
    ) -> tuple[Drive, tuple[c.Projection, ...]]:
        """``drive`` of the layer ``name``, which lies as ``layout`` says, without and with what its
        own spikes bring; NC2001 where these would arrive elsewhere than they left.
        """
        back = tuple(p for p in drive.projections if p.src in self._layer)
        for p in back:
            layer, lies = self._layer[p.src]
            if layer != name or lies.simplified() != layout.simplified():
                raise NeurocompileError(
                    "NC2001",
                    f"layer '{name}' reads the spikes of '{layer}' one step later; only a layer's own spikes, "
                    "as they lie, feed back",
                    layer=name,
                )
        return replace(
            drive, projections=tuple(p for p in drive.projections if p not in back)
        ), back

    def refuse_parts(self, name: str, back: tuple[c.Projection, ...]) -> None:
        """NC2001 for a layer of several populations."""
        if back:
            raise NeurocompileError(
                "NC2001",
                f"layer '{name}' feeds its spikes back and has a threshold or leak for each channel; one for all "
                "channels of a recurrent layer is supported",
                layer=name,
            )

    def check(self, builder: Builder) -> None:
        """Remove the stand-ins; NC2001 if something but their layers reads one."""
        for q in builder.projections:
            if q.src in self._layer:
                raise NeurocompileError(
                    "NC2001",
                    f"the spikes of layer '{self._layer[q.src][0]}' feed back through '{q.dst}', a neuron of its own, "
                    "which takes a step more; linear layers and sums, straight into the layer, are supported",
                    layer=self._layer[q.src][0],
                )
        builder.populations[:] = [p for p in builder.populations if p.name not in self._layer]
