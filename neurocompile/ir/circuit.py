"""CircuitGraph: what the chip does. Populations of neurons with integer parameters, and projections
between them.

Everything a model computes lowers to these few kinds, each of which Loihi 2 and Lava have
(docs/architecture.md). A graph is compact: a projection is a kernel, a matrix or a strided pattern,
never a list of synapses, so that its size is that of the weights whatever the number of neurons.
Arrays of a population are C-contiguous in its ``shape``; feature maps are channels-last ``(H, W,
C)``, so a tile is a range of tokens times a range of channels.

Time: a projection takes ``delay`` >= 1 steps. What a population with depth D emits at global step D
+ k*period + t belongs to step t of sample k. A *recurrent* projection joins populations of one
depth: what its source emits in step t - 1 of a sample arrives in step t, and nothing arrives in
step 0 (``schedule`` sees to that on the chip). A projection with *advance* n counts steps anew:
what its source emits in step t + n of a sample is for step t, and nothing is for the last n steps.
Its destination, and all that follows, is n steps deeper: what needs a whole sample before it
starts.

Folded in time (docs/folding.md), a sample is ``windows`` windows of ``period`` steps each, and the
chip is reset between windows as it is between samples. A projection with *lag* o brings to window w
what its source emitted in window w - o, so that ``delay = D(dst) - D(src) + o * period``. A
population with ``slots`` is silent outside of these windows: the invariant that makes borders, sums
and samples that follow each other exact. Cycles of projections have a total lag of 1 or more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from neurocompile.ir.cycles import step_groups, window_groups
from neurocompile.ir.fields import INSTANT
from neurocompile.ir.layout import strided_index
from neurocompile.ir.text import Ref, TensorRef, build, parse, print_graph

__all__ = [
    "LIF",
    "CircuitGraph",
    "Conv2d",
    "Dense",
    "GradedRelay",
    "GradedRelu",
    "HostInput",
    "Population",
    "Projection",
    "Readout",
    "Strided",
    "View",
    "is_constant",
    "powered",
    "synapse_count",
]


@dataclass(frozen=True, kw_only=True)
class Population:
    """Neurons of one kind with common scalar parameters."""

    name: str
    shape: tuple[int, ...]
    """Axes of the population's array; the last is the channel axis where there is one."""
    layer: str
    """Layer of the user's model that this population computes, or helps to compute (then ``name !=
    layer``).
    """
    depth: int = -1
    """Steps between the host's input and this population; -1 before ``schedule``."""
    largest: int = 0
    """Largest sum of inputs (of a LIF: largest membrane, in units of the input) in any step of a
    sample, where whoever built the circuit knows better than interval arithmetic; 0 for unknown.
    Only loops need it."""
    slots: tuple[tuple[int, int], ...] = ()
    """Folded: the population may emit in windows ``sum_k i_k * stride_k`` only, for (size, stride)
    in ``slots``; none for any window.
    """

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    @property
    def spiking(self) -> bool:
        """True if the output is 0 or 1; False if it is graded (a signed payload of up to 24 bits)."""
        return isinstance(self, LIF)


@dataclass(frozen=True, kw_only=True)
class HostInput(Population):
    """Values that the host injects: ``x_int = clip(rint(x / scale), low, high)``, the same in every
    step of a sample; with ``stepwise``, those of each step: samples are then arrays (steps,
    *shape)."""

    low: int
    high: int
    scale: float = 1.0
    source_axes: tuple[int, ...] = ()
    """Transposition from the model's input (without batch) to ``shape``; empty for none."""
    stepwise: bool = False
    sample_shape: tuple[int, ...] = ()
    """Array shape of a whole sample, the last axis channels, where windows bring pieces of it."""
    places: TensorRef | None = None
    """int32 (windows, *shape without channels): position in the sample (its axes but the channels,
    row-major) that each window brings; -1 for zeros."""
    pattern: TensorRef | None = None
    """uint8 (windows, *shape): what each window of any sample brings."""


