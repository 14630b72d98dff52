"""The tables of one core, and of the host.

A core has *groups* of neurons (tiles), *ports* (a projection into a tile), *axons* (a row of synapses
of a port each) and *output lists*. A message is ``(core, axon, channel, payload)``: it names the first
of a chain of axons that its neuron has on that core (``axon_next``), so that one message serves all
ports there, as the traffic model counts it. Towards a convolution on Loihi 2 a position stands for
its channels: its axon has the message's channel choose the row of the kernel.

Every table is an array of whole numbers; what they mean is docs/core_images.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

__all__ = [
    "ALL_CHANNELS",
    "DENSE",
    "GROUP_FIELDS",
    "HOST_CORE",
    "KERNEL",
    "KINDS",
    "NO_AXON",
    "PORT_FIELDS",
    "SPARSE",
    "CoreImage",
    "HostImage",
    "Outputs",
    "columns",
]

KINDS = ("LIF", "GradedRelay", "GradedRelu")
"""Neuron kinds, by their number in the table of groups."""
DENSE, SPARSE, KERNEL = range(3)
"""Kinds of ports."""
HOST_CORE = -1
"""Destination of what the host reads."""
NO_AXON = -1
"""End of a chain of axons."""
ALL_CHANNELS = -1
"""Channel set of an entry that takes them all."""

GROUP_FIELDS = (
    "population",  # index into the table of populations
    "kind",  # index into KINDS
    "first",  # neuron of the core
    "count",
    "extra",  # neurons that the group takes beside its own (a convolution's, on Loihi 2)
    "vth",
    "dv",
    "du",
    "bias_exp",
    "has_bias",
    "reset_interval",  # steps; 0 for none
    "reset_phase",  # global step, modulo the interval, before which it is reset
    "by_neuron",  # 1 if the output map has an entry a neuron
    "by_position",  # 1 if it has one a position
)
PORT_FIELDS = (
    "kind",
    "group",  # index into the table of groups
    "projection",  # index into the table of projections
    "delay",  # steps
    "weight_exp",  # -7..7
    "weight_bits",
    "axon",  # first axon
    "axons",
    "rows",  # SPARSE: first of its row ends; KERNEL: first of its positions
    "weights",  # first weight
    "synapses",  # SPARSE: first of its targets
    "shared",  # SPARSE: 1 if one weight serves all
    "positional",  # 1 if its axons stand for positions
    "group_inputs",  # KERNEL: input channels of a group
    "first_group",  # KERNEL: of those that the tile touches
    "groups",
    "group_outputs",  # KERNEL: output channels of a group, in the whole population
    "height",  # KERNEL: of the kernel
    "width",
    "stride_y",
    "stride_x",
    "padding_y",
    "padding_x",
    "dilation_y",
    "dilation_x",
)
"""Columns of a core's two tables."""


def columns(names: tuple[str, ...]) -> dict[str, int]:
    """Name -> column."""
    return {name: i for i, name in enumerate(names)}


def _none(dtype: type = np.int32) -> np.ndarray:
    return np.zeros(0, dtype)


@dataclass(frozen=True)
class Outputs:
    """Output lists of one core, or of the host.

    ``map_ends`` int64 (map entries): where each one's list ends; neurons of groups by neuron first,
    then positions of groups by position, both in the order of the groups.
    """

    map_ends: np.ndarray = field(default_factory=lambda: _none(np.int64))
    entry_core: np.ndarray = field(default_factory=_none)
    """int32 (entries): destination core, :data:`HOST_CORE` for the host."""
    entry_axon: np.ndarray = field(default_factory=_none)
    """int32 (entries): first axon there; :data:`NO_AXON` for the host."""
    entry_set: np.ndarray = field(default_factory=_none)
    """int32 (entries): channels that are sent, a row of ``channel_sets`` or :data:`ALL_CHANNELS`."""
    channel_sets: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    """uint8 (sets, channels)."""


@dataclass(frozen=True)
class CoreImage:
    """One core. Group and port tables are int64 (rows, columns of GROUP_FIELDS or PORT_FIELDS)."""

    place: np.ndarray
    """int64 (4): chip, column and row of the tile, core of the tile."""
    groups: np.ndarray
    boxes: np.ndarray
    """int64 (groups, 2, axes): first and last + 1 index of each group in its population's array; axes
    that it lacks are 0..1 in front."""
    bias: np.ndarray
    """int16 (neurons): mantissas."""
    ports: np.ndarray
    axon_next: np.ndarray
    """int32 (axons): next axon of the chain."""
    row_ends: np.ndarray
    """int64: SPARSE: end of each axon's row, from the port's ``synapses`` on."""
    positions: np.ndarray
    """int32 (positions, 2): KERNEL: row and column of each axon in the source's array."""
    targets: np.ndarray
    """int32: neuron of the group of each synapse in a sparse row."""
    weights: np.ndarray
    """int16: DENSE (axons, neurons of the group); SPARSE one a synapse, or one; KERNEL for each
    channel group that is touched (input channels, height, width, its output channels here)."""
    outputs: Outputs = field(default_factory=Outputs)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array, those of the output lists included."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "outputs"}
        return own | {f.name: getattr(self.outputs, f.name) for f in fields(Outputs)}

    @property
    def neurons(self) -> int:
        """Of all groups, without what groups take beside their own."""
        return len(self.bias)


@dataclass(frozen=True)
class HostImage:
    """What the host sends: populations in the order of the circuit, and to whom.

    ``outputs.map_ends`` has an entry a neuron and an entry a position as a core's has.
    """

    populations: np.ndarray
    """int64 (inputs): index into the table of populations."""
    by_neuron: np.ndarray
    """uint8 (inputs)."""
    by_position: np.ndarray
    """uint8 (inputs)."""
    outputs: Outputs
