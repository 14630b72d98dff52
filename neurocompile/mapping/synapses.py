"""How the connections into a tile are counted: rules a kind of projection, from ranges and strides;
no synapse is listed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurocompile.ir.circuit import Conv2d, Dense, Strided
from neurocompile.ir.tables import KindTable
from neurocompile.mapping.cost import Field
from neurocompile.mapping.tile import Tile

if TYPE_CHECKING:
    from neurocompile.mapping.resources import CostCounter

__all__ = ["SYNAPSES", "Synapses"]


class Synapses(NamedTuple):
    """How the connections of a kind of projection into a tile are counted."""

    costs: Callable[[CostCounter, Any, Tile], tuple[int, int]]
    """:meth:`neurocompile.mapping.resources.CostCounter.synapses`."""
    reach: Callable[[CostCounter, Any, Tile], dict[tuple[int, ...], np.ndarray] | None]
    """:meth:`neurocompile.mapping.resources.CostCounter.reach`."""
    sources: Callable[[CostCounter, Any, Tile], np.ndarray]
    """:meth:`neurocompile.mapping.resources.CostCounter.sources`."""


SYNAPSES: KindTable[Synapses] = KindTable(
    "resources", ("projection",), "what its synapses take of a core"
)


def _dense_costs(counter: CostCounter, q: Dense, tile: Tile) -> tuple[int, int]:
    return counter.cost.dense(counter.circuit.population[q.src].size, tile.size, q.weight_bits)


def _all_sources(counter: CostCounter, q: Dense, tile: Tile) -> np.ndarray:
    return np.ones(counter.circuit.population[q.src].shape, dtype=bool)


SYNAPSES.add(Synapses(_dense_costs, lambda counter, q, tile: {}, _all_sources), Dense)


def _strided_costs(counter: CostCounter, q: Strided, tile: Tile) -> tuple[int, int]:
    return counter.cost.sparse(counter.pattern(q).fan_out(tile.start, tile.stop), q.weight_bits)


SYNAPSES.add(
    Synapses(
        _strided_costs,
        lambda counter, q, tile: counter.pattern(q).reach(tile.start, tile.stop),
        lambda counter, q, tile: counter.pattern(q).sources(tile.start, tile.stop),
    ),
    Strided,
)


def _convolution_costs(counter: CostCounter, q: Conv2d, tile: Tile) -> tuple[int, int]:
    _, height, width, channels = counter.circuit.tensors[q.weight].shape
    (_, rows), (_, columns) = counter.field(q, tile)
    outputs = tuple(counter.group_channels(q, tile).values())
    field = Field(rows, columns, height * width, channels, outputs)
    return counter.cost.convolution(field, q.weight_bits)


def _channels(counter: CostCounter, q: Conv2d, tile: Tile) -> np.ndarray:
    """Of the source, of the groups that the tile's channels read."""
    per_group = counter.circuit.population[q.src].shape[2] // q.groups
    first = np.array([g * per_group for g in counter.group_channels(q, tile)])
    return (first[:, None] + np.arange(per_group)).ravel()


def _convolution_reach(
    counter: CostCounter, q: Conv2d, tile: Tile
) -> dict[tuple[int, ...], np.ndarray] | None:
    (rows, _), (columns, _) = counter.field(q, tile)
    if not rows.size or not columns.size:
        return None
    found: dict[tuple[int, ...], np.ndarray] = {(0,): rows, (1,): columns}
    if q.groups > 1:
        found[2,] = _channels(counter, q, tile)
    return found


def _convolution_sources(counter: CostCounter, q: Conv2d, tile: Tile) -> np.ndarray:
    (rows, _), (columns, _) = counter.field(q, tile)
    mask = np.zeros(counter.circuit.population[q.src].shape, dtype=bool)
    mask[np.ix_(rows, columns, _channels(counter, q, tile))] = True
    return mask


SYNAPSES.add(Synapses(_convolution_costs, _convolution_reach, _convolution_sources), Conv2d)