@dataclass(frozen=True, kw_only=True)
class LIF(Population):
    """Leaky integrate and fire, exactly Lava's fixed-point LIF and LIFReset (all integers, ``>>``
    of magnitudes)::

        u = wrap24(trunc0(u * (4096 - (du + 1)) / 4096) + a * 2^6)
        v = clip(trunc0(v * (4096 - dv) / 4096) + u + bias * 2^bias_exp, -(2^23 - 1), 2^23 - 1)
        s = v > vth * 2^6;   v = 0 where s

    ``wrap24(u)`` is u - 2^24 where u > 2^23 and u + 2^24 where u <= -2^23: the compiler proves that
    it never happens. ``du = 4095`` makes the current instantaneous, ``dv = 4096`` the voltage
    (Lava's documentation ends at 4095; its models and public code for the chip take 4096). With
    ``reset``, u and v start each sample at 0.
    """

    vth: int
    """Threshold mantissa, 0..131071, in units of the input ``a``."""
    dv: int = 0
    """Voltage decay, 0..4096 (4096ths lost a step)."""
    du: int = INSTANT
    """Current decay, 0..4095."""
    bias: TensorRef | None = None
    """int16 mantissas in -4096..4095, broadcast against ``shape``; none for 0."""
    bias_exp: int = 0
    """0..7."""
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class GradedRelay(Population):
    """Passes its input on: ``out = a`` (Lava GradedVec with vth 0)."""


@dataclass(frozen=True, kw_only=True)
class GradedRelu(Population):
    """``out = max(a, 0)`` (Lava GradedReluVec with vth 0)."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Weighted connections from one population to another.

    ``sign`` is Loihi's sign mode. ``mixed`` weights are even numbers in -256..254, because Loihi 2
    and Lava drop their lowest bit; ``excitatory`` ones are 0..255, ``inhibitory`` ones -255..0. ``a
    = (W s) * 2^weight_exp``.
    """

    name: str
    src: Ref
    dst: Ref
    delay: int = 0
    """Steps from emission to arrival, >= 1; 0 before ``schedule``."""
    sign: str = "mixed"
    """excitatory, inhibitory or mixed."""
    weight_bits: int = 8
    """Bits a synapse stores (1..8, sign included in mixed mode): weights are numbers of so many
    bits times one power of two.
    """
    weight_exp: int = 0
    """0..7; down to -7 where every weight is a multiple of ``2^-weight_exp``, so that nothing
    rounds, and (rounding down) for a Strided projection that is all of its destination's input, one
    to one.
    """
    recurrent: bool = False
    """Source and destination have one depth; what the source emitted in the step before arrives, 0
    in step 0.
    """
    advance: int = 0
    """What the source emits in step t + advance arrives in step t; 0 <= advance < T."""
    lag: int = 0
    """Windows from emission to arrival: what the source emits in window w - lag arrives in window
    w. May be negative.
    """


@dataclass(frozen=True, kw_only=True)
class Dense(Projection):
    """``a[dst] = sum_src weight[dst, src] * s[src]`` over the flattened arrays; weight int16
    (n_dst, n_src).
    """

    weight: TensorRef


