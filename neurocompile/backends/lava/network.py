"""A scheduled CircuitGraph as a network of Lava processes: one process a population, one a
projection.

The mapping is one to one, so that what Lava runs is what the chip runs: LIF becomes LIF or
LIFReset, GradedRelay GradedVec, GradedRelu GradedReluVec, and a projection Dense, Sparse or Conv
(DelayDense, DelaySparse for a delay above one step: every Lava connection takes one step itself, so
delay d is Lava's delay d - 1).

Three things that Lava does differently from its documentation shape this module. A mixed Dense or
Sparse clears the low ``9 - weight_bits`` bits of a weight (8 - weight_bits with one sign), so
mantissas are aligned to the top and ``weight_exp`` is lowered by as much. ``Conv`` ignores
``weight_exp``, convolves (kernels are flipped here), keeps its parameters in int8, and costs 5-25
microseconds for every pair of channels. A sign mode that is left out is guessed from the data, so
it is always given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurocompile.backends.lava.unroll import conv_csr, strided_csr
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    Conv2d,
    Dense,
    GradedRelay,
    GradedRelu,
    HostInput,
    Projection,
    Strided,
)
from neurocompile.ir.tables import KindTable
from neurocompile.ir.windows import host_rounds, rounds

__all__ = [
    "GRADED_BITS",
    "LONGEST_DELAY",
    "Network",
    "aligned_weights",
    "build",
    "closing",
    "takes_lava_conv",
    "total_steps",
]

GRADED_BITS = 24
LONGEST_DELAY = 63  # Lava checks 6 bits and adds its own step; Intel's netx keeps to 62 of them
_INT8_SAFE = 63  # Lava's Conv does int8 arithmetic on kernel, stride, padding, dilation and groups
_CONV_PAIRS = 64  # more pairs of channels than this are faster as one sparse matrix
_MAX_UNROLLED = 40_000_000  # synapses of an unrolled convolution (8 bytes each)


@dataclass
class Network:
    """Lava processes of a circuit, in an order in which each comes after those it receives from,
    but for recurrent connections, which come last."""

    circuit: CircuitGraph
    processes: list[Any] = field(default_factory=list)
    population: dict[str, Any] = field(default_factory=dict)
    """Process of each population, by name."""
    out: dict[str, Any] = field(default_factory=dict)
    """Out port of each population, by name."""
    recurrent: set[Any] = field(default_factory=set)
    """Recurrent connections."""


def total_steps(circuit: CircuitGraph, samples: int) -> int:
    """Steps that stream ``samples`` samples and let the last one reach the deepest population."""
    count = rounds(circuit, samples)
    return circuit.depth + (count - 1) * circuit.period + circuit.steps if count else 0


def closing(circuit: CircuitGraph) -> set[str]:
    """Projections whose source runs after their destination: recurrent ones, and what closes a
    folded circuit's memories.
    """
    place = {p.name: i for i, p in enumerate(circuit.topological())}
    return {q.name for q in circuit.projections if q.recurrent or place[q.src] >= place[q.dst]}


def build(
    circuit: CircuitGraph,
    *,
    samples: np.ndarray | None = None,
    reset_latency: int = 0,
    fast: bool = False,
    adapt: Callable[[Any, bool], Any] | None = None,
) -> Network:
    """Make the network; Lava must be importable.

    Args:
        samples: int32 (samples, *input shape) for the source; may be given to its model later.
        reset_latency: added to the step in which LIFReset resets (an input adapter's steps on
            hardware).
        fast: let Sparse take spikes as 1-bit payloads: the same sums by a product 5 to 10 times
            faster than Lava's gathering of columns.
        adapt: hardware's adapter of a source's port (and whether it feeds a Conv) to one on the
            chip. If given, Conv is used wherever it exists, whatever it would cost a CPU.
    """
    if circuit.period < circuit.steps or any(p.depth < 0 for p in circuit.populations):
        raise NeurocompileError(
            "NC9001", f"circuit '{circuit.name}' is not scheduled (period {circuit.period})"
        )
    network = Network(circuit)
    convs = {
        p.name
        for p in circuit.projections
        if isinstance(p, Conv2d) and takes_lava_conv(circuit, p, adapt is not None)
    }
    spatial = {end for p in circuit.projections if p.name in convs for end in (p.src, p.dst)}
    loops = closing(circuit)
    for population in circuit.topological():
        forward = [p for p in circuit.incoming[population.name] if p.name not in loops]
        incoming = [_projection(circuit, p, p.name in convs, fast) for p in forward]
        for projection, process in zip(forward, incoming):
            out = network.out[projection.src]
            if adapt is not None and isinstance(circuit.population[projection.src], HostInput):
                out = adapt(out, projection.name in convs)
            _connect(out, process.s_in)
        shape = population.shape if population.name in spatial else (population.size,)
        at = _Place(circuit, shape, samples, reset_latency)
        process = PROCESSES.of(population)(at, population)
        for connection in incoming:
            _connect(connection.a_out, process.a_in)
        network.processes += [*incoming, process]
        network.population[population.name] = process
        network.out[population.name] = process.s_out
    for projection in circuit.projections:  # once both ends exist
        if projection.name in loops:
            process = _projection(circuit, projection, projection.name in convs, fast)
            _connect(network.out[projection.src], process.s_in)
            _connect(process.a_out, network.population[projection.dst].a_in)
            network.processes.append(process)
            network.recurrent.add(process)
    return network


def _connect(out: Any, into: Any) -> None:
    (out if out.shape == into.shape else out.reshape(new_shape=into.shape)).connect(into)


@dataclass(frozen=True)
class _Place:
    """What rules of populations may look at."""

    circuit: CircuitGraph
    shape: tuple[int, ...]
    """Of the process."""
    samples: np.ndarray | None
    reset_latency: int


PROCESSES: KindTable[Callable[[_Place, Any], Any]] = KindTable(
    "Lava processes", ("population",), "which process it is"
)
"""(place, population) -> its process."""


@PROCESSES.rule(HostInput)
def _source(at: _Place, p: HostInput) -> Any:
    from neurocompile.backends.lava.processes.host import Source

    circuit, x = at.circuit, None
    if at.samples is not None:
        steps = (circuit.steps,) if p.stepwise else ()
        x = host_rounds(circuit, p, at.samples).reshape(-1, *steps, *at.shape)
    return Source(
        shape=at.shape,
        depth=p.depth,
        steps=circuit.steps,
        period=circuit.period,
        samples=x,
        stepwise=p.stepwise,
        name=p.name,
    )


@PROCESSES.rule(GradedRelay)
def _relay(at: _Place, p: GradedRelay) -> Any:
    from lava.proc.graded.process import GradedVec

    return GradedVec(shape=at.shape, vth=0)


@PROCESSES.rule(GradedRelu)
def _relu(at: _Place, p: GradedRelu) -> Any:
    from lava.proc.graded.process import GradedReluVec

    return GradedReluVec(shape=at.shape, vth=0)


@PROCESSES.rule(LIF)
def _lif(at: _Place, p: LIF) -> Any:
    from lava.proc.lif.process import LIF as LavaLIF
    from lava.proc.lif.process import LIFReset

    bias: Any = 0
    if p.bias is not None and at.circuit.tensors[p.bias].any():
        whole = np.broadcast_to(at.circuit.tensors[p.bias].astype(np.int32), p.shape)
        bias = np.ascontiguousarray(whole).reshape(at.shape)
    common = dict(
        shape=at.shape,
        du=p.du,
        dv=p.dv,
        vth=p.vth,
        bias_mant=bias,
        bias_exp=p.bias_exp,
        name=p.name,
    )
    if not p.reset:
        return LavaLIF(**common)
    # Lava's time_step starts at 1, so the first step of a sample is depth + 1 (mod period).
    offset = (p.depth + 1 + at.reset_latency) % at.circuit.period
    return LIFReset(**common, reset_interval=at.circuit.period, reset_offset=offset)


def aligned_weights(weights: np.ndarray, projection: Projection) -> tuple[np.ndarray, int]:
    """Mantissas that survive Lava's truncation to ``weight_bits``, and the exponent that keeps
    their value.

    NC9001 if a weight needs more bits than the projection claims.
    """
    unit_bits = 8 - projection.weight_bits + (projection.sign == "mixed")
    union = int(np.bitwise_or.reduce(np.abs(weights), axis=None)) if weights.size else 0
    shift = max(0, unit_bits - ((union & -union).bit_length() - 1)) if union else 0
    aligned = weights.astype(np.int32) << shift
    low, high = {"mixed": (-256, 255), "excitatory": (0, 255), "inhibitory": (-255, 0)}[
        projection.sign
    ]
    if aligned.size and (aligned.min() < low or aligned.max() > high):
        raise NeurocompileError(
            "NC9001",
            f"projection '{projection.name}': weights {weights.min()}..{weights.max()} "
            f"do not fit {projection.weight_bits} bits, {projection.sign}",
        )
    return aligned, projection.weight_exp - shift


def takes_lava_conv(circuit: CircuitGraph, projection: Conv2d, hardware: bool = False) -> bool:
    """Whether Lava's Conv can express the projection, and is the better choice."""
    src, dst = circuit.population[projection.src], circuit.population[projection.dst]
    c_out, k_h, k_w, c_in = circuit.tensors[projection.weight].shape
    small = (
        *projection.stride,
        *projection.padding,
        *projection.dilation,
        projection.groups,
        k_h,
        k_w,
    )
    if projection.delay != 1 or len(src.shape) != 3 or len(dst.shape) != 3:
        return False
    if hardware:
        return True
    unrolled = dst.size * k_h * k_w * c_in
    unmoved = aligned_weights(circuit.tensors[projection.weight], projection)[1] == 0
    legal = unmoved and max(small) <= _INT8_SAFE
    return legal and (c_out * c_in <= _CONV_PAIRS or unrolled > _MAX_UNROLLED)


