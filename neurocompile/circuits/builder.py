"""Builds a CircuitGraph: populations, projections between them, and signals that are not
populations yet.

A :class:`Signal` is a value of the model on the chip, seen through a layout from the model's axes
to memory. Its base is a population, or a sum of projections (:class:`Drive`) that becomes the input
of whatever population is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurocompile.ir import circuit as c
from neurocompile.ir.fields import WEIGHT
from neurocompile.ir.layout import Atom, Layout
from neurocompile.ir.text import Ref, TensorRef, unique_name
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = [
    "Builder",
    "Drive",
    "Signal",
    "channels_last",
    "compact",
    "loops",
    "planes",
    "strided",
    "terms",
]


@dataclass(frozen=True)
class Drive:
    """Input of a population that does not exist yet: projections with ``dst`` still empty, and its
    array's shape.
    """

    shape: tuple[int, ...]
    projections: tuple[c.Projection, ...]


@dataclass(frozen=True)
class Signal:
    """``base`` (a population's name, or a Drive) through ``layout``: logical index -> index of the
    base's array.
    """

    base: str | Drive
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return self.layout.shape


def channels_last(shape: tuple[int, ...]) -> Layout:
    """Logical (C, H, W) in an (H, W, C) array."""
    channels, height, width = shape
    memory = Layout.contiguous((height, width, channels))
    return memory.transpose((2, 0, 1))


def compact(layout: Layout) -> tuple[tuple[int, ...], Layout]:
    """The same axes packed without gaps in the same memory order: array shape and layout."""
    atoms = sorted({a for dim in layout.dims for a in dim}, key=lambda a: -a.stride)
    packed, stride = {}, 1
    for atom in reversed(atoms):
        packed[atom] = Atom(atom.size, stride)
        stride *= atom.size
    return tuple(a.size for a in atoms) or (1,), Layout(
        tuple(tuple(packed[a] for a in dim) for dim in layout.dims)
    )


def loops(src: Layout, dst: Layout) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Sizes, source and destination strides of the loops that carry every logical element of
    ``src`` to ``dst``.

    The logical shapes are equal, or an axis has size 1 on one side: then the source is broadcast,
        or reduced.
    """
    found: list[tuple[int, int, int]] = []
    for a, b in zip(src.dims, dst.dims):
        if not a or not b:  # broadcast or reduce
            found += [
                (atom.size, atom.stride if a else 0, atom.stride if b else 0) for atom in a or b
            ]
            continue
        left, right = list(a), list(b)
        while left:
            x, y = left.pop(0), right.pop(0)
            n = min(x.size, y.size)  # the outer indices that both atoms have in common
            if x.size % n or y.size % n:
                raise ValueError(f"layouts of {src.shape} and {dst.shape} do not nest")
            found.append((n, x.stride * (x.size // n), y.stride * (y.size // n)))
            if x.size > n:
                left.insert(0, Atom(x.size // n, x.stride))
            if y.size > n:
                right.insert(0, Atom(y.size // n, y.stride))
    sizes, src_strides, dst_strides = zip(*found) if found else ((), (), ())
    return tuple(sizes), tuple(src_strides), tuple(dst_strides)


class Builder:
    """Collects populations, projections and tensors; :meth:`finish` makes the graph.

    ``fields`` are those of the chip that it is for.
    """

    def __init__(self, fields: ChipFields = LOIHI2) -> None:
        self.fields = fields
        self.populations: list[c.Population] = []
        self.projections: list[c.Projection] = []
        self.readouts: list[c.Readout] = []
        self.views: list[c.View] = []
        self.tensors: dict[str, np.ndarray] = {}
        self._names: set[str] = set()

    def name(self, wanted: str) -> str:
        """``wanted``, or with a number behind if that is taken."""
        name = unique_name(wanted, self._names.__contains__)
        self._names.add(name)
        return name

    def tensor(self, wanted: str, value: np.ndarray) -> TensorRef:
        """Add an integer tensor."""
        name = unique_name(wanted, self.tensors.__contains__)
        self.tensors[name] = np.asarray(value)  # numpy makes scalars of arrays without axes
        return TensorRef(name)

    def readout(
        self,
        src: str,
        scale: float = 1.0,
        bias: TensorRef | None = None,
        *,
        per_step: bool = False,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """The host reads population ``src``: :class:`neurocompile.ir.circuit.Readout`."""
        self.readouts.append(
            c.Readout(
                name=self.name("readout"),
                src=Ref(src),
                scale=scale,
                bias=bias,
                per_step=per_step,
                shape=shape,
            )
        )

    def population(
        self,
        kind: type[c.Population],
        wanted: str,
        shape: tuple[int, ...],
        layer: str,
        **fields: Any,
    ) -> str:
        """Add a population and return its name."""
        name = self.name(wanted)
        self.populations.append(kind(name=name, shape=shape, layer=layer, **fields))
        return name

    def drive(self, dst: str, projections: Iterable[c.Projection]) -> None:
        """Connect ``projections`` to ``dst``."""
        for projection in projections:
            name = self.name(f"{projection.src}>{dst}")
            self.projections.append(replace(projection, name=name, dst=Ref(dst)))

    def shape(self, population: str) -> tuple[int, ...]:
        """Array shape of a population."""
        return next(p.shape for p in reversed(self.populations) if p.name == population)

    def bounded(self, relay: str, largest: int) -> None:
        """Say of a graded relay what magnitude its value has at most, where more is known than its
        inputs tell.
        """
        for k, p in enumerate(self.populations):
            if p.name == relay and isinstance(p, c.GradedRelay) and not p.largest:
                self.populations[k] = replace(p, largest=largest)

    def always_on(self, layer: str) -> str:
        """A neuron that fires in every step: the constant 1."""
        bias = self.tensor(f"{layer}.one.bias", np.ones(1, np.int16))
        return self.population(c.LIF, f"{layer}.one", (1,), layer, vth=0, bias=bias)

    def view(self, layer: str, signal: Signal) -> None:
        """Record where ``layer`` lies."""
        atoms = [atom for dim in signal.layout.simplified().dims for atom in dim]
        self.views.append(
            c.View(
                name=self.name(f"view.{layer}"),
                layer=layer,
                src=Ref(str(signal.base)),
                shape=signal.shape,
                sizes=tuple(a.size for a in atoms),
                strides=tuple(a.stride for a in atoms),
            )
        )

    def relay(self, signal: Signal, wanted: str, layer: str) -> Signal:
        """``signal`` as a population: itself if it is one, a graded relay otherwise."""
        if isinstance(signal.base, str):
            return signal
        name = self.population(c.GradedRelay, wanted, signal.base.shape, layer)
        self.drive(name, signal.base.projections)
        return Signal(name, signal.layout)

    def carry(self, signal: Signal, target: Layout, weight: int = 1) -> tuple[c.Projection, ...]:
        """Projections that bring logical element i of ``signal`` to where ``target`` has it, times
        ``weight``.
        """
        if isinstance(signal.base, Drive):
            if signal.layout != target:
                raise ValueError("a drive can only be carried to its own layout; relay it first")
            return tuple(self.weighted(p, weight) for p in signal.base.projections)
        found = loops(signal.layout, target)
        sign = 1 if weight >= 0 else -1
        return tuple(
            strided(signal.base, *found, weight=sign * term) for term in self.terms(abs(weight))
        )

    def terms(self, value: int) -> list[int]:
        """:func:`terms`, of the chip's synapses."""
        return terms(value, self.fields)

    def weighted(self, projection: c.Projection, factor: int) -> c.Projection:
        """A projection with its weights multiplied: a strided one, or a convolution with small
        positive weights.
        """
        if factor == 1:
            return projection
        if isinstance(projection, c.Conv2d) and projection.sign == "excitatory":
            weight = self.tensors[projection.weight] * factor
            if 0 <= weight.min() and weight.max() <= self.fields.weight:
                return replace(
                    projection, weight=self.tensor(f"{projection.weight}.{factor}", weight)
                )
        if not isinstance(projection, c.Strided) or projection.weight_exp < 0:
            raise ValueError("only unweighted connections take a gain")
        return strided(
            projection.src,
            projection.sizes,
            projection.src_strides,
            projection.dst_strides,
            weight=factor * (projection.weight << projection.weight_exp),
            src_offset=projection.src_offset,
            dst_offset=projection.dst_offset,
        )

    def finish(self, name: str, steps: int) -> c.CircuitGraph:
        """The graph, populations in topological order."""
        graph = c.CircuitGraph(
            name,
            steps,
            tuple(self.populations),
            tuple(self.projections),
            tuple(self.readouts),
            dict(self.tensors),
            views=tuple(self.views),
        )
        return graph.replace(populations=tuple(graph.topological()))


def terms(value: int, fields: ChipFields = LOIHI2) -> list[int]:
    """Weights that one synapse each can hold (on Loihi 2 8 bits and an exponent of up to 7) and whose
    sum is ``value`` >= 0.
    """
    found = []
    while value:
        exponent = min(max(value.bit_length() - fields.weight_bits, 0), fields.weight_exponent)
        found.append(min(value >> exponent, fields.weight) << exponent)
        value -= found[-1]
    return found


def planes(values: np.ndarray, fields: ChipFields = LOIHI2) -> list[tuple[np.ndarray, int]]:
    """Integers >= 0 as matrices of synapses: (weights, exponent), the lowest exponent first, whose
    ``weights << exponent`` add up to ``values``.
    """
    found: list[tuple[np.ndarray, int]] = []
    end = fields.weight_exponent
    while end:
        start = max(end - fields.weight_bits, 0)
        found.insert(0, (values >> start & (1 << end - start) - 1, start))
        end = start
    high = values >> fields.weight_exponent
    while high.any():
        found.append((np.minimum(high, fields.weight), fields.weight_exponent))
        high = high - found[-1][0]
    return found


def strided(
    src: str,
    sizes: tuple[int, ...],
    src_strides: tuple[int, ...],
    dst_strides: tuple[int, ...],
    *,
    weight: int = 1,
    src_offset: int = 0,
    dst_offset: int = 0,
) -> c.Strided:
    """A Strided projection without destination; neighbouring loops joined, weights of more than 8 bits
    given an exponent.
    """
    exponent = 0
    while abs(weight) >> exponent > WEIGHT:
        exponent += 1
    if weight % (1 << exponent):
        raise ValueError(f"weight {weight} needs more than 8 bits")
    merged: list[tuple[int, int, int]] = []
    for n, s, d in zip(sizes, src_strides, dst_strides):
        if n == 1:
            continue
        if merged and merged[-1][1] == n * s and merged[-1][2] == n * d:
            merged[-1] = (merged[-1][0] * n, s, d)
        else:
            merged.append((n, s, d))
    if not merged:
        merged = [(1, 0, 0)]
    sizes, src_strides, dst_strides = zip(*merged)
    return c.Strided(
        name="",
        src=Ref(src),
        dst=Ref(""),
        sizes=sizes,
        src_strides=src_strides,
        dst_strides=dst_strides,
        weight=weight >> exponent,
        weight_exp=exponent,
        sign="excitatory" if weight >= 0 else "inhibitory",
        src_offset=src_offset,
        dst_offset=dst_offset,
    )
