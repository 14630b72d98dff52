"""Core images from circuit and mapping alone, one core after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from neurocompile.images.image import (
    GROUP_FIELDS,
    KERNEL,
    KINDS,
    NO_AXON,
    PORT_FIELDS,
    SPARSE,
    CoreImage,
    HostImage,
)
from neurocompile.images.layout import Layout
from neurocompile.images.names import Names, names_of
from neurocompile.images.outputs import OutputMaps, link_chain
from neurocompile.images.synapses import Rows, rows_of
from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, Population
from neurocompile.mapping.mapping import Mapping as Placed
from neurocompile.mapping.neuron_groups import shares_groups, side_by_side
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, whole
from neurocompile.targets.schema import Target

__all__ = ["CoreImages", "build_images"]


@dataclass(frozen=True)
class CoreImages:
    """Images of all cores: ``names`` (what they are called), the host's, and the cores'."""

    names: Names
    host: HostImage
    cores: tuple[CoreImage, ...]
    host_tensors: Mapping[str, np.ndarray]
    """Tables of the host's inputs (``places``, ``pattern``)."""


def build_images(circuit: CircuitGraph, mapping: Placed, target: Target) -> CoreImages:
    """All images in memory. For models of many chips take :class:`ImageBuilder`, core by core."""
    builder = ImageBuilder(circuit, mapping, target)
    return CoreImages(
        builder.names, builder.make_host(), tuple(builder.cores()), builder.host_tensors
    )


class ImageBuilder:
    """Makes the images of one scheduled circuit's mapping."""

    def __init__(self, circuit: CircuitGraph, mapping: Placed, target: Target) -> None:
        self.circuit, self.mapping = circuit, mapping
        self.counter = CostCounter(circuit, target)
        held = [core.tiles for core in mapping.cores]
        if shares_groups(target):  # the neurons of a group lie side by side
            held = [side_by_side(tiles, self.counter.group_of) for tiles in held]
        self.layout = Layout(self.counter, held)
        self.outputs = OutputMaps(self.layout)
        self.names = names_of(circuit, target, mapping)
        self._number = {p.name: i for i, p in enumerate(circuit.populations)}
        self._projection = {q.name: i for i, q in enumerate(circuit.projections)}
        self._axes = max((len(p.shape) for p in circuit.populations), default=0)

    @cached_property
    def host_tensors(self) -> dict[str, np.ndarray]:
        """Tables that the host's inputs name."""
        refs = [ref for h in self.circuit.inputs for ref in (h.places, h.pattern) if ref]
        return {str(ref): self.circuit.tensors[ref] for ref in refs}

    def make_host(self) -> HostImage:
        """What the host sends, and to whom."""
        inputs, counter = self.circuit.inputs, self.counter
        return HostImage(
            np.array([self._number[p.name] for p in inputs], np.int64),
            np.array([p.name in counter.neuronal for p in inputs], np.uint8),
            np.array([p.name in counter.positional for p in inputs], np.uint8),
            self.outputs.of([whole(p) for p in inputs]),
        )

    def cores(self) -> Iterator[CoreImage]:
        """Image after image, in the order of the mapping."""
        for number in range(len(self.mapping.cores)):
            yield self.core(number)

    def core(self, number: int) -> CoreImage:
        """The image of one core."""
        placed = self.mapping.cores[number]
        tiles = self.layout.held[number]
        ports = self.layout.ports[number]
        sources = [self.layout.sources(port) for port in ports]
        rows = [rows_of(self.layout, p, s) for p, s in zip(ports, sources, strict=True)]
        axon_next = np.full(sum(p.axons for p in ports), NO_AXON, np.int32)
        order = sorted(
            range(len(ports)), key=lambda i: (ports[i].projection.src, ports[i].positional)
        )
        for _, members in groupby(
            order, key=lambda i: (ports[i].projection.src, ports[i].positional)
        ):
            here = list(members)
            axons = [np.arange(ports[i].axon, ports[i].axon + ports[i].axons) for i in here]
            _, _, axon, following = link_chain([sources[i] for i in here], axons)
            axon_next[axon] = following
        return CoreImage(
            place=np.array([placed.chip, placed.x, placed.y, placed.core], np.int64),
            groups=self._groups(tiles),
            boxes=np.array([_box(tile, self._axes) for tile in tiles], np.int64),
            bias=np.concatenate([_bias(self.circuit, tile) for tile in tiles]),
            ports=self._ports(number, rows),
            axon_next=axon_next,
            row_ends=_joined([r.ends for r in rows], np.int64),
            positions=_joined([r.positions for r in rows], np.int32, (0, 2)),
            targets=_joined([r.targets for r in rows], np.int32),
            weights=_joined([r.weights for r in rows], np.int16),
            outputs=self.outputs.of(tiles),
        )

    def _groups(self, tiles: Sequence[Tile]) -> np.ndarray:
        table, first = [], 0
        for tile in tiles:
            p = self.circuit.population[tile.population]
            driven = any(isinstance(q, Conv2d) for q in self.circuit.incoming[p.name])
            values = {
                "population": self._number[p.name],
                "kind": KINDS.index(type(p).__name__),
                "first": first,
                "count": tile.size,
                "extra": self.counter.cost.extra_neurons if driven else 0,
                "by_neuron": p.name in self.counter.neuronal,
                "by_position": p.name in self.counter.positional,
                **_parameters(p, self.circuit.period),
            }
            table.append([int(values[name]) for name in GROUP_FIELDS])
            first += tile.size
        return np.array(table, np.int64).reshape(-1, len(GROUP_FIELDS))

    def _ports(self, number: int, rows: list[Rows]) -> np.ndarray:
        table, ends, positions, targets, weights = [], 0, 0, 0, 0
        kernel = PORT_FIELDS[PORT_FIELDS.index("group_inputs") :]
        for port, row in zip(self.layout.ports[number], rows, strict=True):
            q = port.projection
            values = {
                "kind": row.kind,
                "group": port.group,
                "projection": self._projection[q.name],
                "delay": q.delay,
                "weight_exp": q.weight_exp,
                "weight_bits": q.weight_bits,
                "axon": port.axon,
                "axons": port.axons,
                "rows": ends if row.kind == SPARSE else positions if row.kind == KERNEL else 0,
                "weights": weights,
                "synapses": targets,
                "shared": row.shared,
                "positional": port.positional,
                **dict(zip(kernel, row.kernel, strict=True)),
            }
            table.append([int(values[name]) for name in PORT_FIELDS])
            ends, positions = ends + len(row.ends), positions + len(row.positions)
            targets, weights = targets + len(row.targets), weights + len(row.weights)
        return np.array(table, np.int64).reshape(-1, len(PORT_FIELDS))