def _projection(circuit: CircuitGraph, projection: Projection, as_conv: bool, fast: bool) -> Any:
    if projection.delay < 1:
        raise NeurocompileError(
            "NC9001", f"projection '{projection.name}' is not scheduled (delay {projection.delay})"
        )
    if projection.delay > LONGEST_DELAY:
        raise NeurocompileError(
            "NC3103",
            f"projection '{projection.name}' has a delay of {projection.delay} steps, "
            f"the limit of Lava and Loihi 2 is {LONGEST_DELAY}: insert a relay",
        )
    if as_conv:
        return _conv(circuit, projection)
    return CONNECTIONS.of(projection)(circuit, projection, fast)


CONNECTIONS: KindTable[Callable[[CircuitGraph, Any, bool], Any]] = KindTable(
    "Lava connections", ("projection",), "which process it is"
)
"""(circuit, scheduled projection, whether spikes may be 1-bit payloads) -> its process."""


def _message_bits(circuit: CircuitGraph, q: Projection) -> int:
    return 0 if circuit.population[q.src].spiking else GRADED_BITS


def _common(circuit: CircuitGraph, q: Projection) -> dict[str, Any]:
    from lava.utils.weightutils import SignMode

    return dict(
        num_weight_bits=q.weight_bits,
        num_message_bits=_message_bits(circuit, q),
        name=q.name,
        sign_mode=SignMode[q.sign.upper()],
    )


