"""SpikingGraph: what the model's author wrote, one node a layer, with time and batch implicit.

A value has the shape of one sample at one step, in the author's axis order (C, H, W). Each node
names its output. Nodes appear in topological order. Three stages share the class:

* ``imported``: as read from the file, floating point;
* ``canonical``: BatchNorm folded, LIF in one normal form, stateless LIFs recognized as OR, one
  TimeMean at the end;
* ``quantized``: integer weights, :class:`IntegerLIF`; everything up to the readout is exact integer
  arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir.layout import strided_index
from neurocompile.ir.text import Ref, TensorRef, build, parse, print_graph

__all__ = [
    "LIF",
    "Add",
    "BatchNorm",
    "Conv2d",
    "Input",
    "IntegerIntegrator",
    "IntegerLIF",
    "Integrator",
    "Linear",
    "MatMul",
    "MaxPool2d",
    "Mul",
    "Node",
    "Offset",
    "Or",
    "Output",
    "RateSoftmax",
    "Rearrange",
    "Scale",
    "Shift",
    "SoftIntegerLIF",
    "Softmax",
    "SpikingGraph",
    "Sum",
    "SumPool2d",
    "TimeMean",
    "TimeSum",
]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A layer; ``name`` is also the name of its output value."""

    name: str

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """Values read."""
        return tuple(
            v
            for v in (getattr(self, f.name) for f in dataclasses.fields(self))
            if isinstance(v, Ref)
        )

    @property
    def tensors(self) -> tuple[TensorRef, ...]:
        """Tensors read."""
        return tuple(
            v
            for v in (getattr(self, f.name) for f in dataclasses.fields(self))
            if isinstance(v, TensorRef)
        )


