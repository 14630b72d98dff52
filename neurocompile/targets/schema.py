"""What a target file says: one chip or board as data. Every number carries its source and how well
it is known.

``source`` is a key of ``hw_targets/SOURCES.md``, or a sentence. ``status`` is one of ``published``
(the maker or a refereed paper says so), ``secondary`` (somebody else says so), ``derived`` (follows
from published numbers) and ``assumed`` (a stated guess). A constant that nobody published is
absent, never invented.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = [
    "RESOURCES",
    "BlockCost",
    "Core",
    "Count",
    "Delay",
    "Energy",
    "Flag",
    "Mesh",
    "Neuron",
    "Number",
    "Range",
    "Reset",
    "RowCost",
    "Size",
    "Slot",
    "Synapse",
    "Table",
    "Target",
    "Time",
]

Status = Literal["published", "secondary", "derived", "assumed"]
Text = Annotated[str, Meta(min_length=1, max_length=2000)]
Natural = Annotated[int, Meta(ge=0, le=1 << 40)]
Positive = Annotated[int, Meta(ge=1, le=1 << 40)]
Bounded = Annotated[int, Meta(ge=-(1 << 40), le=1 << 40)]
Bits = Annotated[int, Meta(ge=1, le=64)]

RESOURCES = (
    "axon_in",
    "neuron_groups",
    "neurons",
    "synaptic_memory_words",
    "axon_map",
    "axon_memory",
)
"""The resources of a core, in the column order of lava's "Per core utilization" table; on Loihi 2
their sum is limited too.
"""


class _Quantity(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    source: Text
    status: Status


class Count(_Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole number, at least 0."""

    value: Natural


