"""What is legal in a CircuitGraph, lowered and scheduled, checked after every pass."""

from __future__ import annotations

from math import prod

import numpy as np

from neurocompile.ir import circuit as c
from neurocompile.ir import fields as most
from neurocompile.ir.rules import Rule, broken, divides, raise_broken, unless
from neurocompile.ir.significance import bits_needed, values_of

__all__ = ["CIRCUIT_RULES", "IS_SCHEDULED", "IS_UNSCHEDULED", "PRIVATE_LOOPS", "check_circuit"]


def _shared_source(graph: c.CircuitGraph) -> str:
    """A population that loops and others read; empty if there is none."""
    looped = {q.src for q in graph.projections if q.recurrent}
    others = {q.src for q in graph.projections if not q.recurrent}
    others |= {r.src for r in graph.readouts} | {v.src for v in graph.views}
    return min(looped & others, default="")


_ONE_SIGN = {"excitatory": (0, most.WEIGHT), "inhibitory": (-most.WEIGHT, 0), "mixed": most.MIXED}


def _weight_range(g: c.CircuitGraph, p: c.Projection) -> str | None:
    values = values_of(g, p)
    if p.sign not in _ONE_SIGN or not 1 <= p.weight_bits <= most.WEIGHT_BITS:
        return f"sign mode {p.sign!r} with {p.weight_bits}-bit weights"
    low, high = _ONE_SIGN[p.sign]
    if values.min(initial=0) < low or values.max(initial=0) > high:
        return f"{p.sign} weights {values.min()}..{values.max()} leave {low}..{high}"
    if p.sign == "mixed" and (values % 2).any():
        return "mixed weights are not even"
    need = bits_needed(values, p.sign)
    return unless(need <= p.weight_bits, f"{p.sign} {p.weight_bits}-bit weights need {need} bits")


def _single_product(g: c.CircuitGraph, p: c.Projection) -> bool:
    """The only product that is rounded at its destination: ``floor(y + n) = floor(y) + n`` in any
    order of sums for the integers n that arrive besides. The positive and the negative part of one
    value, of which one is 0, count as one.
    """
    rounded = [q for q in g.incoming[p.dst] if q.weight_exp < 0 and isinstance(q, c.Strided)]
    halves = (
        len(rounded) == 2
        and all(isinstance(g.population[q.src], c.GradedRelu) and q.recurrent for q in rounded)
        and {q.sign for q in rounded} == {"excitatory", "inhibitory"}
    )
    return (
        (len(rounded) == 1 or halves)
        and isinstance(p, c.Strided)
        and all(stride for n, stride in zip(p.sizes, p.dst_strides) if n > 1)
    )


def _strided_bounds(g: c.CircuitGraph, p: c.Strided) -> str | None:
    src, dst = g.population[p.src], g.population[p.dst]
    for side, offset, strides, size in (
        ("source", p.src_offset, p.src_strides, src.size),
        ("destination", p.dst_offset, p.dst_strides, dst.size),
    ):
        ends = [(n - 1) * stride for n, stride in zip(p.sizes, strides)]
        if (
            offset + sum(min(e, 0) for e in ends) < 0
            or offset + sum(max(e, 0) for e in ends) >= size
        ):
            return f"leaves the {side}'s {size} neurons"
    loops = sorted((abs(d), n) for n, d in zip(p.sizes, p.dst_strides) if d and n > 1)
    reach = 0
    for stride, n in loops:
        if stride <= reach:
            return "two of its synapses meet in one destination without a 0 stride"
        reach += stride * (n - 1)
    return None


def _conv_shape(g: c.CircuitGraph, p: c.Conv2d) -> str | None:
    src, dst, weight = g.population[p.src], g.population[p.dst], g.weight(p)
    assert weight is not None
    if len(src.shape) != 3 or len(dst.shape) != 3:
        return "joins populations that are not (H, W, C)"
    out = [
        (n + 2 * pad - d * (k - 1) - 1) // stride + 1
        for n, pad, d, k, stride in zip(
            src.shape, p.padding, p.dilation, weight.shape[1:3], p.stride
        )
    ]
    good = (*out, weight.shape[0]) == dst.shape and weight.shape[3] * p.groups == src.shape[2]
    return unless(good, f"weight {weight.shape} does not join {src.shape} and {dst.shape}")


