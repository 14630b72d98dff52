"""What a value of the model is while it is folded: spikes on chip, or what is still to become a
population.

All are feature maps of ``shape`` (H, W, C) behind a cumulated stride ``scale``; a
:class:`Value` adds the layout from the model's axes to the map's (position, channel) order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from neurocompile.folding.slots import Slots
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import Projection
from neurocompile.ir.layout import Atom, Layout

__all__ = [
    "Base",
    "Conv",
    "Driven",
    "Host",
    "Memory",
    "Part",
    "Pool",
    "Real",
    "Scores",
    "Spikes",
    "Total",
    "Value",
    "joined",
    "split",
]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A population of spikes with its schedule, times ``weight``."""

    population: str
    slots: Slots
    weight: int = 1


@dataclass(frozen=True)
class Host:
    """The model's input."""

    node: s.Input
    shape: Shape
    scale: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Spikes:
    """A sum of spikes: one layer's, or a residual."""

    key: str
    shape: Shape
    scale: tuple[int, int]
    parts: tuple[Part, ...]

    @property
    def single(self) -> bool:
        """One population, not a sum."""
        return len(self.parts) == 1 and self.parts[0].weight == 1


@dataclass(frozen=True)
class Real:
    """A graded population: a sum of linear layers that several nodes read."""

    population: str
    slots: Slots
    shape: Shape
    scale: tuple[int, int]


@dataclass(frozen=True)
class Conv:
    """A convolution, not yet the input of a population."""

    node: s.Conv2d
    x: Value
    shape: Shape
    scale: tuple[int, int]


@dataclass(frozen=True)
class Pool:
    """The largest value of windows of a real value."""

    node: s.MaxPool2d
    x: Base
    shape: Shape
    scale: tuple[int, int]


@dataclass(frozen=True)
class Driven:
    """Projections from populations in ``slots`` (lag 0) that will drive a population there."""

    slots: Slots
    shape: Shape
    scale: tuple[int, int]
    projections: tuple[Projection, ...]
    chosen_by: str = ""
    """The node that chose ``slots``; it may choose wide ones instead."""


@dataclass(frozen=True)
class Total:
    """The sum over all positions of a value."""

    x: Value


@dataclass(frozen=True)
class Scores:
    """Q K^T, never formed: it is multiplied as Q (K^T V)."""

    q: Value
    k: Value


@dataclass(frozen=True)
class Memory:
    """Held for all windows of a sample: nothing has positions any more.

    In window w of the reader the population is to be read at lag ``-ahead``. Values lie in
    ``lowest``..``largest`` (0 and 1: spikes); where they are kept, ``offset`` stands for 0.
    """

    population: str
    channels: int
    largest: int
    ahead: int = 0
    lowest: int = 0
    offset: int = 0

    @property
    def halves(self) -> list[tuple[int, int]]:
        """(sign, largest) of the rectified halves that a value is the difference of."""
        return [(1, max(self.largest, 1))] + ([(-1, -self.lowest)] if self.lowest < 0 else [])


@dataclass(frozen=True)
class Value:
    """``base`` seen through ``layout``: logical index to position * C + channel."""

    base: Base
    layout: Layout


Base = Union[Host, Spikes, Real, Conv, Pool, Driven, Total, Scores, Memory]


def split(layout: Layout, channels: int) -> tuple[Layout, Layout]:
    """A layout's positions (strides in positions) and channels, each with all axes."""
    positions, inner = [], []
    for dim in layout.dims:
        places, rest = [], []
        for atom in dim:
            if atom.stride >= channels:
                places.append(Atom(atom.size, atom.stride // channels))
                continue
            fit = max(1, channels // atom.stride)
            if atom.size > fit:  # runs on from channels into positions
                places.append(Atom(atom.size // fit, 1))
                atom = Atom(fit, atom.stride)
            rest.append(Atom(atom.size, atom.stride))
        positions.append(tuple(places))
        inner.append(tuple(rest))
    return Layout(tuple(positions)).simplified(), Layout(tuple(inner)).simplified()


def joined(positions: Layout, channels: Layout, count: int) -> Layout:
    """The layout of a map of ``count`` channels with these positions and channels; positions are
    outer where an axis has both.
    """
    return Layout(
        tuple(
            (*(Atom(a.size, a.stride * count) for a in p), *q)
            for p, q in zip(positions.dims, channels.dims)
        )
    )
