"""What lowering knows while it goes through a graph, and the table of its rules.

A rule takes a node and gives the :class:`Signal` of its value. Rules of one idea lie in one file
beside this one; a kind of another package registers its own in :data:`LOWERINGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurocompile.circuits.builder import Builder, Drive, Signal, channels_last, compact
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges
from neurocompile.ir.layout import Layout
from neurocompile.ir.tables import KindTable
from neurocompile.passes.lowering.feedback import Feedback
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["LOWERINGS", "SPIKING", "Lowering", "laid_out"]

LOWERINGS: KindTable[Callable[[Any, Any], Signal]] = KindTable(
    "lower", ("quantized",), "which neurons and connections it becomes"
)
"""(lowering, node) -> the signal of its value."""
SPIKING = (s.IntegerLIF, s.SoftIntegerLIF, s.Or)
"""Kinds whose value is spikes that parity compares."""


class Lowering:
    """One walk through a quantized graph."""

    def __init__(
        self, graph: s.SpikingGraph, weight_bits: int, steps: int, fields: ChipFields = LOIHI2
    ) -> None:
        self.graph, self.weight_bits, self.steps = graph, weight_bits, steps
        self.builder = Builder(fields)
        self.signals: dict[str, Signal] = {}
        """Of the values so far."""
        self.digits: dict[tuple[str, int, bool], list[str]] = {}
        """Spikes of the digits of a population, by it, their number and whether it is signed."""
        self.loops = Feedback()
        """Of spikes that feed back."""
        self.ranges = ranges(graph)

    def lower(self, node: s.Node) -> None:
        """Lower one node, whose inputs are lowered."""
        try:
            signal = LOWERINGS.of(node)(self, node)
        except ValueError as error:  # layouts that do not nest
            raise NeurocompileError(
                "NC2001", f"layer '{node.name}' ({type(node).__name__}): {error}", layer=node.name
            ) from error
        if isinstance(node, s.Add) and len(self.graph.users[node.name]) > 1:
            signal = self.builder.relay(signal, node.name, self.layer(node))
        if isinstance(node, SPIKING):
            self.builder.view(node.name, signal)
        self.signals[node.name] = signal

    def layer(self, node: s.Node) -> str:
        """:meth:`SpikingGraph.layer_of`."""
        return self.graph.layer_of(node)

    def range(self, name: str) -> Range:
        """Of an integer value."""
        found = self.ranges[name]
        assert found is not None
        return found

    def population(self, node: s.Node, name: str) -> Signal:
        """Value ``name``, which ``node`` reads, as a population."""
        relayed = self.builder.relay(self.signals[name], name, self.layer(self.graph.node[name]))
        self.signals[name] = relayed
        return relayed

    def feature_map(self, node: s.Node, name: str) -> str:
        """Value ``name`` as an (H, W, C) population: relayed into that order where it lies
        otherwise.
        """
        signal = self.population(node, name)
        assert isinstance(signal.base, str)
        layout = channels_last(signal.shape)
        shape = (*signal.shape[1:], signal.shape[0])
        if (
            signal.layout.simplified() == layout.simplified()
            and self.builder.shape(signal.base) == shape
        ):
            return signal.base
        relay = self.builder.population(c.GradedRelay, f"{name}.hwc", shape, self.layer(node))
        self.builder.drive(relay, self.builder.carry(signal, layout))
        return relay

    def neuron_shape(self, drive: Drive, layout: Layout) -> tuple[int, ...]:
        """(H, W, C) where the drive's array is such a feature map, its own shape otherwise."""
        shape = layout.shape
        if any(isinstance(p, c.Conv2d) for p in drive.projections):
            return drive.shape
        if len(shape) == 3 and layout.simplified() == channels_last(shape).simplified():
            return (*shape[1:], shape[0])
        return drive.shape

    def as_drive(self, signal: Signal) -> Signal:
        """``signal`` as the input of a neuron of its own."""
        if isinstance(signal.base, Drive):
            return signal
        shape, layout = compact(signal.layout)
        if signal.layout == layout:
            shape = self.builder.shape(signal.base)
        return Signal(Drive(shape, self.builder.carry(signal, layout)), layout)


def laid_out(bias: np.ndarray, layout: Layout, shape: tuple[int, ...]) -> np.ndarray:
    """``bias``, which broadcasts against the logical shape, as an array that broadcasts against
    ``shape``.
    """
    lies = (
        len(layout.shape) == 3 and layout.simplified() == channels_last(layout.shape).simplified()
    )
    if (
        lies
        and bias.ndim == 3
        and bias.shape[1:] == (1, 1)
        and shape == (*layout.shape[1:], layout.shape[0])
    ):
        return np.ascontiguousarray(bias[:, 0, 0])
    full = np.empty(int(np.prod(shape)), bias.dtype)
    full[layout.indices()] = np.broadcast_to(bias, layout.shape)
    return full.reshape(shape)