@dataclass(frozen=True, kw_only=True)
class Conv2d(Projection):
    """Cross-correlation from (H, W, C_in) to (H', W', C_out); weight int16 (C_out, kH, kW, C_in /
    groups).
    """

    weight: TensorRef
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Strided(Projection):
    """One weight along a strided pattern: broadcasts, reductions, permutations, windows,
    one-to-one::

        for every index i in product(range(n) for n in sizes):
            a[dst_offset + sum_k i_k * dst_strides[k]] += weight * s[src_offset + sum_k i_k *
            src_strides[k]]

    Offsets and strides count neurons of the flattened arrays. A 0 among ``src_strides`` broadcasts,
    a 0 among ``dst_strides`` reduces.
    """

    sizes: tuple[int, ...]
    src_strides: tuple[int, ...]
    dst_strides: tuple[int, ...]
    weight: int = 1
    src_offset: int = 0
    dst_offset: int = 0


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How the host turns a graded population into logits: ``scale * mean_t (a_t + bias)``; bias
    int64, one a neuron.

    ``per_step``: the model gives ``scale * (a_t + bias)`` at every step, and the mean is taken for
        predictions only.
    """

    name: str
    src: Ref
    scale: float
    bias: TensorRef | None = None
    per_step: bool = False
    shape: tuple[int, ...] | None = None
    """Of the logits of one sample, whose elements the population has row-major; None for one axis."""

    def values(self, array: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """Logits float64 (*lead, *shape) of the population's (*lead, elements)."""
        found = array.astype(np.float64)
        found = found if self.shape is None else found.reshape(*found.shape[:-1], *self.shape)
        return self.scale * (found if bias is None else found + bias)


