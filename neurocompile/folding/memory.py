"""Memories that live longer than a window: sums that grow over the windows of a sample, and what is
held for all of them.

A loop of ``period`` steps keeps one value for each step of a window. Its members are relays of one
step (or, of spikes and where graded messages may wait, two populations and a delay); the last of
them opens only in the windows whose content is needed in the next, so that nothing reaches the next
sample, and closes the loop in one step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.circuits.builder import strided
from neurocompile.folding.values import Memory
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL

if TYPE_CHECKING:
    from neurocompile.folding.lower import Lowering
    from neurocompile.folding.slots import Slots

__all__ = ["accumulate", "collect", "hold", "spike_memory"]


def accumulate(
    low: Lowering, name: str, layer: str, source: str, bounds: tuple[int, int], last: int
) -> Memory:
    """The sum of ``source`` (n,) over windows 0..``last``, step by step.

    Args:
        bounds: of the whole sum and all partial ones.

    Returns:
        to be read ``last`` windows ahead.
    """
    net = low.net
    n = int(np.prod(net.shape[source]))
    largest = max(bounds[1], -bounds[0])
    depth = net.need([(source, 0)])
    first = net.population(c.GradedRelay, f"{name}.sum0", (n,), layer, depth, largest=largest)
    net.drive(first, [strided(source, (n,), (1,), (1,))])
    _ring(low, layer, f"{name}.sum", first, n, bounds, last)
    return Memory(first, n, largest, last)


def _ring(
    low: Lowering, layer: str, name: str, first: str, n: int, bounds: tuple[int, int], last: int
) -> None:
    """Close the loop of ``first`` for windows 0..``last``; values that may be negative return as
    two rectified halves.
    """
    if last == 0:
        return
    net = low.net
    at, depth, steps = first, net.depth[first], net.period - 1
    if net.reach.graded < steps:  # a relay a step; else the message waits by itself
        for k in range(1, steps):
            made = net.population(
                c.GradedRelay,
                f"{name}{k}",
                (n,),
                layer,
                depth + k,
                largest=max(bounds[1], -bounds[0]),
            )
            net.drive(made, [strided(at, (n,), (1,), (1,))])
            net.relays.setdefault(first, [first]).append(made)
            at = made
    halves = [(1, bounds[1])] + ([(-1, -bounds[0])] if bounds[0] < 0 else [])
    for sign, amount in halves:
        gate = net.population(
            c.GradedRelu,
            f"{name}{steps}" + (".negative" if sign < 0 else ""),
            (n,),
            layer,
            depth + steps,
            ((last, 1),),
            largest=max(amount, 1),
        )
        net.drive(gate, [strided(at, (n,), (1,), (1,), weight=sign)])
        net.close(gate, ((last, 1),), max(amount, 1), layer)
        net.drive(first, [strided(gate, (n,), (1,), (1,), weight=sign)], 1)


def hold(low: Lowering, name: str, layer: str, memory: Memory, last: int) -> Memory:
    """A second buffer: ``memory`` as it stands once it is complete, for windows 0..``last`` of its
    readers.
    """
    net, n = low.net, memory.channels
    lag = -memory.ahead
    depth = net.need([(memory.population, lag)])
    largest = max(memory.largest, -memory.lowest)
    first = net.population(c.GradedRelay, f"{name}.held0", (n,), layer, depth + 1, largest=largest)
    for sign, amount in memory.halves:
        load = net.population(
            c.GradedRelu,
            f"{name}.load" + (".negative" if sign < 0 else ""),
            (n,),
            layer,
            depth,
            ((1, 0),),
            largest=amount,
        )
        net.drive(load, [strided(memory.population, (n,), (1,), (1,), weight=sign)], lag)
        net.close(load, ((1, 0),), amount, layer)
        net.drive(first, [strided(load, (n,), (1,), (1,), weight=sign)])
    _ring(low, layer, f"{name}.held", first, n, (memory.lowest, memory.largest), last)
    return replace(memory, population=first, ahead=0)


def collect(
    low: Lowering,
    name: str,
    layer: str,
    source: str,
    slots: Slots,
    bounds: tuple[int, int],
    after: int = 0,
) -> Memory:
    """A real map, position after position: each is let in in its own window; kept for ``after``
    windows more. It is kept plus an offset: what is never negative takes one loop, not two halves.

    Returns:
        (positions x channels), complete in the map's last window and to be read so far ahead.
    """
    net, bits = low.net, low.net.builder.fields.weight_bits
    *lanes, channels = net.shape[source]
    width = slots.columns.size
    n = slots.rows.size * width * channels
    offset = rounded(-min(bounds[0], 0), bits)
    largest = rounded(max(bounds[1], 0) + offset, bits) or 1
    gate = net.population(
        c.GradedRelu,
        f"{name}.in",
        (n,),
        layer,
        net.need([(source, 0)]),
        slots.digits,
        largest=largest,
    )
    runs = len(slots.rows.origins), len(slots.columns.origins)
    q = strided(
        source,
        (runs[0], lanes[0], runs[1], lanes[1], channels),
        (0, lanes[1] * channels, 0, channels, 1),
        (lanes[0] * width * channels, width * channels, lanes[1] * channels, channels, 1),
    )
    net.drive(gate, [q])
    net.broadcast(net.on(layer), gate, offset - largest, (n,), (1,))
    for i, y in enumerate(slots.rows.origins.tolist()):
        for j, x in enumerate(slots.columns.origins.tolist()):
            pattern = np.zeros(net.windows, bool)
            pattern[slots.windows[i, j]] = True
            block = (lanes[0], lanes[1] * channels), (width * channels, 1)
            net.open_by(gate, pattern, largest, *block, (y * width + x) * channels)
    depth = net.depth[gate] + 1
    first = net.population(c.GradedRelay, f"{name}.kept0", (n,), layer, depth, largest=largest)
    net.drive(first, [strided(gate, (n,), (1,), (1,))])
    _ring(low, layer, f"{name}.kept", first, n, (0, largest), slots.last + after)
    return Memory(first, n, largest, slots.last, offset=offset)


def rounded(value: int, bits: int) -> int:
    """``value`` >= 0, raised to ``bits`` bits and an exponent: what one synapse can hold."""
    exponent = max(value.bit_length() - bits, 0)
    return -(-value >> exponent) << exponent


def spike_memory(low: Lowering, layer: str, name: str, source: str, last: int) -> Memory:
    """Whether ``source`` (n,) ever fired in windows 0..``last``, step by step: a spike goes round.

    Returns:
        to be read ``last`` windows ahead; in the windows before it is not complete.
    """
    net, n = low.net, int(np.prod(low.net.shape[source]))
    first = net.population(c.LIF, name, (n,), layer, net.need([(source, 0)]), vth=0, dv=ALL)
    net.drive(first, [strided(source, (n,), (1,), (1,))])
    if last:
        slots = ((last, 1),)
        back = net.population(
            c.LIF,
            f"{name}.back",
            (n,),
            layer,
            net.depth[first] + net.period - 1,
            slots,
            vth=0,
            dv=ALL,
        )
        net.drive(back, [strided(first, (n,), (1,), (1,))])
        net.close(back, slots, 1, layer)
        net.drive(first, [strided(back, (n,), (1,), (1,))], 1)
    return Memory(first, n, 1, last)
