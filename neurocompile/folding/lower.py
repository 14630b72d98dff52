"""Lower a quantized SpikingGraph to a circuit folded in time.

Every layer becomes lanes of neurons that its positions pass, window after window. What a layer
reads from a map of another schedule is gathered as a patch (:mod:`neurocompile.folding.reading`);
a gathered patch is silenced outside of the reader's windows, and so is every bias: then everything
is silent there, linear layers included, and borders, sums over positions and samples that follow
each other need no gate of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.circuits.builder import channels_last, compact, loops, strided
from neurocompile.circuits.soft_reset import add_constants
from neurocompile.folding import attention, heads, pools
from neurocompile.folding.channels import split_lif
from neurocompile.folding.gathering import Facts, Gathering, Reading
from neurocompile.folding.net import Net
from neurocompile.folding.residuals import residual_digits
from neurocompile.folding.schedules import Schedules
from neurocompile.folding.slots import Slots, Unfoldable
from neurocompile.folding.values import (
    Base,
    Conv,
    Driven,
    Host,
    Part,
    Pool,
    Real,
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
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.ir.windows import valid_windows

__all__ = ["Lowering", "repeats"]


def repeats(graph: s.SpikingGraph, node: s.Node) -> bool:
    """Whether neurons read a convolution of spikes now, and a residual does later."""
    users = graph.users[node.name]
    return (
        isinstance(node, s.Conv2d)
        and not isinstance(graph.node[node.x], s.Input)
        and all(isinstance(u, (s.Add, s.IntegerLIF)) for u in users)
        and len({type(u) for u in users}) == 2
    )


class Lowering(Gathering):
    """One pass over the nodes."""

    def __init__(
        self,
        facts: Facts,
        net: Net,
        schedules: Schedules,
        weight_bits: int,
        saved: int = 0,
        again: bool = False,
    ) -> None:
        """``saved``: residuals of spikes become digits where that saves so many lines; 0: never.

        ``again``: a convolution that a neuron and a residual read is computed for each of them: its
        spikes wait, not its values.
        """
        super().__init__(facts, net, schedules, weight_bits)
        self.saved, self.again = saved, again
        self.values: dict[str, Value] = {}
        self.stray: dict[str, int] = {}
        """What a LIF may hear outside of its windows, of spikes that it reads itself."""
        self.rules: dict[type[s.Node], Callable[[Any], Value]] = {
            s.Input: self.input,
            s.Conv2d: self.conv,
            s.IntegerLIF: self.lif,
            s.Or: lambda n: attention.any_of(self, n),
            s.Add: self.add,
            s.Mul: lambda n: attention.hadamard(self, n),
            s.MatMul: lambda n: attention.matmul(self, n),
            s.Sum: self.sum,
            s.MaxPool2d: lambda n: pools.max_pool(self, n),
            s.SumPool2d: lambda n: pools.sum_pool(self, n),
            s.Rearrange: self.rearrange,
            s.Shift: self.shift,
            s.Offset: self.offset,
            s.Linear: self.linear,
            s.TimeMean: lambda n: self.values[n.x],
            s.Output: lambda n: heads.output(self, n),
        }

    def lower(self, node: s.Node) -> None:
        """One node."""
        self.now, self.suspect = node.name, None
        rule = self.rules.get(type(node))
        if rule is None:
            raise self.refused(node, "is not known to folding yet")
        try:
            self.values[node.name] = rule(node)
        except ValueError as error:  # layouts that do not nest
            raise self.refused(node, f"lies in a way that is not folded yet ({error})") from error

    # ---- nodes -----------------------------------------------------------------------------------

    def input(self, node: s.Input) -> Value:
        """The host's maps."""
        node.check_steps(self.net.steps)
        if len(node.shape) != 3:
            raise self.refused(node, "is no feature map (C, H, W)")
        channels, height, width = node.shape
        return Value(Host(node, (height, width, channels)), channels_last(node.shape))

    def conv(self, node: s.Conv2d) -> Value:
        """Pending until its reader is known."""
        value = self.feature_map(node, node.x)
        if isinstance(value.base, (Conv, Pool, Driven)):
            value = self.values[node.x] = self.real(node.x)
        _, scale = self.map_of(value.base)
        channels, height, width = self.shapes[node.name]
        shape = (height, width, channels)
        scale = (scale[0] * node.stride[0], scale[1] * node.stride[1])
        found = Value(Conv(node, value, shape, scale), channels_last(self.shapes[node.name]))
        return self.shared(node, found)

    def linear(self, node: s.Linear) -> Value:
        """The head, which the output reads, from what is still a sum over positions; any other from
        this sum once it is complete."""
        if heads.is_head(self.graph, node.name):
            return Value(Total(self.values[node.x]), Layout(((),)))
        return heads.hidden(self, node)

    def feature_map(self, node: s.Node, name: str) -> Value:
        """Value ``name`` as (C, H, W), its positions in the map's order."""
        value = self.values[name]
        (height, width, channels), _ = self.map_of(value.base)
        positions, _ = split(value.layout, channels)
        wanted = Layout.contiguous((1, height, width)).simplified()
        if positions.shape[1:] != (height, width) or positions.simplified() != wanted:
            raise self.refused(node, "reads positions in another order")
        return value

    def shared(self, node: s.Node, value: Value) -> Value:
        """A real value that several nodes read is relayed once, or computed for each of them."""
        self.values[node.name] = value
        users = self.graph.users[node.name]
        if len(users) < 2 or (self.again and repeats(self.graph, node)):
            return value
        return self.real(node.name)

    def add(self, node: s.Add) -> Value:
        """Spikes stay apart until they are read; real values become one relay."""
        a, b = self.values[node.a], self.values[node.b]
        sums = isinstance(a.base, Total) or isinstance(b.base, Total)
        if sums and heads.is_head(self.graph, node.name):
            return Value(Total(a), Layout(((),)))
        if isinstance(a.base, Spikes) and isinstance(b.base, Spikes):
            if a.layout.simplified() != b.layout.simplified():
                raise self.refused(node, "adds values in different orders")
            base = a.base
            parts = (*base.parts, *b.base.parts)
            parts = residual_digits(self, node, base.shape, base.scale, parts) or parts
            return Value(Spikes(node.name, base.shape, base.scale, parts), a.layout)
        return self.real(node.name, (a.base, b.base), a.layout)

    def real(self, name: str, bases: tuple[Base, ...] = (), layout: Layout | None = None) -> Value:
        """One graded relay for the sum of ``bases``."""
        bases = bases or (self.values[name].base,)
        if len(bases) == 1 and isinstance(bases[0], Real):
            return self.values[name]
        shape, scale = self.map_of(bases[0])
        slots = [b.slots for b in bases if isinstance(b, (Real, Driven))]
        error = Unfoldable("no schedule")
        layer = self.layer(self.graph.node[name])
        wide = self.schedules.must_be_wide(name)
        for reader in slots[:1] or self.schedules.candidates(shape[:2], scale, wide):
            try:
                population = self.sum_of(name, bases, reader, shape, c.GradedRelay, layer)
            except Unfoldable as refused:
                error = refused
                continue
            self.schedules.own(population, name)
            self.bound(population, name)
            found = Real(population, reader, shape, scale)
            return Value(found, layout or self.values[name].layout)
        for base in bases:  # another schedule of a real value that is added may do
            if isinstance(base, Real) and not self.schedules.must_be_wide(
                self.schedules.owner(base.population) or ""
            ):
                self.suspect = self.schedules.owner(base.population) or self.suspect
        raise error

    def sum_of(
        self,
        name: str,
        bases: tuple[Base, ...],
        reader: Slots,
        shape: tuple[int, int, int],
        kind: type[c.Population],
        layer: str,
        gain: int = 1,
        **fields: Any,
    ) -> str:
        """A population in ``reader`` that gets the sum of ``bases``, times ``gain``."""
        readings = self._readings(bases, reader)
        pooled, depth = self._depth(bases, readings, reader, layer)
        stray = sum(
            found.stray * len(found.runs) * part.weight * gain
            for i, reading in readings.items()
            if not isinstance(bases[i], Conv)
            for part, found in reading.plans
        )
        if stray and kind is not c.LIF:
            raise Unfoldable("a sum would not be silent outside of its windows")
        made = self.net.population(
            kind, name, (*reader.lanes, shape[2]), layer, depth, reader.digits, **fields
        )
        for i, base in enumerate(bases):
            if isinstance(base, Conv):
                self.drive_conv(base, readings[i], reader, made, layer, gain)
            elif isinstance(base, Driven):
                self.net.drive(made, (self.builder.weighted(q, gain) for q in base.projections))
            elif isinstance(base, Pool):
                n = int(np.prod((*reader.lanes, shape[2])))
                for winner in pooled[i]:
                    self.net.drive(made, [strided(winner, (n,), (1,), (1,), weight=gain)])
            elif isinstance(base, Host):
                patch = self.gather(readings[i], reader, depth, layer)
                n = int(np.prod((*reader.lanes, shape[2])))
                for weight in self.builder.terms(gain):
                    self.net.drive(made, [strided(patch, (n,), (1,), (1,), weight=weight)])
            else:
                for part, found in readings[i].plans:
                    self.carry(part, found, made, reader.columns.lanes, shape[2], gain)
        if stray:
            self.stray[made] = stray
        return made

    def _readings(self, bases: tuple[Base, ...], reader: Slots) -> dict[int, Reading]:
        """How ``reader`` gets each base that is read as it lies; Unfoldable where one cannot."""
        readings: dict[int, Reading] = {}
        for i, base in enumerate(bases):
            if isinstance(base, Conv):
                readings[i] = self.conv_reading(base, reader)
            elif isinstance(base, (Spikes, Real, Host)):
                readings[i] = self.reading(base, reader)
            elif isinstance(base, Driven):
                if base.slots != reader:
                    raise Unfoldable("a product in another schedule")
            elif isinstance(base, Pool):
                pools.check(self, base, reader)
            else:
                raise Unfoldable("no feature map")
        return readings

    def _depth(
        self, bases: tuple[Base, ...], readings: dict[int, Reading], reader: Slots, layer: str
    ) -> tuple[dict[int, tuple[str, ...]], int]:
        """The winners of each pool, which are made here, and the depth at which all is there."""
        pooled: dict[int, tuple[str, ...]] = {}
        depths = [1]
        for i, base in enumerate(bases):
            if isinstance(base, Driven):
                depths.append(self.net.need((q.src, q.lag) for q in base.projections))
            elif isinstance(base, Pool):
                pooled[i] = pools.winners(self, base, reader, layer)
                depths.append(self.net.need((winner, 0) for winner in pooled[i]))
        for i, reading in readings.items():
            hops = 1 if isinstance(bases[i], (Spikes, Real)) else reading.hops
            if reading.plans:
                depths.append(max(hops, self.net.need(reading.sources(), hops)))
        return pooled, max(depths)

    def lif(self, node: s.IntegerLIF) -> Value:
        """A layer of neurons, silent outside of its windows."""
        value = self.values[node.x]
        if isinstance(value.base, Total):
            value = heads.settled(self, node.x)
        if isinstance(node.dv, TensorRef) or isinstance(node.vth, TensorRef):
            return split_lif(self, node)
        shape, scale = self.map_of(value.base)
        layer = node.name
        fields: dict[str, Any] = {
            "vth": node.vth,
            "dv": node.dv,
            "du": node.current - 1,
            "reset": True,
        }
        bias = None
        if node.bias is not None:
            bias = self.by_channel(node, node.bias, value.layout, shape[2])
            fields["bias"] = self.builder.tensor(node.bias, bias)
            fields["bias_exp"] = node.bias_exp
        if isinstance(value.base, (Real, Driven)):
            choices = [value.base.slots]
        else:
            choices = self.schedules.candidates(shape[:2], scale, self.schedules.is_wide(node))
        error = Unfoldable("no schedule")
        for reader in choices:
            try:
                self.stray = {}
                made = self.sum_of(
                    node.name, (value.base,), reader, shape, c.LIF, layer, node.gain, **fields
                )
                break
            except Unfoldable as found:
                error = found
        else:
            raise error
        amount = self.stray.get(made, 0)
        if bias is not None and bias.max() > 0:
            amount += -(-(int(bias.max()) << node.bias_exp) >> 6)
        if amount:
            self.net.close(made, reader.digits, amount, layer)
        spikes = self.spikes(node.name, made, reader, shape, scale, value.layout)
        if isinstance(value.base, Driven) and value.base.chosen_by:
            self.schedules.own(made, value.base.chosen_by)
        return spikes

    def spikes(
        self,
        name: str,
        population: str,
        slots: Slots,
        shape: tuple[int, int, int],
        scale: tuple[int, int],
        layout: Layout,
    ) -> Value:
        """A layer of spikes, and where it lies."""
        self.schedules.own(population, name)
        self.view(name, population, slots, shape, layout)
        return Value(Spikes(name, shape, scale, (Part(population, slots),)), layout)

    def view(
        self, name: str, population: str, slots: Slots, shape: tuple[int, int, int], layout: Layout
    ) -> None:
        """Where a layer lies: each digit of its logical index in neurons, and in windows."""
        sizes, strides, apart = self.schedules.digits(slots, shape, layout)
        self.builder.views.append(
            c.View(
                name=self.builder.name(f"view.{name}"),
                layer=name,
                src=Ref(population),
                shape=layout.shape,
                sizes=sizes,
                strides=strides,
                windows=apart if any(apart) else (),
            )
        )

    def by_channel(
        self, node: s.Node, tensor: TensorRef, layout: Layout, channels: int
    ) -> np.ndarray:
        """A tensor that broadcasts against the logical shape, as it lies in channels.

        Axes without channels along which the tensor is constant are left out: nothing here is as
        large as the map.
        """
        value = self.graph.tensors[tensor]
        value = value.reshape((1,) * (len(layout.dims) - value.ndim) + value.shape)
        _, inner = split(layout, channels)
        kept = Layout(
            tuple(
                dim if n > 1 or own else ()
                for dim, own, n in zip(layout.dims, inner.dims, value.shape)
            )
        )
        full = np.broadcast_to(value, kept.shape).reshape(-1)
        index = kept.indices().reshape(-1) % channels
        found = np.zeros(channels, full.dtype)
        found[index] = full
        if not np.array_equal(found[index], full):
            raise self.refused(node, "has a bias for each position")
        return found

    def rearrange(self, node: s.Rearrange) -> Value:
        """A view."""
        value = self.values[node.x]
        if np.prod(node.shape) < np.prod(self.shapes[node.x]):
            raise self.refused(node, "reads a slice")
        return Value(value.base, value.layout.rearranged(node.shape, node.sizes, node.strides))

    def offset(self, node: s.Offset) -> Value:
        """A relay, and constants that a clock lets in."""
        if isinstance(self.values[node.x].base, Total):
            heads.settled(self, node.x)
        value = self.aligned(node, node.x)
        base = value.base
        if not isinstance(base, Real):
            raise self.refused(node, "adds constants to spikes")
        net, layer, channels = self.net, self.layer(node), base.shape[2]
        constants = self.by_channel(node, node.offset, value.layout, channels)
        shape = (*base.slots.lanes, channels)
        depth = max(net.need([(base.population, 0)]), 4)
        digits = base.slots.digits
        made = net.population(c.GradedRelay, node.name, shape, layer, depth, digits)
        net.drive(made, [strided(base.population, (int(np.prod(shape)),), (1,), (1,))])
        fields = {"vth": 0, "dv": ALL}
        now = net.population(c.LIF, f"{node.name}.now", (1,), layer, depth - 2, digits, **fields)
        net.open_by(now, valid_windows(net.windows, digits), 1, (1,), (1,), 0)
        mark = net.mark()
        add_constants(self.builder, made, constants, node.name, now)
        net.adopt(mark, digits)
        self.bound(made, node.name)
        return Value(replace(base, population=made), value.layout)

    def shift(self, node: s.Shift) -> Value:
        """One relay that drops low bits: it has no other input."""
        if isinstance(self.values[node.x].base, Total):
            heads.settled(self, node.x)
        value = self.aligned(node, node.x)
        base = value.base
        if not isinstance(base, Real):
            raise self.refused(node, "shifts spikes")
        shape = (*base.slots.lanes, base.shape[2])
        depth = self.net.need([(base.population, 0)])
        made = self.net.population(
            c.GradedRelay, node.name, shape, self.layer(node), depth, base.slots.digits
        )
        q = strided(base.population, (int(np.prod(shape)),), (1,), (1,))
        self.net.drive(made, [replace(q, weight_exp=-node.bits)])
        self.bound(made, node.name)
        return Value(replace(base, population=made), value.layout)

    def sum(self, node: s.Sum) -> Value:
        """Over channels: connections. Over all positions: pending."""
        value = self.values[node.x]
        (height, width, channels), scale = self.map_of(value.base)
        positions, inner = split(value.layout, channels)
        over = [positions.dims[i] for i in node.axes]
        if any(over):
            left = [d for i, d in enumerate(positions.dims) if i not in node.axes]
            if any(left) or any(inner.dims[i] for i in node.axes):
                raise self.refused(node, "sums over a part of the positions")
            kept = inner.dims
            if not node.keepdims:
                kept = tuple(d for i, d in enumerate(kept) if i not in node.axes)
            return Value(Total(Value(value.base, value.layout)), Layout(kept))
        aligned = self.aligned(node, node.x)
        base = aligned.base
        assert isinstance(base, (Spikes, Real))
        population, slots = (
            (base.parts[0].population, base.parts[0].slots)
            if isinstance(base, Spikes)
            else (base.population, base.slots)
        )
        kept_dims = tuple(() if i in node.axes else d for i, d in enumerate(inner.dims))
        packed, target = compact(Layout(kept_dims))
        count = int(np.prod(packed))
        lanes = int(np.prod(slots.lanes))
        sizes, src, dst = loops(inner, target)
        q = strided(population, (lanes, *sizes), (channels, *src), (count, *dst))
        layout = joined(positions, target, count)
        if not node.keepdims:
            layout = Layout(tuple(d for i, d in enumerate(layout.dims) if i not in node.axes))
        return Value(Driven(slots, (height, width, count), scale, (q,)), layout)

    def aligned(self, node: s.Node, name: str, reader: Slots | None = None) -> Value:
        """Value ``name`` as one population, in ``reader`` if that is given."""
        value = self.values[name]
        base = value.base
        if isinstance(base, Spikes) and base.single and reader in (None, base.parts[0].slots):
            return value
        if isinstance(base, Real) and reader in (None, base.slots):
            return value
        if isinstance(base, (Conv, Pool, Driven, Host)):
            value = self.values[name] = self.real(name)
            return self.aligned(node, name, reader)
        if not isinstance(base, Spikes):
            raise self.refused(node, f"reads '{name}' in a form that is not folded yet")
        shape, scale = self.map_of(base)
        for slots in [reader] if reader else self.schedules.candidates(shape[:2], scale, False):
            reading = self.reading(base, slots)
            depth = self.need([reading])
            made = self.gather(reading, slots, depth, self.layer(node))
            if base.single:
                return Value(replace(base, parts=(Part(made, slots),)), value.layout)
            return Value(Real(made, slots, shape, scale), value.layout)
        raise Unfoldable("no schedule")