@dataclass(frozen=True, kw_only=True)
class Input(Node):
    """The model's input, the same in every step or, such as frames of events, one value a step.

    Quantized: ``x_int = clip(rint(x / unit), low, high)``.
    """

    shape: tuple[int, ...]
    """In one step."""
    unit: float = 0.0
    low: int = 0
    high: int = 0
    steps: int = 0
    """Steps that a sample brings, the only T that the model runs at; 0 if it is the same in every
    step of any T.
    """

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample: (steps, *shape) if it brings its steps."""
        return (self.steps, *self.shape) if self.steps else self.shape

    def check_steps(self, T: int) -> None:
        """NC1021 if a sample has another number of steps than ``T``."""
        if self.steps and T != self.steps:
            raise NeurocompileError(
                "NC1021",
                f"T is {T}, and a sample of input '{self.name}' brings {self.steps} steps of its own, "
                f"{list(self.sample_shape)}: build it with T = {self.steps}, or export the model with {T} frames a sample",
            )


@dataclass(frozen=True, kw_only=True)
class Conv2d(Node):
    """Cross-correlation of (C, H, W) with ``weight`` (C', C / groups, kH, kW), plus ``bias`` (C',).

    Quantized: times ``2^exponent``.
    """

    x: Ref
    weight: TensorRef
    bias: TensorRef | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    exponent: int = 0


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """``x @ weight.T + bias`` over the last axis; ``weight`` (out, in). Quantized: times
    ``2^exponent``.
    """

    x: Ref
    weight: TensorRef
    bias: TensorRef | None = None
    exponent: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """``(x - mean) / sqrt(var + eps) * scale + shift`` a channel, along ``axis`` (inference mode)."""

    x: Ref
    scale: TensorRef
    shift: TensorRef
    mean: TensorRef
    var: TensorRef
    eps: float
    axis: int = 0


@dataclass(frozen=True, kw_only=True)
class LIF(Node):
    """Leaky integrate and fire with SpikingJelly's parameters, over the steps of a sample, from ``v
    = v_reset``::

        h = v + (x' - (v - v_reset)) / tau     decay_input
        h = v - (v - v_reset) / tau + x'       not decay_input
        s = h >= v_threshold
        v = h - subtract * s                   soft_reset (then v_reset counts as 0)
        v = v_reset where s else h             hard reset

    with ``x' = gain * x + bias`` or, where a synapse keeps a share ``current`` of its current from
    step to step, ``x' = current * x'(t - 1) + gain * x + bias``. Canonical form: ``decay_input``
    off and ``v_reset`` 0. ``tau = inf`` is IF; ``tau = 1`` has no memory.

    With several thresholds, a soft reset only, s is a number of spikes, 0..levels: how many of
    ``v_threshold`` and ``more`` h reaches.
    """

    x: Ref
    tau: float | TensorRef
    """Steps; or those of each channel, which broadcast against the shape (then ``decay_input`` is
    off).
    """
    v_threshold: float
    v_reset: float = 0.0
    decay_input: bool = True
    soft_reset: bool = False
    gain: float = 1.0
    bias: TensorRef | None = None
    subtract: float | None = None
    """What one spike takes from the membrane, before the leak; ``v_threshold`` if None, 0 for a
    neuron that is never reset.
    """
    more: tuple[float, ...] = ()
    """Further thresholds, rising."""
    current: float = 0.0
    """0..1; only with a hard reset (a soft one reads an Integrator)."""

    @property
    def taken(self) -> float:
        """What one spike takes from the membrane of a neuron with soft reset."""
        return self.v_threshold if self.subtract is None else self.subtract

    @property
    def levels(self) -> int:
        """The largest number of spikes in a step."""
        return 1 + len(self.more)

    @property
    def memoryless(self) -> bool:
        """Nothing of one step reaches the next."""
        return not isinstance(self.tau, TensorRef) and self.tau == 1.0


@dataclass(frozen=True, kw_only=True)
class Integrator(Node):
    """``y = decay * y(t - 1) + x``, a real value: a synaptic current, or a membrane that never
    fires. From 0 in a sample's first step.
    """

    x: Ref
    decay: float
    """0..1."""


@dataclass(frozen=True, kw_only=True)
class IntegerIntegrator(Node):
    """The quantized Integrator, its positive and its negative part, of which one is 0::

        p = max(floor(p * weight / 2^7) + floor(-m * weight / 2^7) + x, 0)
        m = max(floor(m * weight / 2^7) + floor(-p * weight / 2^7) - x, 0)
        y = p - m

    with p and m of the step before on the right.
    """

    x: Ref
    weight: int
    """0..128."""
    largest: int = 0
    """Bound of ``|y|`` within a sample."""


@dataclass(frozen=True, kw_only=True)
class IntegerLIF(Node):
    """The quantized LIF, in units of 2^-6 of the input::

    u = trunc0(u * (4096 - current) / 4096) + gain * x * 2^6
    h = clip(trunc0(v * (4096 - dv) / 4096) + u + bias * 2^bias_exp, +-(2^23 - 1))
    s = h > vth * 2^6;   v = 0 where s else h
    """

    x: Ref
    vth: int | TensorRef
    """0..131071; or int32 that broadcast against the shape: channels that count in units of their
    own.
    """
    dv: int | TensorRef
    """0..4095; or int32 that broadcast against the shape."""
    gain: int = 1
    bias: TensorRef | None = None
    bias_exp: int = 0
    current: int = 4096
    """1..4096, the decay of the synaptic current; 4096 keeps none of it."""


@dataclass(frozen=True, kw_only=True)
class SoftIntegerLIF(Node):
    """The quantized LIF with soft reset, in units of 2^-6 of the input; ``reset`` is (1 -
    decay/4096) times what a spike takes, rounded, such as the threshold::

        h = trunc0(h * (4096 - decay) / 4096) + 2^6 (floor((gain * x + bias) / 2^shift) - reset * s)
        s = number of theta in (threshold, *more) with h >= theta * 2^6

    with h and s of the step before on the right.
    """

    x: Ref
    threshold: int
    reset: int | TensorRef
    decay: int | TensorRef
    """0..4096; 0 for integrate and fire, 4096 without memory. It and ``reset``: one, or int32 of
    one shape that broadcast against the node's.
    """
    gain: int = 1
    bias: TensorRef | None = None
    """int32, in units of ``gain * x``."""
    shift: int = 0
    """0..7."""
    more: tuple[int, ...] = ()
    """Further thresholds, rising; two may be equal."""

    @property
    def levels(self) -> int:
        """The largest number of spikes in a step."""
        return 1 + len(self.more)


@dataclass(frozen=True, kw_only=True)
class Or(Node):
    """``s = x >= 1`` on integers >= 0: a LIF that any input makes fire, and that therefore keeps no
    state.
    """

    x: Ref


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """``a + b``, shapes broadcast."""

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class Mul(Node):
    """``a * b`` (Hadamard), shapes broadcast."""

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class MatMul(Node):
    """``a @ b`` over the last two axes."""

    a: Ref
    b: Ref


@dataclass(frozen=True, kw_only=True)
class Scale(Node):
    """``factor * x``."""

    x: Ref
    factor: float


@dataclass(frozen=True, kw_only=True)
class Sum(Node):
    """Sum over ``axes`` (removed, unless ``keepdims``)."""

    x: Ref
    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True, kw_only=True)
class MaxPool2d(Node):
    """Largest value of each window of (C, H, W); the border counts as minus infinity."""

    x: Ref
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    more: tuple[int, int] = (0, 0)
    """Border behind the last row and column beyond ``padding``; less of it where negative."""


@dataclass(frozen=True, kw_only=True)
class SumPool2d(Node):
    """Sum of each window of (C, H, W); the border counts as 0. Average pooling is this and a Scale."""

    x: Ref
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    more: tuple[int, int] = (0, 0)
    """Border behind the last row and column beyond ``padding``; less of it where negative."""


@dataclass(frozen=True, kw_only=True)
class Offset(Node):
    """``x + offset``, which broadcasts against ``x``: a bias in front of what needs it added, such
    as a product.
    """

    x: Ref
    offset: TensorRef


@dataclass(frozen=True, kw_only=True)
class Shift(Node):
    """``floor(x / 2^bits)``: a graded value in a coarser unit. Quantized graphs only."""

    x: Ref
    bits: int


@dataclass(frozen=True, kw_only=True)
class Rearrange(Node):
    """Reshape, permute and slice: element i of the result (row-major over ``shape``) is element
    ``offset + sum_k i_k * strides[k]`` of ``x``, where i_k are the digits of i in the mixed radix
    ``sizes``."""

    x: Ref
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def apply(self, array: np.ndarray, leading: int = 0) -> np.ndarray:
        """The rearranged array; the first ``leading`` axes are kept."""
        kept, index = array.shape[:leading], strided_index(self.sizes, self.strides, self.offset)
        return array.reshape((*kept, -1))[..., index].reshape((*kept, *self.shape))


@dataclass(frozen=True, kw_only=True)
class TimeMean(Node):
    """Mean over the steps of a sample, the same in every step."""

    x: Ref


@dataclass(frozen=True, kw_only=True)
class TimeSum(Node):
    """Sum over all ``steps`` steps of a sample, the same in every step: the quantized TimeMean
    inside of a model, in units of 1/steps. Quantized graphs only."""

    x: Ref
    steps: int
    largest: int = 0
    """Largest magnitude of a partial sum, where more is known than interval arithmetic finds; 0 for
    unknown.
    """


@dataclass(frozen=True, kw_only=True)
class Softmax(Node):
    """``softmax(gain * x)`` over the last axis, of a value that is constant over the steps (a
    TimeMean).
    """

    x: Ref
    gain: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RateSoftmax(Node):
    """The quantized Softmax: spikes whose rates over the steps are the softmax, along the last axis
    of a constant ``x``::

        N = number of k with  max(x - max x + span, 0) >> shift  >=  thresholds[k]
        s_j(t) = floor(((t + 1) N_j + o_j) / S) - floor((t N_j + o_j) / S),    S = sum N,  o_j = a_j S >> 5

    The thresholds, int32 and rising, make N proportional to ``exp(gain x)``, rounded. s is 0 or 1:
        N of one row is at most S.
    a_j is 1, 17, 9, 25, 5, .. of 32, so that equal scores take turns
    (:mod:`neurocompile.circuits.normalize`).
    """

    x: Ref
    thresholds: TensorRef
    span: int
    shift: int = 0
    """0..7."""


@dataclass(frozen=True, kw_only=True)
class Output(Node):
    """The logits ``unit * (x + bias)``; canonical and quantized graphs: of a TimeMean.

    ``per_step``: the model gives one set of logits a step. Their mean over time is the value of
        this node all the same.
    """

    x: Ref
    unit: float = 1.0
    bias: TensorRef | None = None
    per_step: bool = False
    shape: tuple[int, ...] | None = None
    """Of the logits, where it is not that of x, whose elements they are; one number is ()."""


KINDS = {
    c.__name__: c
    for c in (
        Input,
        Conv2d,
        Linear,
        BatchNorm,
        LIF,
        Integrator,
        IntegerIntegrator,
        IntegerLIF,
        SoftIntegerLIF,
        Or,
        Add,
        Mul,
        MatMul,
        Scale,
        Offset,
        Shift,
        Sum,
        SumPool2d,
        MaxPool2d,
        Rearrange,
        TimeMean,
        TimeSum,
        Softmax,
        RateSoftmax,
        Output,
    )
}


_CHANGING = (LIF, Integrator, IntegerIntegrator, IntegerLIF, SoftIntegerLIF, Or, RateSoftmax)
"""Nodes whose value changes over the steps though what they read may not."""


@dataclass(frozen=True)
class SpikingGraph:
    """Nodes in topological order and their tensors. Immutable: passes return new graphs."""

    name: str
    stage: str
    """imported, canonical or quantized."""
    nodes: tuple[Node, ...]
    tensors: Mapping[str, np.ndarray]
    exported_T: int = 0
    """Steps the file was exported with, for information; 0 if unknown."""

    @cached_property
    def node(self) -> dict[str, Node]:
        """Nodes by name."""
        return {n.name: n for n in self.nodes}

    @cached_property
    def users(self) -> dict[str, tuple[Node, ...]]:
        """Nodes that read a value, by the value's name."""
        found: dict[str, list[Node]] = {n.name: [] for n in self.nodes}
        for n in self.nodes:
            for x in n.inputs:
                found[x].append(n)
        return {name: tuple(users) for name, users in found.items()}

    @property
    def input(self) -> Input:
        """The one input."""
        return next(n for n in self.nodes if isinstance(n, Input))

    @property
    def output(self) -> Output:
        """The one output."""
        return next(n for n in self.nodes if isinstance(n, Output))

    @cached_property
    def constants(self) -> frozenset[str]:
        """Values that are the same in every step of a sample, whatever the input."""
        found: set[str] = set()
        for node in self.nodes:
            varies = isinstance(node, _CHANGING) or isinstance(node, Input) and node.steps > 0
            if (
                isinstance(node, (TimeMean, TimeSum))
                or not varies
                and found.issuperset(node.inputs)
            ):
                found.add(node.name)
        return frozenset(found)

    @property
    def spiking_layers(self) -> tuple[Node, ...]:
        """The nodes whose output is spikes: the layers that parity compares."""
        return tuple(n for n in self.nodes if isinstance(n, (LIF, IntegerLIF, SoftIntegerLIF, Or)))

    def text(self) -> str:
        """The text form (tensors by dtype and shape only)."""
        return print_graph("spiking", self, self.nodes, ("nodes", "tensors"))

    @classmethod
    def parse(cls, text: str, tensors: Mapping[str, np.ndarray]) -> SpikingGraph:
        """Inverse of :meth:`text`; NC2005 on any error."""
        name, fields, nodes = parse(text, "spiking", KINDS, tensors)
        return build(
            lambda name, **header: cls(name, nodes=tuple(nodes), tensors=tensors, **header),
            name,
            **fields,
        )

    def replace(self, **changes: object) -> SpikingGraph:
        """A copy with fields changed."""
        return dataclasses.replace(self, **changes)
