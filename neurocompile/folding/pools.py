"""Pooling windows of a folded map: the patch under the windows is gathered, or convolved, at the
moment of its last row, and pooled at once.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from neurocompile.circuits import maximum
from neurocompile.circuits import sum_pool as sums
from neurocompile.circuits.builder import channels_last, strided
from neurocompile.folding.reading import Reach
from neurocompile.folding.slots import Slots, Unfoldable
from neurocompile.folding.values import Base, Conv, Driven, Host, Pool, Real, Spikes, Value
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL

if TYPE_CHECKING:
    from neurocompile.folding.gathering import Reading
    from neurocompile.folding.lower import Lowering

__all__ = ["check", "max_pool", "sum_pool", "winners"]


def _out(low: Lowering, node: s.MaxPool2d | s.SumPool2d, base: Base) -> tuple:
    channels, height, width = low.shapes[node.name]
    _, scale = low.map_of(base)
    return (height, width, channels), (scale[0] * node.stride[0], scale[1] * node.stride[1])


def _even(node: s.MaxPool2d | s.SumPool2d) -> None:
    if any(node.more):
        raise Unfoldable("a pool whose borders differ at its two ends")


def max_pool(low: Lowering, node: s.MaxPool2d) -> Value:
    """Of spikes an OR; of real values a tournament, once the reader is known."""
    _even(node)
    if node.kernel == node.stride == (1, 1) and not any(node.padding):
        return low.values[node.x]
    value = low.feature_map(node, node.x)
    shape, scale = _out(low, node, value.base)
    layout = channels_last(low.shapes[node.name])
    base = value.base
    if isinstance(base, (Pool, Driven)):
        value = low.values[node.x] = low.real(node.x)
        base = value.base
    if not (isinstance(base, Spikes) and base.single):
        return low.shared(node, Value(Pool(node, base, shape, scale), layout))
    error = Unfoldable("no schedule")
    for reader in low.schedules.candidates(shape[:2], scale, low.schedules.is_wide(node)):
        try:
            made = _windows(low, node, base, reader, shape, node.name, c.LIF, vth=0, dv=ALL)
        except Unfoldable as found:
            error = found
            continue
        low.schedules.own(made, node.name)
        value = Value(Spikes(node.name, shape, scale, (_part(made, reader),)), layout)
        return value
    raise error


def _part(population: str, slots: Slots):  # type: ignore[no-untyped-def]
    from neurocompile.folding.values import Part

    return Part(population, slots)


def _windows(
    low: Lowering,
    node: s.MaxPool2d | s.SumPool2d,
    base: Base,
    reader: Slots,
    shape: tuple[int, int, int],
    name: str,
    kind: type[c.Population],
    **fields: int,
) -> str:
    """A population of the sums over windows."""
    reading = low.reading(base, reader, node.kernel, node.stride, node.padding, patched=True)
    depth = low.need([reading])
    layer = low.layer(node)
    patch = low.gather(reading, reader, depth, layer)
    padding = tuple(r.padding for r in (reading.patch.rows, reading.patch.columns))
    q, _ = sums.sum_pool(low.builder, patch, node.kernel, node.stride, padding, node.name)  # type: ignore[arg-type]
    lanes = (*reader.lanes, shape[2])
    made = low.net.population(kind, name, lanes, layer, depth, reader.digits, **fields)
    low.net.drive(made, [q])
    return made


def sum_pool(low: Lowering, node: s.SumPool2d) -> Value:
    """Sums over windows: one relay."""
    _even(node)
    value = low.feature_map(node, node.x)
    base = value.base
    if not isinstance(base, (Spikes, Real, Host)):
        value = low.values[node.x] = low.real(node.x)
        base = value.base
    shape, scale = _out(low, node, base)
    error = Unfoldable("no schedule")
    for reader in low.schedules.candidates(shape[:2], scale, low.schedules.is_wide(node)):
        try:
            made = _windows(low, node, base, reader, shape, node.name, c.GradedRelay)
        except Unfoldable as found:
            error = found
            continue
        low.bound(made, node.name)
        return Value(Real(made, reader, shape, scale), channels_last(low.shapes[node.name]))
    raise error


def check(low: Lowering, pool: Pool, reader: Slots) -> Reading:
    """The patch under a pool and the convolution before it."""
    node, base = pool.node, pool.x
    if not isinstance(base, Conv):
        return low.reading(base, reader, node.kernel, node.stride, node.padding, patched=True)
    conv = base.node
    size = low.graph.tensors[conv.weight].shape[2:]
    extent = [d * (k - 1) + 1 for d, k in zip(conv.dilation, size)]
    window = zip(conv.stride, node.kernel, extent)
    rows, columns = (t * (k - 1) + e for t, k, e in window)
    high, wide = (a * b for a, b in zip(conv.stride, node.stride))
    top, left = (t * p + q for t, p, q in zip(conv.stride, node.padding, conv.padding))
    kernel, stride, padding = (rows, columns), (high, wide), (top, left)
    return low.reading(base.x.base, reader, kernel, stride, padding, patched=True)


def winners(low: Lowering, pool: Pool, reader: Slots, layer: str) -> tuple[str, ...]:
    """Populations whose sum is the largest value of each window."""
    node, base, net = pool.node, pool.x, low.net
    reading = check(low, pool, reader)
    depth = low.need([reading])
    size, _ = low.map_of(base)
    reaches = (reading.patch.rows, reading.patch.columns)
    axes = (reader.rows, reader.columns)
    shape = tuple(
        n if not r.stride else st * (a.lanes - 1) + k
        for n, r, a, k, st in zip(size, reaches, axes, node.kernel, node.stride)
    )
    digits = reader.digits
    if isinstance(base, Conv):
        name = net.population(
            c.GradedRelay, f"{node.name}.conv", (*shape, size[2]), layer, depth, digits
        )
        _drive(low, base, reading, reader, name, layer)
    elif isinstance(base, Host):
        patch = low.gather(reading, reader, depth, layer)
        lanes = (*shape, size[2])
        name = net.population(c.GradedRelay, f"{node.name}.patch", lanes, layer, depth, digits)
        net.drive(name, [strided(patch, (prod(lanes),), (1,), (1,))])
    else:
        if reading.direct:
            raise Unfoldable("a pool of size 1")
        name = low.own_patch(reading, reader, depth, layer)  # it is masked: nobody else reads it
    _mask(low, pool, name, reaches, reader, shape, size)
    rows, columns = (0 if r.stride else p for r, p in zip(reaches, node.padding))
    mark = net.mark()
    found, _ = maximum.max_pool(
        low.builder, name, node.kernel, node.stride, (rows, columns), node.name, layer
    )
    net.adopt(mark, digits)
    return found


def _drive(
    low: Lowering, conv: Conv, reading: Reading, reader: Slots, name: str, layer: str
) -> None:
    """The convolution over the patch; along an axis that is read whole it pads by itself."""
    from dataclasses import replace

    fixed = tuple(
        replace(r, padding=0 if r.stride else p)
        for r, p in zip((reading.patch.rows, reading.patch.columns), conv.node.padding)
    )
    own = replace(reading, patch=replace(reading.patch, rows=fixed[0], columns=fixed[1]))
    source = low.gather(reading, reader, low.net.depth[name], layer)
    low.drive_conv(conv, replace(own, direct=source), reader, name, layer)


def _mask(
    low: Lowering,
    pool: Pool,
    name: str,
    reaches: tuple[Reach, ...],
    reader: Slots,
    shape: tuple[int, ...],
    size: tuple[int, int, int],
) -> None:
    """Positions beyond the border lose against all others, in the windows that reach there."""
    node, net = pool.node, low.net
    bounds = low.range(node.x)
    if bounds.low >= 0:
        return  # silence loses as it is
    amount = bounds.high - bounds.low + 1
    bits = net.builder.fields.weight_bits
    amount = -(-amount >> bits) << bits if amount >> bits else amount
    origin = reader.origin(net.windows)
    valid = origin[:, 0] >= 0
    for axis, reach in enumerate(reaches):
        if not reach.stride:
            continue
        start = origin[:, axis] * node.stride[axis] - node.padding[axis]
        for g in range(shape[axis]):
            outside = valid & ((start + g < 0) | (start + g >= size[axis]))
            if axis == 0:
                n = shape[1] * size[2]
                net.open_by(name, outside, -amount, (n,), (1,), g * n)
            else:
                sizes, strides = (shape[0], size[2]), (shape[1] * size[2], 1)
                net.open_by(name, outside, -amount, sizes, strides, g * size[2])
