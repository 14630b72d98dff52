"""Products of spikes while positions pass in time.

What runs over channels stays in a window. What runs over positions needs all windows: K^T V is
summed step by step over the windows of a sample, held, and met by the queries, which wait. Q K^T is
never formed: Q (K^T V) is the same integers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.circuits.builder import compact, loops, strided
from neurocompile.folding import memory
from neurocompile.folding.slots import Slots, Unfoldable
from neurocompile.folding.values import (
    Driven,
    Memory,
    Part,
    Real,
    Scores,
    Spikes,
    Total,
    Value,
    joined,
    split,
)
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL
from neurocompile.ir.layout import Layout

if TYPE_CHECKING:
    from neurocompile.folding.lower import Lowering

__all__ = ["any_of", "hadamard", "matmul"]

_FORGET = ALL - 1


def _pair(low: Lowering, node: s.Node, a: str, b: str) -> tuple[Value, Value, Slots]:
    """Two values of spikes as populations in one schedule."""
    values = [low.values[a], low.values[b]]
    slots: list[Slots] = []
    for value in values:
        base = value.base
        if not isinstance(base, Spikes) or not base.single:
            raise low.refused(node, "multiplies what is no layer of spikes")
        slots.append(base.parts[0].slots)
    error = Unfoldable("no schedule")
    for reader in dict.fromkeys(slots):
        try:
            return low.aligned(node, a, reader), low.aligned(node, b, reader), reader
        except Unfoldable as found:
            error = found
    raise error


def _population(value: Value) -> str:
    base = value.base
    assert isinstance(base, Spikes)
    return base.parts[0].population


def any_of(low: Lowering, node: s.Or) -> Value:
    """Whether anything is there: a neuron of threshold 0, or, over all positions, one that
    remembers.
    """
    value = low.values[node.x]
    if isinstance(value.base, Total):
        return _mask(low, node, value)
    shape, scale = low.map_of(value.base)
    if isinstance(value.base, Driven):
        choices = [value.base.slots]
    else:
        choices = low.schedules.candidates(shape[:2], scale, low.schedules.is_wide(node))
    error = Unfoldable("no schedule")
    for reader in choices:
        try:
            low.stray = {}
            made = low.sum_of(
                node.name, (value.base,), reader, shape, c.LIF, node.name, vth=0, dv=ALL
            )
        except Unfoldable as found:
            error = found
            continue
        if made in low.stray:
            low.net.close(made, reader.digits, low.stray[made], node.name)
        return low.spikes(node.name, made, reader, shape, scale, value.layout)
    raise error


def _mask(low: Lowering, node: s.Or, value: Value) -> Value:
    """The OR over all positions, once they all have passed."""
    total = value.base
    assert isinstance(total, Total)
    base = total.x.base
    if not isinstance(base, Spikes):
        raise low.refused(node, "asks for real values over all positions")
    (_, _, channels), _ = low.map_of(base)
    net = low.net
    last = max(p.slots.last for p in base.parts)
    source = net.population(
        c.LIF,
        f"{node.name}.any",
        (channels,),
        node.name,
        net.need((p.population, 0) for p in base.parts),
        vth=0,
        dv=ALL,
    )
    for part in base.parts:
        lanes = int(np.prod(part.slots.lanes))
        net.drive(source, [strided(part.population, (lanes, channels), (channels, 1), (0, 1))])
    seen = memory.spike_memory(low, node.name, f"{node.name}.seen", source, last)
    # a second loop, loaded once the first is complete: in the frame of its readers
    lag = -seen.ahead
    depth = net.need([(seen.population, lag)])
    fields = {"vth": 0, "dv": ALL}
    load = net.population(
        c.LIF, f"{node.name}.load", (channels,), node.name, depth, ((1, 0),), **fields
    )
    net.drive(load, [strided(seen.population, (channels,), (1,), (1,))], lag)
    net.close(load, ((1, 0),), 1, node.name)
    held = memory.spike_memory(low, node.name, node.name, load, last)
    layout = value.layout
    sizes = tuple(a.size for dim in layout.dims for a in dim)
    strides = tuple(a.stride for dim in layout.dims for a in dim)
    low.builder.views.append(
        c.View(
            name=low.builder.name(f"view.{node.name}"),
            layer=node.name,
            src=_ref(held.population),
            shape=layout.shape,
            sizes=sizes,
            strides=strides,
        )
    )
    return Value(Memory(held.population, channels, 1), layout)


def _ref(name: str):  # type: ignore[no-untyped-def]
    from neurocompile.ir.text import Ref

    return Ref(name)


def hadamard(low: Lowering, node: s.Mul) -> Value:
    """``a * b``, one of them perhaps one value for all channels of a head, or for all positions."""
    a, b = low.values[node.a], low.values[node.b]
    if isinstance(a.base, Memory):
        return _masked(low, node, node.b, a)
    if isinstance(b.base, Memory):
        return _masked(low, node, node.a, b)
    if np.prod(a.layout.shape) > np.prod(b.layout.shape):
        node_a, node_b = node.b, node.a
    else:
        node_a, node_b = node.a, node.b
    a, b, slots = _pair(low, node, node_a, node_b)
    return _gate(low, node, (a, b), slots)


def _ranked(layout: Layout, rank: int) -> Layout:
    return Layout((*[()] * (rank - len(layout.dims)), *layout.dims))


def _gate(low: Lowering, node: s.Node, pair: tuple[Value, Value], slots: Slots) -> Value:
    """One AND for each element of the second value."""
    a, b = pair
    shape, scale = low.map_of(b.base)
    small = low.map_of(a.base)[0][2]
    rank = len(b.layout.dims)
    positions, inner = split(b.layout, shape[2])
    places, narrow = split(_ranked(a.layout, rank), small)
    if places.simplified() != positions.simplified():
        raise low.refused(node, "multiplies values whose positions lie in different ways")
    net, lanes = low.net, int(np.prod(slots.lanes))
    sizes, src, dst = loops(narrow, inner)
    names = _population(a), _population(b)
    made = net.population(
        c.LIF,
        node.name,
        (*slots.lanes, shape[2]),
        low.layer(node),
        net.need((n, 0) for n in names),
        slots.digits,
        vth=1,
        dv=_FORGET,
    )
    q = strided(names[0], (lanes, *sizes), (small, *src), (shape[2], *dst))
    net.drive(made, [q, strided(names[1], (lanes * shape[2],), (1,), (1,))])
    low.schedules.own(made, node.name)
    return Value(Spikes(node.name, shape, scale, (Part(made, slots),)), b.layout)


def _masked(low: Lowering, node: s.Mul, name: str, mask: Value) -> Value:
    """Spikes that one value for all positions lets pass; they wait for it."""
    value = low.aligned(node, name)
    if not isinstance(value.base, Spikes):
        raise low.refused(node, "multiplies real values by a mask")
    shape, scale = value.base.shape, value.base.scale
    slots = value.base.parts[0].slots
    held = mask.base
    assert isinstance(held, Memory)
    _, inner = split(value.layout, shape[2])
    rank = max(len(inner.dims), len(mask.layout.dims))
    sizes, src, dst = loops(_ranked(mask.layout, rank), _ranked(inner, rank))
    net, lanes = low.net, int(np.prod(slots.lanes))
    lag = -held.ahead
    source = _population(value)
    made = net.population(
        c.LIF,
        node.name,
        (*slots.lanes, shape[2]),
        low.layer(node),
        net.need([(source, 0), (held.population, lag)]),
        slots.digits,
        vth=1,
        dv=_FORGET,
    )
    net.drive(made, [strided(source, (lanes * shape[2],), (1,), (1,))])
    q = strided(held.population, (lanes, *sizes), (0, *src), (shape[2], *dst))
    net.drive(made, [q], lag)
    low.schedules.own(made, node.name)
    return Value(Spikes(node.name, shape, scale, (Part(made, slots),)), value.layout)


def matmul(low: Lowering, node: s.MatMul) -> Value:
    """K^T V over positions, Q (K^T V) over channels; (Q K^T) V becomes the latter."""
    a, b = low.values[node.a], low.values[node.b]
    if isinstance(b.base, Memory):
        return _query(low, node, node.a, a, b)
    if isinstance(a.base, Scores):
        kv = _keys_values(low, node, a.base.k, b)
        return _query(low, node, node.a, a.base.q, kv)
    if not isinstance(a.base, Spikes) and isinstance(b.base, Spikes):
        return _real_by_spikes(low, node, b)
    for value in (a, b):
        if not isinstance(value.base, Spikes):
            raise low.refused(node, "multiplies two real values, or spikes by real values")
    channels = low.map_of(a.base)[0][2]
    positions, _ = split(a.layout, channels)
    if positions.dims[-1]:
        return _keys_values(low, node, a, b)
    *lead, n, _ = low.shapes[node.a]
    m = low.shapes[node.b][-1]
    return Value(Scores(a, _transposed(b)), Layout.contiguous((*lead, n, m)))


def _transposed(value: Value) -> Value:
    dims = value.layout.dims
    return Value(value.base, Layout((*dims[:-2], dims[-1], dims[-2])))


def _aligned_pair(low: Lowering, node: s.Node, a: Value, b: Value) -> tuple[Value, Value, Slots]:
    low.values[f"{node.name}.left"], low.values[f"{node.name}.right"] = a, b
    return _pair(low, node, f"{node.name}.left", f"{node.name}.right")


def _keys_values(low: Lowering, node: s.MatMul, a: Value, b: Value) -> Value:
    """``a`` (.., d, N) times ``b`` (.., N, m), summed over the N positions.

    ANDs are used again in every window; a loop sums them, one value a pair of channels and step.
    """
    a, b = (Value(v.base, v.layout) for v in (a, b))
    if split(a.layout, low.map_of(a.base)[0][2])[0].dims[-1] == ():
        a = _transposed(a)
    a, b, slots = _aligned_pair(low, node, a, b)
    (height, width, ka), (_, _, vb) = low.map_of(a.base)[0], low.map_of(b.base)[0]
    left_places, left = split(a.layout, ka)
    right_places, right = split(b.layout, vb)
    if left_places.dims[-1] != right_places.dims[-2] or any(
        (*left_places.dims[:-1], *right_places.dims[:-2], right_places.dims[-1])
    ):
        raise low.refused(node, "sums over something else than all positions")
    lead = a.layout.shape[:-2]
    d, m = left.shape[-2], right.shape[-1]
    shape = (*lead, d, m)
    n = int(np.prod(shape))
    target = Layout.contiguous(shape)
    lanes = int(np.prod(slots.lanes))
    net = low.net
    layer = low.layer(node)
    names = _population(a), _population(b)
    gates = net.population(
        c.LIF,
        f"{node.name}.gate",
        (*slots.lanes, n),
        layer,
        net.need((name, 0) for name in names),
        slots.digits,
        vth=1,
        dv=_FORGET,
    )
    for name, source, count in (
        (names[0], Layout((*left.dims[:-1], ())), ka),
        (names[1], Layout((*right.dims[:-2], (), right.dims[-1])), vb),
    ):
        sizes, src, dst = loops(source, target)
        net.drive(gates, [strided(name, (lanes, *sizes), (count, *src), (n, *dst))])
    last, single = slots.last, low.schedules.fold.single
    largest = height * width
    share = net.population(
        c.GradedRelay, f"{node.name}.sum0", (n,), layer, net.depth[gates] + 1, largest=largest
    )
    net.drive(share, [strided(gates, (lanes, n), (n, 1), (0, 1))])
    if single and 2 * last >= net.windows:
        raise Unfoldable("the pause between samples is too short for one buffer")
    memory._ring(low, layer, f"{node.name}.sum", share, n, (0, largest), last * (1 + single))
    kept = Memory(share, n, largest, last)
    if not single:
        kept = memory.hold(low, node.name, layer, kept, last)
    return Value(kept, target)


def _query(low: Lowering, node: s.MatMul, name: str, q: Value, kv: Value) -> Value:
    """``relu(M + B q - B)`` for each query and pair of channels, summed over the query's channels;
    the queries wait until M is complete.
    """
    held = kv.base
    assert isinstance(held, Memory)
    low.values[f"{node.name}.query"] = q
    q = low.aligned(node, f"{node.name}.query")
    if not isinstance(q.base, Spikes):
        raise low.refused(node, "multiplies real values by sums over positions")
    shape, scale = q.base.shape, q.base.scale
    channels = shape[2]
    part = q.base.parts[0]
    places, inner = split(q.layout, channels)
    *lead, k, m = kv.layout.shape
    if any((*places.dims[:-2], places.dims[-1])):
        raise low.refused(node, "multiplies positions that lie in different ways")
    lanes = int(np.prod(part.slots.lanes))
    gate_shape = (*lead, k, m)
    n = int(np.prod(gate_shape))
    target = Layout.contiguous(gate_shape)
    net, layer, lag = low.net, low.layer(node), -held.ahead
    gates = net.population(
        c.GradedRelu,
        f"{node.name}.query",
        (*part.slots.lanes, n),
        layer,
        net.need([(part.population, 0), (held.population, lag)]),
        part.slots.digits,
    )
    sizes, src, dst = loops(kv.layout, target)
    net.drive(gates, [strided(held.population, (lanes, *sizes), (0, *src), (n, *dst))], lag)
    sizes, src, dst = loops(Layout((*inner.dims[:-2], inner.dims[-1], ())), target)
    for weight in net.builder.terms(held.largest):
        net.drive(
            gates,
            [strided(part.population, (lanes, *sizes), (channels, *src), (n, *dst), weight=weight)],
        )
    net.broadcast(net.on(layer), gates, -held.largest, (lanes * n,), (1,))
    kept, result = compact(Layout((*target.dims[:-2], (), target.dims[-1])))
    count = int(np.prod(kept))
    sizes, src, dst = loops(target, result)
    drive = strided(gates, (lanes, *sizes), (n, *src), (count, *dst))
    layout = joined(
        Layout((*[()] * len(lead), places.dims[-2], ())),
        Layout((*result.dims[:-2], (), result.dims[-1])),
        count,
    )
    return Value(Driven(part.slots, (*shape[:2], count), scale, (drive,)), layout)


def _real_by_spikes(low: Lowering, node: s.MatMul, b: Value) -> Value:
    """Real values of all positions (.., r, k) times spikes (.., k, N) (SpikingResformer's DSSA): the
    real map is collected and held, the spikes wait for it and pass it position after position.

    What is held is z = y + M, 0..L: a gate ``relu(z + L s - L)`` is ``z s``, and M times the spikes is
    taken off behind it. There is a gate for each value held on each lane of the spikes, so these
    pass as dense as they can.
    """
    a = low.values[node.a]
    if not isinstance(a.base, Real):
        low.values[f"{node.name}.real"] = a
        if isinstance(a.base, (Total, Scores, Memory)):
            raise low.refused(node, "multiplies by sums over positions in this order")
        made = low.real(node.a, (a.base,), a.layout)
        a = low.values[node.a] = made
    base = a.base
    assert isinstance(base, Real)
    low.values[f"{node.name}.spikes"] = b
    b, chosen_by = _densest(low, node, f"{node.name}.spikes")
    if not isinstance(b.base, Spikes):
        raise low.refused(node, "multiplies two real values")
    part, (_, _, channels) = b.base.parts[0], b.base.shape
    places, inner = split(b.layout, channels)
    if any((*places.dims[:-2], places.dims[-2])):
        raise low.refused(node, "sums over positions of the spikes")
    net, layer, bounds = low.net, low.layer(node), low.range(node.a)
    reads, single = part.slots.last, low.schedules.fold.single
    if single and base.slots.last + reads >= net.windows:
        raise Unfoldable("the pause between samples is too short for one buffer")
    held = memory.collect(
        low,
        node.name,
        layer,
        base.population,
        base.slots,
        (bounds.low, bounds.high),
        reads if single else 0,
    )
    if not single:
        held = memory.hold(low, node.name, layer, held, reads)
    lag = -held.ahead
    *lead, r, k = a.layout.shape
    shape = (*lead, r, k)
    n, lanes = int(np.prod(shape)), int(np.prod(part.slots.lanes))
    target = Layout.contiguous(shape)
    gates = net.population(
        c.GradedRelu,
        f"{node.name}.gate",
        (*part.slots.lanes, n),
        layer,
        net.need([(part.population, 0), (held.population, lag)]),
        part.slots.digits,
    )
    sizes, src, dst = loops(a.layout, target)
    net.drive(gates, [strided(held.population, (lanes, *sizes), (0, *src), (n, *dst))], lag)
    spikes = Layout((*inner.dims[:-2], (), inner.dims[-2]))
    sizes, src, dst = loops(spikes, target)
    for weight in net.builder.terms(held.largest):
        q = strided(part.population, (lanes, *sizes), (channels, *src), (n, *dst), weight=weight)
        net.drive(gates, [q])
    net.broadcast(net.on(layer), gates, -held.largest, (lanes * n,), (1,))
    packed, result = compact(Layout((*target.dims[:-1], ())))
    count = int(np.prod(packed))
    sizes, src, dst = loops(target, result)
    drives = [strided(gates, (lanes, *sizes), (n, *src), (count, *dst))]
    sizes, src, dst = loops(spikes, result)
    for weight in net.builder.terms(held.offset):
        drives.append(
            strided(
                part.population, (lanes, *sizes), (channels, *src), (count, *dst), weight=-weight
            )
        )
    layout = joined(
        Layout((*[()] * (len(lead) + 1), places.dims[-1])), Layout((*result.dims[:-1], ())), count
    )
    shape3, scale = (*b.base.shape[:2], count), b.base.scale
    return Value(Driven(part.slots, shape3, scale, tuple(drives), chosen_by), layout)


def _densest(low: Lowering, node: s.Node, name: str) -> tuple[Value, str]:
    """Spikes in the densest schedule that reads them, and the node that chose it."""
    value, schedules = low.values[name], low.schedules
    base = value.base
    if not isinstance(base, Spikes) or not base.single:
        return low.aligned(node, name), node.name
    own, chosen_by = base.parts[0].slots, schedules.owner(base.parts[0].population) or ""
    if not schedules.must_be_wide(node.name):
        for slots in schedules.candidates(base.shape[:2], base.scale, False):
            if slots == own:
                break
            suspect = low.suspect
            try:
                return low.aligned(node, name, slots), node.name
            except Unfoldable:
                low.suspect = suspect
    return value, chosen_by
