"""What a tile takes of a core. How connections are counted is the target's choice
(:mod:`neurocompile.mapping.cost`).

=====================  ==========================================================================================
neurons                those of the tile, and on Loihi 2 one more where a convolution drives it
neuron_groups          1 for each population on the core; where the target shares groups, for all of equal
                       parameters together (:mod:`neurocompile.mapping.neuron_groups`)
axon_in                input axons of each projection into the tile
synaptic_memory_words  words of each projection into the tile
axon_map               of the tile's own messages: its neurons where some consumer is addressed by neuron (Dense,
                       Strided, a readout or none); its positions where some consumer is addressed
                       by position (Conv2d on Loihi 2); the sum where both. 0 where the target has
                       no such table
axon_memory            entries of the output lists
total                  the sum of all six
=====================  ==========================================================================================

Everything follows from ranges and strides; no synapse is listed.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from operator import add

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import astuple

from neurocompile.ir.circuit import CircuitGraph, Conv2d, HostInput, Population, Projection, Strided
from neurocompile.mapping.cost import connection_cost
from neurocompile.mapping.neuron_groups import number_groups, shares_groups
from neurocompile.mapping.pattern import Pattern
from neurocompile.mapping.synapses import SYNAPSES
from neurocompile.mapping.tile import Tile, whole
from neurocompile.targets.schema import RESOURCES, Target

__all__ = ["LABELS", "UNLIMITED", "CostCounter", "Usage", "limits_of"]

LABELS = {
    "axon_in": "input axons",
    "neuron_groups": "neuron groups",
    "neurons": "neurons",
    "synaptic_memory_words": "words of synaptic memory",
    "axon_map": "axon-map entries",
    "axon_memory": "axon-memory entries",
    "total": "entries of all resources together",
}


CACHE_LIMIT = 1 << 28
"""Bytes of reach masks kept (a bound on them is compared)."""
KEPT = 200_000
"""Tiles of which resources are kept."""
UNLIMITED = 1 << 62
"""More than any core holds."""
KEPT_NUMBERS = 8_000_000
"""Numbers that what populations send may take, of up to 8 bytes each."""


_Box = tuple[tuple[object, ...], tuple[int, ...], tuple[int, ...]]
"""Form of a projection or a population, start and stop of a tile."""


class Usage(Struct, frozen=True, forbid_unknown_fields=True):
    """Resources taken, in the column order of the published tables."""

    axon_in: int = 0
    neuron_groups: int = 0
    neurons: int = 0
    synaptic_memory_words: int = 0
    axon_map: int = 0
    axon_memory: int = 0

    @property
    def total(self) -> int:
        """Sum of all; limited by itself."""
        return sum(astuple(self))

    def values(self) -> tuple[int, ...]:
        """In the order of :data:`neurocompile.targets.schema.RESOURCES`."""
        return astuple(self)

    def columns(self) -> tuple[int, ...]:
        """:meth:`values`, then ``total``, as :func:`limits_of` gives the limits."""
        values = astuple(self)
        return *values, sum(values)

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, astuple(self), astuple(other)))

    def excess(self, target: Target) -> list[tuple[str, int, int]]:
        """(resource, used, limit) of each limit that a core with this usage breaks."""
        found = [(name, getattr(self, name), limit) for name, limit in target.capacity.items()]
        return [item for item in found if item[1] > item[2]]


def limits_of(target: Target) -> tuple[int, ...]:
    """Capacities of a core in the order of :meth:`Usage.columns`; :data:`UNLIMITED` where the target
    has no limit.
    """
    return tuple(target.capacity.get(name, UNLIMITED) for name in (*RESOURCES, "total"))


class CostCounter:
    """Counts the resources of tiles of one circuit on one target. Patterns are prepared once, so
    keep it.
    """

    def __init__(self, circuit: CircuitGraph, target: Target) -> None:
        self.circuit, self.target, self.cost = circuit, target, connection_cost(target)
        self.others: dict[str, CostCounter] | None = None
        """Of the same circuit on other targets, where somebody asked
        (:mod:`neurocompile.mapping.advice`).
        """
        self._patterns: dict[tuple[object, ...], Pattern] = {}
        self._sources: dict[tuple[str, Tile], np.ndarray] = {}
        self._fields: dict[tuple[str, int, int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._forms: dict[str, tuple[object, ...]] = {}
        self._forms_of: dict[str, tuple[object, ...]] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._usages: dict[_Box, Usage] = {}
        self._reaches: dict[_Box, dict[tuple[int, ...], np.ndarray] | None] = {}
        self._senders: dict[_Box, int] = {}
        self.sends: dict[object, object] = {}
        """What populations send, by their tiles and those of their readers
        (:mod:`neurocompile.mapping.tile_graph`).
        """
        self._held = 0
        self.largest = max((p.size for p in circuit.populations), default=0)
        """Neurons of the largest population."""
        self.outgoing: dict[str, list[Projection]] = {p.name: [] for p in circuit.populations}
        for projection in circuit.projections:
            self.outgoing[projection.src].append(projection)
        self.to_host = {readout.src for readout in circuit.readouts}
        """Names of the populations that the host reads."""
        by_position = {n: [isinstance(q, Conv2d) for q in qs] for n, qs in self.outgoing.items()}
        self.positional = {n for n, qs in by_position.items() if self.cost.positional and any(qs)}
        """Names of the populations whose messages some convolution takes, addressed by position."""
        self.neuronal = {
            name
            for name, all_by_position in by_position.items()
            if name not in self.positional or name in self.to_host or not all(all_by_position)
        }
        """Names of the populations whose messages are (also) addressed by neuron."""
        self.group_of: dict[str, int] = number_groups(
            circuit,
            self.neuronal,
            self.positional,
            extra_neurons=self.cost.extra_neurons,
            shared=shares_groups(target),
        )
        """Population on the chip -> its neuron group: those of one number are one on a core."""
        order = sorted(circuit.topological(), key=lambda population: population.depth)
        self.on_chip: tuple[Population, ...] = tuple(
            p for p in order if not isinstance(p, HostInput)
        )
        """Populations that need cores, in depth order. The host holds the HostInputs: they take
        none.
        """

    def fill(self, usage: Usage) -> float:
        """Part of a core's fullest resource that so much takes; a population's neuron group is left
        out where it may share one.
        """
        shared = shares_groups(self.target)
        return max(
            (
                getattr(usage, name) / max(limit, 1)
                for name, limit in self.target.capacity.items()
                if not shared or name != "neuron_groups"
            ),
            default=0.0,
        )

    def keep_sends(self, key: object, found: object, numbers: int) -> None:
        """Keep one of ``sends``, of so many numbers."""
        if self._held + numbers > KEPT_NUMBERS:
            self.sends.clear()
            self._held = 0
        self.sends[key] = found
        self._held += numbers

    def pattern(self, projection: Strided) -> Pattern:
        """The projection prepared for counting."""
        form = self._form(projection)
        if form not in self._patterns:
            src, dst = (
                self.circuit.population[projection.src],
                self.circuit.population[projection.dst],
            )
            self._patterns[form] = Pattern(projection, src.shape, dst.shape)
        return self._patterns[form]

    def _form(self, projection: Projection) -> tuple[object, ...]:
        """What counting knows of a projection; of equal ones, as blocks of a model repeat them, all
        is counted once."""
        found = self._forms.get(projection.name)
        if found is None:
            src, dst = (self.circuit.population[n] for n in (projection.src, projection.dst))
            own: tuple[object, ...] = (projection.name,)
            if isinstance(projection, Strided):
                own = (
                    projection.sizes,
                    projection.src_strides,
                    projection.dst_strides,
                    projection.src_offset,
                    projection.dst_offset,
                )
            elif isinstance(projection, Conv2d):
                own = (
                    self.circuit.tensors[projection.weight].shape,
                    projection.stride,
                    projection.padding,
                    projection.dilation,
                    projection.groups,
                )
            kind = type(projection).__name__
            found = kind, src.shape, dst.shape, projection.weight_bits, *own
            number = self._numbers.setdefault(found, len(self._numbers))
            found = self._forms[projection.name] = (number,)
        return found

    def _form_of(self, population: str) -> tuple[object, ...]:
        """The same of a population: all that its resources follow from."""
        found = self._forms_of.get(population)
        if found is None:
            incoming = self.circuit.incoming[population]
            form = (
                population in self.neuronal,
                population in self.positional,
                *(self._form(q) for q in incoming),
            )
            form = form if incoming else (*form, population)
            number = self._numbers.setdefault(form, len(self._numbers))
            found = self._forms_of[population] = (number,)
        return found

    def usage(self, tile: Tile) -> Usage:
        """Resources of a tile on its own, without ``axon_memory``, which depends on where its
        consumers are.
        """
        key = (self._form_of(tile.population), tile.start, tile.stop)
        found = self._usages.get(key)  # ways to cut try many of the same tiles
        if found is None:
            if len(self._usages) >= KEPT:
                self._usages.clear()
            found = self._usages[key] = self._usage(tile)
        return found

    def _usage(self, tile: Tile) -> Usage:
        incoming = self.circuit.incoming[tile.population]
        parts = [self.synapses(p, tile) for p in incoming]
        extra = self.cost.extra_neurons if any(isinstance(p, Conv2d) for p in incoming) else 0
        axon_map = 0
        if self.target.core.axon_map is not None:
            axon_map += tile.size if tile.population in self.neuronal else 0
            axon_map += prod(tile.shape[:-1]) if tile.population in self.positional else 0
        return Usage(
            sum(a for a, _ in parts), 1, tile.size + extra, sum(w for _, w in parts), axon_map
        )

    @cached_property
    def uncut(self) -> dict[str, Usage]:
        """What each population on the chip takes as one tile, without ``axon_memory``."""
        return {population.name: self.usage(whole(population)) for population in self.on_chip}

    def shortages(self) -> dict[str, tuple[int, int]]:
        """Resource -> (need of all populations together, cores needed for that): lower bounds,
        nothing is cut yet.

        Cutting a population only adds to each resource, so what the uncut populations need together
        is a lower bound; each neuron group is on one core at least.
        """
        need = Usage()
        for usage in self.uncut.values():
            need += usage
        need = msgspec.structs.replace(need, neuron_groups=len(set(self.group_of.values())))
        found = {}
        for name, limit in self.target.capacity.items():
            used = getattr(need, name)
            found[name] = (used, -(-used // limit) if limit else used)
        return found

    def largest_layer(self, resource: str) -> tuple[str, int]:
        """The layer that needs most of a resource, with all populations that help it, and how much;
        ('', 0) without any.
        """
        by_layer: dict[str, int] = {}
        counted: set[tuple[str, int]] = set()
        for population in self.on_chip:
            layer, group = population.layer, self.group_of[population.name]
            if resource == "neuron_groups" and (layer, group) in counted:
                continue
            counted.add((layer, group))
            by_layer[layer] = by_layer.get(layer, 0) + getattr(
                self.uncut[population.name], resource
            )
        layer = max(by_layer, key=lambda name: by_layer[name], default="")
        return layer, by_layer.get(layer, 0)

    def synapses(self, projection: Projection, tile: Tile) -> tuple[int, int]:
        """Input axons, and words of synaptic memory, that a projection into the tile takes."""
        return SYNAPSES.of(projection).costs(self, projection, tile)

    def reach(self, projection: Projection, tile: Tile) -> dict[tuple[int, ...], np.ndarray] | None:
        """The neurons whose messages reach the tile, as a product: source axes -> flat indices over
        them, sorted (not to be written).

        Axes that are absent are read whole; None if nothing reaches the tile.
        """
        key = (self._form(projection), tile.start, tile.stop)
        if key not in self._reaches:  # every graph of tiles asks again
            if len(self._reaches) >= KEPT:
                self._reaches.clear()
            self._reaches[key] = SYNAPSES.of(projection).reach(self, projection, tile)
        return self._reaches[key]

    def senders(self, projection: Projection, tile: Tile) -> int:
        """How many neurons' messages reach the tile through a projection."""
        key = (self._form(projection), tile.start, tile.stop)
        found = self._senders.get(key)
        if found is None:
            if len(self._senders) >= KEPT:
                self._senders.clear()
            reach = self.reach(projection, tile)
            src = self.circuit.population[projection.src]
            read = {a for axes in reach or () for a in axes}
            rest = prod(n for a, n in enumerate(src.shape) if a not in read)
            found = self._senders[key] = (
                0 if reach is None else rest * prod(len(index) for index in reach.values())
            )
        return found

    def sources(self, projection: Projection, tile: Tile) -> np.ndarray:
        """Boolean array of the source's shape: the neurons whose messages reach the tile
        (read-only).
        """
        key = (projection.name, tile)
        if len(self._sources) * self.largest > CACHE_LIMIT:
            self._sources.clear()
        if key not in self._sources:
            mask = SYNAPSES.of(projection).sources(self, projection, tile)
            mask.flags.writeable = False
            self._sources[key] = mask
        return self._sources[key]

    def field(
        self, projection: Conv2d, tile: Tile
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Rows, then columns, of the input that the tile's kernels see, without the padding; how
        often each is read.
        """
        rows, columns = (
            self._axis_field(projection, a, tile.start[a], tile.stop[a]) for a in (0, 1)
        )
        return rows, columns

    def _axis_field(
        self, projection: Conv2d, a: int, start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of one axis: input indices in the field of a range of outputs, and how often each is
        read.
        """
        key = (projection.name, a, start, stop)
        if key not in self._fields:
            size = self.circuit.population[projection.src].shape[a]
            kernel = self.circuit.tensors[projection.weight].shape[1 + a]
            first = np.arange(start, stop) * projection.stride[a] - projection.padding[a]
            index = (first[:, None] + np.arange(kernel) * projection.dilation[a]).ravel()
            reads = np.bincount(index[(index >= 0) & (index < size)], minlength=size)
            found = np.flatnonzero(reads)
            self._fields[key] = found, reads[found]
        return self._fields[key]

    def group_channels(self, projection: Conv2d, tile: Tile) -> dict[int, int]:
        """Group -> output channels of it that the tile holds."""
        size = self.circuit.population[projection.dst].shape[2] // projection.groups
        start, stop = tile.start[2], tile.stop[2]
        return {
            g: min(stop, (g + 1) * size) - max(start, g * size)
            for g in range(start // size, (stop - 1) // size + 1)
        }
