"""What connections take of a core, by the kind of ``cost`` in the target's file: the one place
where chips differ.

``rows`` (:class:`~neurocompile.targets.schema.RowCost`): Intel's Loihi 2 compiler, recovered from
published utilization tables (key ``lava-utilization-tables`` of ``hw_targets/SOURCES.md``). With
words of 64 bits:

- Dense: an input axon for each source neuron, ``row(n) = floor(n * (bits + 12) / 64) + 1`` words
  each.
- Strided: an axon for each source neuron that reaches the tile, row(its fan-out into the tile) each
  (assumed: sparse as dense).
- Conv2d: an axon for each input position (assumed: tables show 2 for every tile, as the channels of
  a position share one; one a position is the cautious reading), ``C_in / groups * kH * kW *
  (floor(channels * bits / 64) + 1)`` words for each group that the tile's channels touch
  (tentative; grouped: assumed), and one more neuron for the tile.
- Output lists hold an entry for each destination core of neurons with several (derived: tables show
  0 for a single one); towards Conv2d a position stands for its neurons.

``blocks`` (:class:`~neurocompile.targets.schema.BlockCost`): Loihi 1 (keys ``davies2018``,
``nengo-loihi-nxsdk-threads``):

- Every source neuron that reaches the tile has an input axon; its n synapses lie in blocks of at
  most 64, a block of m synapses takes ``ceil((64 + m * bits) / 64)`` words. Synapses that do not
  run through the tile carry an address each.
- Kernels of a convolution are not shared between positions (assumed: the cautious reading).
- Output lists hold an entry for each destination core of every neuron.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neurocompile.targets.schema import BlockCost, RowCost, Target

__all__ = [
    "Blocks",
    "ConnectionCost",
    "Field",
    "Rows",
    "block_list",
    "connection_cost",
    "convolution_row",
    "row",
]

Fans = Mapping[int, int]
"""Synapses of a source neuron into a tile -> number of source neurons with that many."""


@dataclass(frozen=True)
class Field:
    """What a tile sees of a convolution's input."""

    rows: np.ndarray
    """How often each input row is read by the tile's rows, over the kernel; only rows that are
    read: int64.
    """
    columns: np.ndarray
    """The same of columns."""
    kernel: int
    """Weights of a channel pair, kH * kW."""
    group_inputs: int
    """Input channels of a group."""
    group_outputs: tuple[int, ...]
    """The tile's channels of each group that it touches."""


class ConnectionCost(Protocol):
    """Cost of connections on one core."""

    @property
    def extra_neurons(self) -> int:
        """Neurons that a convolution adds to a tile."""
        ...

    @property
    def positional(self) -> bool:
        """Whether a position stands for its channels on the way to a convolution."""
        ...

    @property
    def least_listed(self) -> int:
        """Destination cores from which on a neuron's are listed in the axon memory."""
        ...

    def dense(self, inputs: int, neurons: int, bits: int) -> tuple[int, int]:
        """Input axons and words of ``inputs`` x ``neurons`` weights."""
        ...

    def sparse(self, fans: Fans, bits: int) -> tuple[int, int]:
        """Input axons and words of a strided pattern."""
        ...

    def convolution(self, field: Field, bits: int) -> tuple[int, int]:
        """Input axons and words of a convolution."""
        ...


def _stored(bits: int, cost: RowCost | BlockCost) -> int:
    """Bits that a weight takes; of more bits than the target knows (NC3113 refuses them) as the
    widest.
    """
    table = cost.stored_weight_bits.value
    return table[min(bits, len(table)) - 1]


def row(synapses: int, bits: int, cost: RowCost) -> int:
    """Words of one dense or sparse row: ``floor(synapses * (stored bits + overhead) / word) + 1``."""
    stored = _stored(bits, cost) + cost.synapse_overhead_bits.value
    return synapses * stored // cost.word_bits.value + 1


def convolution_row(channels: int, bits: int, cost: RowCost) -> int:
    """Words of one kernel row of a convolution with ``channels`` outputs: ``floor(channels * bits /
    word) + 1``.
    """
    return channels * bits // cost.word_bits.value + 1


def block_list(synapses: int, bits: int, cost: BlockCost, *, addressed: bool) -> int:
    """Words of the synapses of one input axon in blocks."""
    each = _stored(bits, cost) + (cost.index_bits.value if addressed else 0)
    word, most, header = cost.word_bits.value, cost.block_synapses.value, cost.header_bits.value
    full, rest = divmod(synapses, most)
    return full * -(-(header + most * each) // word) + (
        -(-(header + rest * each) // word) if rest else 0
    )


@dataclass(frozen=True)
class Rows:
    """Loihi 2."""

    cost: RowCost
    positional: bool = True
    least_listed: int = 2

    @property
    def extra_neurons(self) -> int:
        """Of a tile driven by a convolution."""
        return self.cost.convolution_extra_neurons.value

    def dense(self, inputs: int, neurons: int, bits: int) -> tuple[int, int]:
        """One row an input."""
        return inputs, inputs * row(neurons, bits, self.cost)

    def sparse(self, fans: Fans, bits: int) -> tuple[int, int]:
        """One row an input that reaches the tile."""
        return sum(fans.values()), sum(n * row(fan, bits, self.cost) for fan, n in fans.items())

    def convolution(self, field: Field, bits: int) -> tuple[int, int]:
        """One axon a position, kernels once."""
        words = sum(convolution_row(n, bits, self.cost) for n in field.group_outputs)
        return field.rows.size * field.columns.size, field.group_inputs * field.kernel * words


@dataclass(frozen=True)
class Blocks:
    """Loihi 1."""

    cost: BlockCost
    extra_neurons: int = 0
    positional: bool = False
    least_listed: int = 1

    def dense(self, inputs: int, neurons: int, bits: int) -> tuple[int, int]:
        """Blocks without addresses."""
        return inputs, inputs * block_list(neurons, bits, self.cost, addressed=False)

    def sparse(self, fans: Fans, bits: int) -> tuple[int, int]:
        """Blocks with addresses."""
        words = sum(n * block_list(fan, bits, self.cost, addressed=True) for fan, n in fans.items())
        return sum(fans.values()), words

    def convolution(self, field: Field, bits: int) -> tuple[int, int]:
        """As if unrolled: each input neuron lists its synapses."""
        fans: dict[int, int] = {}
        for reads, share in zip(
            *np.unique(np.outer(field.rows, field.columns), return_counts=True), strict=True
        ):
            for outputs in field.group_outputs:
                fan = int(reads) * outputs
                fans[fan] = fans.get(fan, 0) + int(share) * field.group_inputs
        return self.sparse(fans, bits)


def connection_cost(target: Target) -> ConnectionCost:
    """The formulas that the target's file names."""
    if isinstance(target.cost, RowCost):
        return Rows(target.cost)
    return Blocks(target.cost)