@dataclass(frozen=True, kw_only=True)
class View:
    """Where a layer of the user's model lies in a population: its array, row-major over ``shape``,
    has the digits ``sizes``, each ``strides`` apart in the population's array."""

    name: str
    layer: str
    src: Ref
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    windows: tuple[int, ...] = ()
    """Folded: windows that each digit is apart; none if all lies in window 0."""

    def read(self, trace: np.ndarray, windows: int = 1) -> np.ndarray:
        """The layer's (samples, steps, *shape) from the population's (samples, windows * steps,
        ...).
        """
        if windows > 1:
            apart = self.windows or (0,) * len(self.sizes)
            split = trace.reshape(len(trace), windows, trace.shape[1] // windows, -1)
            window = strided_index(self.sizes, apart)
            found = split[:, window, :, strided_index(self.sizes, self.strides)]
            return np.moveaxis(found, 0, -1).reshape(*split.shape[::2], *self.shape)
        flat = trace.reshape(*trace.shape[:2], -1)
        return flat[..., strided_index(self.sizes, self.strides)].reshape(
            *trace.shape[:2], *self.shape
        )


KINDS = {
    c.__name__: c
    for c in (HostInput, LIF, GradedRelay, GradedRelu, Dense, Conv2d, Strided, Readout, View)
}


@dataclass(frozen=True)
class CircuitGraph:
    """Populations, projections and readouts with their integer tensors. Immutable: passes return
    new graphs.
    """

    name: str
    steps: int
    """T, the steps of one sample."""
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    readouts: tuple[Readout, ...]
    tensors: Mapping[str, np.ndarray]
    period: int = 0
    """Steps between two samples, >= ``steps``; a power of two where the target's reset needs it; 0
    before schedule.
    """
    views: tuple[View, ...] = ()
    """Of every spiking layer."""
    windows: int = 1
    """F, the windows of a sample; more than 1 if folded in time."""
    graded_delay: int = 1
    """Longest delay of a graded connection, in steps, that the target carries."""

    @cached_property
    def population(self) -> dict[str, Population]:
        """Populations by name."""
        return {p.name: p for p in self.populations}

    @cached_property
    def incoming(self) -> dict[str, tuple[Projection, ...]]:
        """Projections by the name of their destination (every population has an entry)."""
        found: dict[str, list[Projection]] = {p.name: [] for p in self.populations}
        for projection in self.projections:
            found[projection.dst].append(projection)
        return {name: tuple(projections) for name, projections in found.items()}

    def weight(self, projection: Projection) -> np.ndarray | None:
        """The integer weight tensor of a Dense or Conv2d projection; None for a Strided one."""
        return self.tensors[projection.weight] if isinstance(projection, (Dense, Conv2d)) else None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample for the first HostInput: (steps, *shape) where that sends another value in
        every step.
        """
        host = self.inputs[0]
        shape = host.sample_shape or host.shape
        return (self.steps, *shape) if host.stepwise else shape

    @property
    def sample_steps(self) -> int:
        """Steps of a sample in which neurons run, all windows: the steps of a trace."""
        return self.windows * self.steps

    @property
    def latency(self) -> int:
        """Steps from a sample's first input to its last output."""
        return self.depth + (self.windows - 1) * self.period + self.steps

    @property
    def sample_period(self) -> int:
        """Steps from one sample to the next."""
        return self.windows * self.period

    @property
    def inputs(self) -> tuple[HostInput, ...]:
        """Populations that the host drives."""
        return tuple(p for p in self.populations if isinstance(p, HostInput))

    @property
    def depth(self) -> int:
        """The largest depth of any population, in steps."""
        return max(p.depth for p in self.populations)

    @cached_property
    def groups(self) -> tuple[tuple[Population, ...], ...]:
        """Populations that recurrent projections tie together, in topological order of all other
        projections.

        A population without recurrent projections is a group of its own. A cycle of other
        projections raises ValueError. Folded, a group is what a cycle through windows ties
        together.
        """
        if self.windows > 1:
            return window_groups(self.populations, self.projections)
        try:
            return step_groups(self.populations, self.projections)
        except ValueError as error:
            raise ValueError(f"circuit '{self.name}' has {error}") from error

    def topological(self) -> Iterator[Population]:
        """Populations such that sources come before destinations, recurrent projections aside; a
        cycle raises ValueError.
        """
        return (p for group in self.groups for p in group)

    def text(self) -> str:
        """The text form (tensors by dtype and shape only)."""
        items = (*self.populations, *self.projections, *self.readouts, *self.views)
        return print_graph(
            "circuit", self, items, ("populations", "projections", "readouts", "views", "tensors")
        )

    @classmethod
    def parse(cls, text: str, tensors: Mapping[str, np.ndarray]) -> CircuitGraph:
        """Inverse of :meth:`text`; NC2005 on any error."""
        name, fields, items = parse(text, "circuit", KINDS, tensors)
        groups = {
            kind: tuple(i for i in items if isinstance(i, kind))
            for kind in (Population, Projection, Readout, View)
        }
        parts: dict[str, Any] = {
            "populations": groups[Population],
            "projections": groups[Projection],
        }
        parts |= {"readouts": groups[Readout], "views": groups[View], "tensors": tensors}
        return build(lambda name, **header: cls(name, **parts, **header), name, **fields)

    @property
    def items(self) -> tuple[Population | Projection | Readout | View, ...]:
        """All that rules look at."""
        return (*self.populations, *self.projections, *self.readouts, *self.views)

    def replace(self, **changes: Any) -> CircuitGraph:
        """A copy with fields changed."""
        return dataclasses.replace(self, **changes)


def powered(weight: np.ndarray, exponent: int) -> np.ndarray:
    """``weight * 2^exponent``, integers, of weights that are multiples of what a negative exponent
    divides by.
    """
    return weight >> -exponent if exponent < 0 else weight << exponent


def is_constant(graph: CircuitGraph, population: Population) -> bool:
    """True if the population emits the same in every step and sample: without a membrane that
    counts, and without input or a relay of such populations."""
    if isinstance(population, (GradedRelay, GradedRelu)):
        sources = [graph.population[q.src] for q in graph.incoming[population.name]]
        return all(isinstance(p, LIF) and is_constant(graph, p) for p in sources)
    return (
        isinstance(population, LIF) and not population.reset and not graph.incoming[population.name]
    )


def synapse_count(graph: CircuitGraph, projection: Projection) -> int:
    """Number of synapses (unrolled, without the zeros that a convolution's border drops) of a
    projection.
    """
    dst = graph.population[projection.dst]
    if isinstance(projection, Strided):
        return prod(projection.sizes)
    weight = graph.tensors[projection.weight]  # type: ignore[attr-defined]
    return weight.size if isinstance(projection, Dense) else dst.size * prod(weight.shape[1:])