class Size(_Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole number, at least 1: nothing runs on a core, a field or a mesh of size 0."""

    value: Positive


class Number(_Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A finite number, at least 0."""

    value: Annotated[float, Meta(ge=0)]

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError("the value is not finite")


class Flag(_Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Yes or no."""

    value: bool


class Range(_Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Smallest and largest value of a field, both included."""

    value: tuple[Bounded, Bounded]

    def __post_init__(self) -> None:
        if self.value[0] > self.value[1]:
            raise ValueError(f"the range {self.value[0]}..{self.value[1]} is empty")

    @property
    def low(self) -> int:
        """Smallest value."""
        return self.value[0]

    @property
    def high(self) -> int:
        """Largest value."""
        return self.value[1]


class Table(_Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bits that a weight of 1, 2, ... bits takes in memory."""

    value: Annotated[tuple[Bits, ...], Meta(min_length=1, max_length=64)]


class Slot(Struct, frozen=True):
    """The place of one core: chip, tile (column x, row y) on that chip, core of that tile."""

    chip: int
    x: int
    y: int
    core: int


class Mesh(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tiles of one chip, each with a router and some cores."""

    columns: Size
    rows: Size
    cores_per_tile: Size
    cores_usable: Size
    """Cores of one chip that networks may use: the first in row order of the tiles."""

    def __post_init__(self) -> None:
        cores = self.columns.value * self.rows.value * self.cores_per_tile.value
        if not 1 <= self.cores_usable.value <= cores <= 1 << 16:
            raise ValueError(
                f"cores_usable is {self.cores_usable.value}, the mesh has {cores} cores (at most 65,536)"
            )


class Core(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities of one core."""

    neurons: Size
    neuron_groups: Size
    """Sets of neuron parameters; a population takes one on each core where it has neurons."""
    shared_groups: Flag | None = None
    """Whether populations of equal parameters take one together; absent for no."""
    synaptic_memory_words: Size
    axon_in: Size
    """Entries of the input axon table."""
    axon_map: Size | None = None
    """Entries that lead from neurons to their output axons; absent where there is no such limit."""
    axon_memory: Size
    """Entries of output axon lists."""
    total: Size | None = None
    """Limit of the sum of all of the above; absent where there is none."""


class Neuron(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields of a neuron."""

    threshold: Range
    """Mantissa; the threshold is 2^6 times as large."""
    bias_mantissa: Range
    bias_exponent: Range
    voltage_decay: Range
    """4096ths of the voltage lost a step; a range up to 4095 includes all of it (4096)."""
    current_decay: Range
    state_bits: Size
    """Bits of current and voltage, sign included."""


class Synapse(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields of a synapse, and of the message that it weighs."""

    weight_bits: Range
    weight_exponent: Range
    payload_bits: Size
    """Bits of a graded message, sign included."""


class Delay(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delays on a projection, in steps from emission to arrival."""

    max_spike_delay: Size
    graded_delay: Flag
    """Whether graded messages may take more than one step."""


class Reset(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Periodic reset of neurons."""

    power_of_two: Flag
    """Whether the interval has to be a power of two."""


class _Cost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="model"):
    """What a projection takes of a core; the field ``model`` of the file chooses the kind.

    :mod:`neurocompile.mapping.cost` has the formulas, one class a kind.
    """

    word_bits: Size
    """Bits of a word of synaptic memory."""
    stored_weight_bits: Table
    """Bits that a weight of 1, 2, ... bits takes in memory."""


class RowCost(_Cost, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rows"):
    """Loihi 2: a row an input axon; convolutions store each kernel row once a core."""

    synapse_overhead_bits: Count
    """Bits beside the weight of each synapse of a dense or sparse row."""
    convolution_extra_neurons: Count
    """Neurons that a tile driven by a convolution takes beside its own."""


class BlockCost(_Cost, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="blocks"):
    """Loihi 1: an input axon's synapses lie in blocks with a header; nothing is shared between
    positions.
    """

    block_synapses: Size
    """Most synapses of a block."""
    header_bits: Count
    """Bits of a block's header."""
    index_bits: Count
    """Bits beside the weight of each synapse of a list that does not run through the tile (sparse,
    convolution).
    """


class Energy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Energies in pJ, of a target or of an energy profile. What nobody published stays empty; the
    user may supply it.
    """

    synaptic_operation: Number | None = None
    """Of any kind for which no kind of its own is given."""
    synaptic_operation_dense: Number | None = None
    synaptic_operation_sparse: Number | None = None
    synaptic_operation_convolution: Number | None = None
    ac: Number | None = None
    """Operation that a spike causes; instead of the above, never with them."""
    mac: Number | None = None
    """Operation that a graded message causes."""
    neuron_update_active: Number | None = None
    neuron_update_inactive: Number | None = None
    spike: Number | None = None
    """Message that a neuron makes, spike or graded."""
    packet: Number | None = None
    """Message to a core, the own one included."""
    packet_within_tile: Number | None = None
    """Packet that stays in its tile; one that leaves it pays hops."""
    hop_east_west: Number | None = None
    hop_north_south: Number | None = None
    chip_crossing: Number | None = None
    barrier: Number | None = None
    """One synchronization of the mesh."""

    def __post_init__(self) -> None:
        kinds = (
            "synaptic_operation",
            *(f"synaptic_operation_{k}" for k in ("dense", "sparse", "convolution")),
        )
        if any(getattr(self, k) for k in kinds) and (self.ac or self.mac):
            raise ValueError(
                "an operation would be priced twice: give synaptic_operation or ac and mac, not both"
            )


class Time(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Durations in ns, of one operation each, of a target or of an energy profile. What nobody
    published stays empty.
    """

    synaptic_operation: Number | None = None
    neuron_update_active: Number | None = None
    neuron_update_inactive: Number | None = None
    packet_within_tile: Number | None = None
    hop_east_west: Number | None = None
    hop_north_south: Number | None = None
    barrier_1_tile: Number | None = None
    """Of a mesh barrier over a single tile."""
    barrier_32_tiles: Number | None = None


class Target(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """A chip, or a board of equal chips."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,40}$")]
    description: Text
    chips: Size
    chip_columns: Size
    """Chips lie in rows of this many, their meshes joined at the edges."""
    chip_crossing: Count | None = None
    """What crossing from chip to chip costs a message, in tile hops beside the one of the step;
    absent for 0.
    """
    mesh: Mesh
    core: Core
    neuron: Neuron
    synapse: Synapse
    delay: Delay
    reset: Reset
    cost: RowCost | BlockCost
    energy: Energy = Energy()
    time: Time = Time()
    static_power: Number | None = None
    """mW a chip."""

    def __post_init__(self) -> None:
        if not 1 <= self.chip_columns.value <= self.chips.value <= 1 << 16:
            raise ValueError(
                f"chips is {self.chips.value:,} (of 1..65,536), chip_columns {self.chip_columns.value:,} (of 1..chips)"
            )
        low, high = self.synapse.weight_bits.value
        if low < 1 or high > len(self.cost.stored_weight_bits.value):
            entries = len(self.cost.stored_weight_bits.value)
            raise ValueError(
                f"weight_bits is {low}..{high}, cost.stored_weight_bits has entries for 1..{entries}"
            )

    @property
    def cores(self) -> int:
        """Usable cores of all chips."""
        return self.chips.value * self.mesh.cores_usable.value

    @cached_property
    def capacity(self) -> dict[str, int]:
        """Limit by resource (:data:`RESOURCES`, then ``total``), of those that the target limits."""
        limits = {name: getattr(self.core, name) for name in (*RESOURCES, "total")}
        return {name: limit.value for name, limit in limits.items() if limit is not None}

    @property
    def graded(self) -> bool:
        """Whether messages can carry values; otherwise they are spikes."""
        return self.synapse.payload_bits.value > 1

    def slot_order(self, limit: int) -> list[Slot]:
        """The first ``limit`` usable cores along a snake through the tiles of one chip after
        another.

        The chips follow a snake too. Neighbours in this order are on one tile or on neighbouring
        tiles of a chip, so it is a placement to start from.
        """
        mesh = self.mesh
        found: list[Slot] = []
        width, deep = mesh.columns.value, mesh.cores_per_tile.value
        for chip in self.chip_order():
            if len(found) >= limit:
                break
            for y in range(mesh.rows.value):
                for x in range(width) if y % 2 == 0 else reversed(range(width)):
                    free = min(deep, mesh.cores_usable.value - (y * width + x) * deep)
                    found += [Slot(chip, x, y, core) for core in range(free)]
        return found[:limit]

    def chip_order(self) -> list[int]:
        """The chips along a snake through the board."""
        columns, chips = self.chip_columns.value, range(self.chips.value)
        rows = [list(chips[i : i + columns]) for i in range(0, len(chips), columns)]
        return [
            chip for i, row in enumerate(rows) for chip in (row if i % 2 == 0 else reversed(row))
        ]

    def usable(self, slot: Slot) -> bool:
        """Whether ``slot`` names a core that networks may use."""
        mesh = self.mesh
        width, deep = mesh.columns.value, mesh.cores_per_tile.value
        inside = 0 <= slot.x < width and 0 <= slot.y < mesh.rows.value and 0 <= slot.core < deep
        index = (slot.y * width + slot.x) * deep + slot.core
        return inside and 0 <= slot.chip < self.chips.value and index < mesh.cores_usable.value

    def tile_position(self, slot: Slot) -> tuple[int, int]:
        """Column and row of the slot's tile on the joined mesh of all chips; hops are Manhattan
        distances on it.
        """
        row, column = divmod(slot.chip, self.chip_columns.value)
        return column * self.mesh.columns.value + slot.x, row * self.mesh.rows.value + slot.y