def _balanced(g: c.CircuitGraph, p: c.Projection) -> str | None:
    src, dst = g.population[p.src], g.population[p.dst]
    if p.delay < 1 or src.depth < 0 or dst.depth < 0:
        return "is not scheduled"
    if p.recurrent:
        return unless(
            p.delay == 1 and dst.depth == src.depth,
            f"recurrent with delay {p.delay}, depths {src.depth}, {dst.depth}",
        )
    steps = dst.depth - src.depth + p.lag * g.period
    balanced = c.is_constant(g, src) or steps == p.delay + p.advance
    lag = f", lag {p.lag}" if p.lag else ""
    return unless(
        balanced,
        f"delay {p.delay} and advance {p.advance}{lag} join depths {src.depth}, {dst.depth}",
    )


def _windows(g: c.CircuitGraph, p: c.HostInput) -> str | None:
    if g.windows == 1:
        return unless(
            not (p.places or p.pattern or p.sample_shape), "brings pieces, and nothing is folded"
        )
    if (p.places is None) == (p.pattern is None):
        return "brings either pieces of the sample or a pattern in each window"
    if p.pattern is not None:
        table = g.tensors[p.pattern]
        good = table.dtype == np.uint8 and table.shape == (g.windows, *p.shape)
        return unless(good, f"pattern @{p.pattern} is {table.dtype} {table.shape}")
    table = g.tensors[p.places]  # type: ignore[index]
    positions = int(np.prod(p.sample_shape[:-1])) if p.sample_shape else 0
    good = (
        table.dtype == np.int32
        and table.shape == (g.windows, *p.shape[:-1])
        and p.sample_shape[-1:] == p.shape[-1:]
        and table.min(initial=0) >= -1
        and table.max(initial=-1) < positions
    )
    return unless(good, f"places @{p.places} {table.shape} of a sample {p.sample_shape}")


def _slots_fit(g: c.CircuitGraph, slots: tuple[tuple[int, int], ...]) -> bool:
    good = all(
        isinstance(digit, tuple) and len(digit) == 2 and digit[0] >= 1 and digit[1] >= 0
        for digit in slots
    )
    return good and (not slots or sum((n - 1) * apart for n, apart in slots) < g.windows)


def _reads_all(graph: c.CircuitGraph, readout: c.Readout) -> bool:
    size = graph.population[readout.src].size
    shape = (size,) if readout.shape is None else readout.shape
    bias = shape if readout.bias is None else graph.tensors[readout.bias].shape
    try:
        return prod(shape) == size and np.broadcast_shapes(shape, bias) == shape
    except (TypeError, ValueError):
        return False


IS_UNSCHEDULED = Rule(
    "the circuit has no depths and delays yet",
    (c.CircuitGraph,),
    lambda g, _: unless(not g.period, f"has a period of {g.period} steps"),
)
IS_SCHEDULED = Rule(
    "the circuit has depths, delays and a period",
    (c.CircuitGraph,),
    lambda g, _: unless(g.period >= g.steps, "has no period"),
)
PRIVATE_LOOPS = Rule(
    "nothing but loops reads what a recurrent projection reads",
    (c.CircuitGraph,),
    lambda g, _: unless(not (found := _shared_source(g)), f"%{found} is read elsewhere too"),
)

