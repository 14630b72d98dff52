"""A LIF whose channels leak, or have thresholds, differently: one population for each leak and
threshold, and one that gathers their spikes.

A population on the chip has one leak and one threshold. Channels of equal ones become a population
of their own, which reads its rows of the weights; whoever reads the layer reads the gathered
spikes, one step later. Nothing is stored twice, and channels may be assigned in any way: runs of
equal distance are one projection each, so there are at most as many as channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from neurocompile.circuits.builder import Builder, Drive, Signal, strided
from neurocompile.circuits.gates import or_gate
from neurocompile.ir import circuit as c
from neurocompile.ir.layout import Layout, strided_index
from neurocompile.ir.text import Ref

__all__ = ["Part", "gather", "inputs", "parts", "source"]


@dataclass(frozen=True)
class Part:
    """Neurons of one kind, ``shape`` (*rest, channels), within the array of all neurons."""

    number: int
    """Of the kind, among all of the layer."""
    by_channel: bool
    """Kinds are those of channels, the last axis of the array of all."""
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    """Of all loops but that over channels, in the array of all."""
    channels: np.ndarray
    """Where the channels lie in the array of all, int64, ascending."""

    @property
    def first(self) -> int:
        """The first of its channels."""
        return int(self.channels[0])

    def indices(self) -> np.ndarray:
        """Of its neurons in the array of all, int64 of :attr:`shape`."""
        return (strided_index(self.sizes, self.strides)[:, None] + self.channels).reshape(
            self.shape
        )

    def take(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Its part of ``values``, which broadcast against the array of all, of ``shape``."""
        if values.size == 1:
            return values
        if values.shape == shape[-1:] and self.by_channel:
            return values[self.channels]
        return np.ascontiguousarray(np.broadcast_to(values, shape)).reshape(-1)[self.indices()]

    def runs(self) -> Iterable[tuple[int, int, int, int]]:
        """(place in the part, first channel, distance, number) of channels that lie at equal
        distances.
        """
        start, channels = 0, self.channels
        while start < len(channels):
            end = min(start + 2, len(channels))
            step = int(channels[end - 1] - channels[start])
            while end < len(channels) and channels[end] - channels[end - 1] == step:
                end += 1
            yield start, int(channels[start]), max(step, 1), end - start
            start = end

    def projections(self, population: str, whole: bool, weight: int = 1) -> list[c.Projection]:
        """One to one, from ``population`` (of all neurons) to the part, or (``whole``) from that of
        the part to all.
        """
        n = len(self.channels)
        own = tuple(n * int(np.prod(self.sizes[k + 1 :])) for k in range(len(self.sizes)))
        made: list[c.Projection] = []
        for place, channel, step, length in self.runs():
            inner, outer = ((*own, 1), place), ((*self.strides, step), channel)
            (src, src_offset), (dst, dst_offset) = (inner, outer) if whole else (outer, inner)
            made.append(
                strided(
                    population,
                    (*self.sizes, length),
                    src,
                    dst,
                    weight=weight,
                    src_offset=src_offset,
                    dst_offset=dst_offset,
                )
            )
        return made


def parts(kinds: np.ndarray, layout: Layout, shape: tuple[int, ...]) -> list[Part]:
    """The neurons of each kind, in ascending order of kinds.

    Args:
        kinds: an integer a neuron, which broadcasts against ``shape``.
        layout: where the layer's values lie in the array of all neurons, without gaps.
        shape: of that array.
    """
    atoms = sorted({a for dim in layout.dims for a in dim}, key=lambda a: -a.stride)
    full = np.broadcast_to(kinds, shape).reshape([a.size for a in atoms])
    varying = [k for k in range(len(atoms)) if (full != full.take([0], axis=k)).any()]
    flat = full[tuple(slice(None) if k in varying else 0 for k in range(len(atoms)))].reshape(-1)
    place = strided_index(
        tuple(atoms[k].size for k in varying), tuple(atoms[k].stride for k in varying)
    )
    rest = [a for k, a in enumerate(atoms) if k not in varying]
    sizes, strides = tuple(a.size for a in rest), tuple(a.stride for a in rest)
    by_channel = np.array_equal(place, np.arange(shape[-1]))
    found = []
    for number, kind in enumerate(np.unique(flat)):
        channels = np.sort(place[flat == kind])
        outer = shape[:-1] if by_channel else sizes
        found.append(Part(number, by_channel, (*outer, len(channels)), sizes, strides, channels))
    return found


def source(
    builder: Builder, drive: Drive, shape: tuple[int, ...], by_channel: bool, name: str, layer: str
) -> Drive | str:
    """What parts read: ``drive`` itself if its weights have a row a channel that can be taken out,
    or a relay of it.
    """
    plain = all(
        isinstance(p, c.Conv2d)
        and p.groups == 1
        or isinstance(p, c.Dense)
        and len(drive.shape) == 1
        for p in drive.projections
    )
    if plain and by_channel:
        return drive
    relay = builder.population(c.GradedRelay, name, shape, layer)
    builder.drive(relay, drive.projections)
    return relay


def inputs(builder: Builder, part: Part, read: Drive | str, gain: int = 1) -> list[c.Projection]:
    """Projections from what :func:`source` gave to a population of ``part``."""
    if isinstance(read, str):
        return [builder.weighted(p, gain) for p in part.projections(read, whole=False)]
    made = []
    for p in read.projections:
        assert isinstance(p, (c.Conv2d, c.Dense))
        rows = np.ascontiguousarray(builder.tensors[p.weight][part.channels])
        made.append(
            builder.weighted(
                replace(p, weight=builder.tensor(f"{p.weight}.{part.number}", rows)), gain
            )
        )
    return made


def gather(
    builder: Builder,
    found: list[tuple[Part, str]],
    shape: tuple[int, ...],
    layout: Layout,
    name: str,
    levels: int = 1,
) -> Signal:
    """The spikes of all parts in one population ``name``, a graded one for several levels."""
    if levels > 1:
        relay = builder.population(c.GradedRelay, name, shape, name, largest=levels)
        gate = Signal(relay, layout)
    else:
        gate = or_gate(builder, shape, layout, name, name)
    for part, population in found:
        builder.drive(str(gate.base), part.projections(Ref(population), whole=True))
    return gate