def _conv(circuit: CircuitGraph, q: Projection) -> Any:
    """Lava's Conv, where :func:`_as_conv` allows it."""
    from lava.proc.conv.process import Conv as LavaConv

    assert isinstance(q, Conv2d)
    weight, exponent = aligned_weights(circuit.tensors[q.weight], q)
    return LavaConv(
        weight=np.ascontiguousarray(weight[:, ::-1, ::-1]),
        weight_exp=exponent,
        input_shape=circuit.population[q.src].shape,
        padding=q.padding,
        stride=q.stride,
        dilation=q.dilation,
        groups=q.groups,
        num_weight_bits=q.weight_bits,
        num_message_bits=_message_bits(circuit, q),
        name=q.name,
    )


@CONNECTIONS.rule(Dense)
def _dense(circuit: CircuitGraph, q: Dense, fast: bool) -> Any:
    from lava.proc.dense.process import DelayDense
    from lava.proc.dense.process import Dense as LavaDense

    common = _common(circuit, q)
    weights, common["weight_exp"] = aligned_weights(circuit.tensors[q.weight], q)
    if q.delay == 1:
        return LavaDense(weights=weights, **common)
    return DelayDense(weights=weights, delays=q.delay - 1, **common)


@CONNECTIONS.rule(Conv2d)
def _unrolled(circuit: CircuitGraph, q: Conv2d, fast: bool) -> Any:
    src, dst = circuit.population[q.src], circuit.population[q.dst]
    return _sparse(circuit, q, conv_csr(q, circuit.tensors[q.weight], src.shape, dst.shape), fast)


@CONNECTIONS.rule(Strided)
def _strided(circuit: CircuitGraph, q: Strided, fast: bool) -> Any:
    src, dst = circuit.population[q.src], circuit.population[q.dst]
    return _sparse(circuit, q, strided_csr(q, src.size, dst.size), fast)


def _sparse(circuit: CircuitGraph, q: Projection, matrix: Any, fast: bool) -> Any:
    from lava.proc.sparse.process import DelaySparse, Sparse

    common, delay = _common(circuit, q), q.delay - 1
    matrix.data, common["weight_exp"] = aligned_weights(matrix.data, q)
    if fast and circuit.population[q.src].spiking:
        common["num_message_bits"] = 1
    if not delay:
        return Sparse(weights=matrix, **common)
    delays = matrix.astype(np.int64)
    delays.data[:] = delay
    return DelaySparse(weights=matrix, delays=delays, max_delay=delay, **common)