CIRCUIT_RULES: tuple[Rule, ...] = (
    Rule(
        "thresholds have 17 bits, decays 12 (or all of the voltage), bias mantissas -4096..4095 with exponent 0..7",
        (c.LIF,),
        lambda g, p: unless(
            0 <= p.vth <= most.THRESHOLD
            and 0 <= p.dv <= most.ALL
            and 0 <= p.du <= most.INSTANT
            and 0 <= p.bias_exp <= most.BIAS_EXPONENT
            and (p.bias is None or np.abs(g.tensors[p.bias] + 0.5).max() <= most.MANTISSA + 0.5),
            f"vth {p.vth}, dv {p.dv}, du {p.du}, bias_exp {p.bias_exp}",
        ),
    ),
    Rule(
        "weights lie in their sign mode's range, even if mixed, and are numbers of their bits times a common power of two",
        (c.Projection,),
        _weight_range,
    ),
    Rule(
        "weight exponents are 0..7, or down to -7 where that divides every weight: no shift rounds, except that of a "
        "single product (one to one, the only one that rounds)",
        (c.Projection,),
        lambda g, p: unless(
            0 <= p.weight_exp <= most.WEIGHT_EXPONENT
            or (-most.SHIFT <= p.weight_exp < 0 and _single_product(g, p))
            or (not isinstance(p, c.Strided) and divides(values_of(g, p), p.weight_exp)),
            f"weight_exp {p.weight_exp}",
        ),
    ),
    Rule(
        "strided patterns stay inside and reach each destination once a step of its loops",
        (c.Strided,),
        _strided_bounds,
    ),
    Rule("convolutions join (H, W, C) populations of matching sizes", (c.Conv2d,), _conv_shape),
    Rule(
        "a matrix has a row a destination and a column a source",
        (c.Dense,),
        lambda g, p: unless(
            g.weight(p).shape == (g.population[p.dst].size, g.population[p.src].size),
            f"weight {g.weight(p).shape}",
        ),
    ),
    Rule(
        "a readout is a graded population",
        (c.Readout,),
        lambda g, r: unless(not g.population[r.src].spiking, "reads spikes"),
    ),
    Rule(
        "a readout's shape and bias are of its population's size",
        (c.Readout,),
        lambda g, r: unless(_reads_all(g, r), f"shape {r.shape} of {g.population[r.src].size}"),
    ),
    Rule(
        "recurrent projections join neurons, not the host or constants",
        (c.Projection,),
        lambda g, p: unless(
            not p.recurrent
            or not (
                isinstance(g.population[p.src], c.HostInput)
                or c.is_constant(g, g.population[p.src])
            ),
            f"recurrent from %{p.src}",
        ),
    ),
    Rule(
        "a projection advances by less than T steps, and a recurrent one not at all",
        (c.Projection,),
        lambda g, p: unless(
            p.advance == 0 or (0 < p.advance < g.steps and not p.recurrent), f"advance {p.advance}"
        ),
    ),
    Rule(
        "paths are balanced: delay + advance = difference of depths + lag * period; a recurrent projection takes 1 step within one depth",
        (c.Projection,),
        _balanced,
        ("scheduled",),
    ),
    Rule(
        "folded circuits have lags, slots and hosts' pieces within their windows; others have none",
        (c.Population, c.Projection),
        lambda g, p: unless(
            _slots_fit(g, p.slots)
            if isinstance(p, c.Population)
            else abs(p.lag) < g.windows and not (g.windows > 1 and (p.recurrent or p.advance)),
            f"slots {p.slots}" if isinstance(p, c.Population) else f"lag {p.lag}",
        ),
    ),
    Rule(
        "the host brings a piece of the sample, or a pattern, in each window of a folded circuit",
        (c.HostInput,),
        _windows,
    ),
    Rule(
        "a graded connection has delay 1, or what the target carries (delay.graded_delay)",
        (c.Projection,),
        lambda g, p: unless(
            p.delay <= max(g.graded_delay, 1) or g.population[p.src].spiking,
            f"graded with delay {p.delay}",
        ),
        ("scheduled",),
    ),
)


def check_circuit(graph: c.CircuitGraph, after: str) -> None:
    """NC2004 unless ``graph`` keeps the rules; those of scheduled graphs too once it has a period."""
    names = [p.name for p in graph.populations]
    complaints = [
        f"%{n}: is defined twice" for n in sorted({n for n in names if names.count(n) > 1})
    ]
    joining: tuple[c.Projection | c.Readout | c.View, ...] = (
        *graph.projections,
        *graph.readouts,
        *graph.views,
    )
    for p in joining:
        ends = (p.src, p.dst) if isinstance(p, c.Projection) else (p.src,)
        complaints += [
            f"%{p.name}: joins %{end}, which is not there"
            for end in ends
            if end not in graph.population
        ]
    raise_broken(complaints, after)
    items = (*graph.populations, *graph.projections, *graph.readouts, *graph.views)
    raise_broken(
        list(broken(CIRCUIT_RULES, graph, items, "scheduled" if graph.period else "lowered")), after
    )