def _parameters(p: Population, period: int) -> dict[str, int]:
    """Columns of a group that a LIF has."""
    if not isinstance(p, LIF):
        names = ("vth", "dv", "du", "bias_exp", "has_bias", "reset_interval", "reset_phase")
        return dict.fromkeys(names, 0)
    return {
        "vth": p.vth,
        "dv": p.dv,
        "du": p.du,
        "bias_exp": p.bias_exp,
        "has_bias": p.bias is not None,
        "reset_interval": period if p.reset else 0,
        "reset_phase": p.depth % period if p.reset else 0,
    }


def _bias(circuit: CircuitGraph, tile: Tile) -> np.ndarray:
    """Bias mantissas of a tile's neurons, int16; 0 of those without."""
    p = circuit.population[tile.population]
    if not isinstance(p, LIF) or p.bias is None:
        return np.zeros(tile.size, np.int16)
    full = np.broadcast_to(circuit.tensors[p.bias], p.shape)
    return full[tile.slices].reshape(-1).astype(np.int16)


def _box(tile: Tile, axes: int) -> list[list[int]]:
    missing = axes - len(tile.start)
    return [[*[0] * missing, *tile.start], [*[1] * missing, *tile.stop]]


def _joined(parts: list[np.ndarray], dtype: type, shape: tuple[int, ...] = (0,)) -> np.ndarray:
    if not parts:
        return np.zeros(shape, dtype)
    return np.concatenate(parts).astype(dtype, copy=False)
