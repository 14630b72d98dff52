"""Lower a quantized SpikingGraph to a circuit folded in time.

Every layer becomes lanes of neurons that its positions pass, window after window. What a layer
reads from a map of another schedule is gathered as a patch (:mod:`neurocompile.folding.reading`);
a gathered patch is silenced outside of the reader's windows, and so is every bias: then everything
is silent there, linear layers included, and borders, sums over positions and samples that follow
each other need no gate of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurocompile.circuits.builder import Builder, channels_last, compact, loops, strided, terms
from neurocompile.circuits.soft_reset import add_constants
from neurocompile.errors import NeurocompileError
from neurocompile.folding import attention, heads, pools
from neurocompile.folding.net import Net, Reach
from neurocompile.folding.reading import Patch, Plan, patch_of, plan
from neurocompile.folding.schedules import Fold, Schedules
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
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.ir.windows import valid_windows

__all__ = ["fold_graph"]


_PAUSES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Rows of windows between samples that are tried, in turn."""


@dataclass(frozen=True)
class Reading:
    """Parts of a value as one patch."""

    base: Base
    patch: Patch
    plans: tuple[tuple[Part, Plan], ...]
    direct: str = ""
    """The population itself, where it lies as its reader wants it."""

    def sources(self) -> list[tuple[str, int]]:
        """(population, lag) that decide the depth of the patch."""
        return [(part.population, plan.least_lag) for part, plan in self.plans]


def fold_graph(
    graph: s.SpikingGraph,
    steps: int,
    fold: Fold,
    *,
    weight_bits: int = 8,
    max_spike_delay: int = 62,
    graded_delay: int = 1,
    power_of_two_period: bool = True,
) -> c.CircuitGraph:
    """The scheduled circuit of a quantized ``graph``, folded; exact: the same integers in every
    layer.

    Raises:
        NC3104: for a layer that this fold cannot carry; it names the layer and why.
    """
    from neurocompile.passes.schedule import period_for

    # two steps at least: a memory needs one to hold and one to open
    period = max(2, period_for(steps, power_of_two_period))
    reach = Reach(max_spike_delay, graded_delay)
    pauses = [fold.pause] if fold.pause else _PAUSES
    for pause in pauses:
        paused = replace(fold, pause=pause)
        wide: set[str] = set()
        while True:
            schedules = Schedules(paused, graph, frozenset(wide))
            net = Net(schedules.windows, period, steps, reach)
            lowering = Lowering(graph, net, schedules, weight_bits)
            try:
                for node in graph.nodes:
                    lowering.lower(node)
                return net.finish(graph.name)
            except Unfoldable as error:
                if lowering.suspect is not None and lowering.suspect not in wide:
                    wide.add(lowering.suspect)
                    continue
                if pause != pauses[-1]:
                    break
                raise NeurocompileError(
                    "NC3104",
                    f"layer '{lowering.now}' cannot be folded {fold}: {error}; "
                    "take another fold, or --fold none",
                ) from error
    raise AssertionError("unreachable")


def _name_of(base: Base) -> str:
    """Of what a patch is taken."""
    if isinstance(base, Host):
        return base.node.name
    if isinstance(base, Spikes):
        return base.key
    if isinstance(base, Real):
        return base.population
    raise Unfoldable("a value that is no population yet")


class Lowering:
    """One pass over the nodes."""

    def __init__(
        self, graph: s.SpikingGraph, net: Net, schedules: Schedules, weight_bits: int
    ) -> None:
        self.graph, self.net, self.schedules = graph, net, schedules
        self.weight_bits = weight_bits
        self.builder: Builder = net.builder
        self.ranges, self.shapes = ranges(graph), shapes(graph)
        self.values: dict[str, Value] = {}
        self.now, self.suspect = "", None
        self._gathered: dict[Any, str] = {}
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
            s.Linear: lambda n: Value(Total(self.values[n.x]), Layout(((),))),
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

    def refused(self, node: s.Node, why: str) -> NeurocompileError:
        """NC3104."""
        return NeurocompileError(
            "NC3104",
            f"layer '{node.name}' ({type(node).__name__}) {why}: build it with --fold none",
        )

    # ---- helpers ---------------------------------------------------------------------------------

    def layer(self, node: s.Node) -> str:
        """The spiking layer or output that ``node`` helps to compute: the first one downstream."""
        while not isinstance(node, (s.IntegerLIF, s.Or, s.Output)):
            node = self.graph.users[node.name][0]
        return node.name

    def range(self, name: str) -> Range:
        """Bounds of a value."""
        found = self.ranges[name]
        assert found is not None
        return found

    def map_of(self, base: Base) -> tuple[tuple[int, int, int], tuple[int, int]]:
        """(H, W, C) and scale of a feature map."""
        if not hasattr(base, "scale"):
            raise Unfoldable("no feature map")
        return base.shape, base.scale  # type: ignore[union-attr]

    # ---- reading ---------------------------------------------------------------------------------

    def reading(
        self,
        base: Base,
        reader: Slots,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
    ) -> Reading:
        """How ``reader`` gets the patch under ``kernel`` (its dilated extent)."""
        if isinstance(base, Host):
            source = self.schedules.wide(base.shape[:2], base.scale)
            return Reading(base, patch_of(reader, source, kernel, stride, padding), ())
        if isinstance(base, Real):
            parts: tuple[Part, ...] = (Part(base.population, base.slots),)
        elif isinstance(base, Spikes):
            parts = base.parts
        else:
            raise Unfoldable("a value that is no population yet")
        alone = len(parts) == 1 and parts[0].weight == 1
        if alone and parts[0].slots == reader and kernel == stride == (1, 1):
            patch = patch_of(reader, reader)
            found = plan(reader, reader, patch, self.net.windows)
            return Reading(base, patch, ((parts[0], found),), parts[0].population)
        plans, patch = [], None
        for part in parts:
            own = patch_of(reader, part.slots, kernel, stride, padding)
            if patch is not None and own != patch:
                raise Unfoldable("parts of a residual lie in different ways")
            patch = own
            try:
                plans.append((part, plan(reader, part.slots, own, self.net.windows)))
            except Unfoldable:
                self.suspect = self.schedules.owner(part.population)
                raise
        assert patch is not None
        found = Reading(base, patch, tuple(plans))
        if isinstance(base, Real) and any(p.stray for _, p in plans):
            raise Unfoldable("a real value would be read in windows that are not its reader's")
        return found

    def need(self, readings: Iterable[Reading]) -> int:
        """Least depth of a population that reads all of these patches."""
        depth = 1
        for reading in readings:
            if reading.plans:
                hops = 1 if reading.direct else 2
                depth = max(depth, self.net.need(reading.sources(), hops))
        return depth

    def gather(self, reading: Reading, reader: Slots, depth: int, layer: str) -> str:
        """The patch as a population (rows, columns, C) one step before ``depth``."""
        if reading.direct:
            return reading.direct
        base = reading.base
        key = (_name_of(base), reading.patch, reader, depth)
        if key not in self._gathered:
            made = self._bring if isinstance(base, Host) else self._patch
            self._gathered[key] = made(reading, reader, depth, layer)
        return self._gathered[key]

    def _patch(self, reading: Reading, reader: Slots, depth: int, layer: str) -> str:
        base = reading.base
        channels = base.shape[2]  # type: ignore[union-attr]
        spikes = isinstance(base, Spikes) and base.single
        stray = any(found.stray for _, found in reading.plans)
        kind = c.LIF if spikes else c.GradedRelu if stray else c.GradedRelay
        fields = {"vth": 0, "dv": 4096} if spikes else {}
        shape = (*reading.patch.shape, channels)
        made = self.net.population(
            kind, f"{_name_of(base)}.patch", shape, layer, depth - 1, reader.digits, **fields
        )
        for part, found in reading.plans:
            self.carry(part, found, made, shape[1], channels)
        if stray:
            amount = sum(part.weight * len(p.runs) for part, p in reading.plans)
            self.net.close(made, reader.digits, amount, layer)
        return made

    def carry(
        self, part: Part, found: Plan, dst: str, columns: int, channels: int, gain: int = 1
    ) -> None:
        """Projections of one part to a patch of ``columns``."""
        width = part.slots.columns.lanes
        for run in found.runs:
            for weight in terms(abs(part.weight * gain)):
                q = strided(
                    part.population,
                    (*run.count, channels),
                    (width * channels, channels, 1),
                    (columns * channels, channels, 1),
                    weight=weight,
                    src_offset=(run.lane[0] * width + run.lane[1]) * channels,
                    dst_offset=(run.first[0] * columns + run.first[1]) * channels,
                )
                self.net.drive(dst, [q], run.lag)

    def _bring(self, reading: Reading, reader: Slots, depth: int, layer: str) -> str:
        """What the host sends: the patch of each valid window, zeros beyond the border."""
        host = reading.base
        assert isinstance(host, Host)
        height, width, channels = host.shape
        patch = reading.patch
        origin = reader.origin(self.net.windows)
        valid = origin[:, 0] >= 0
        starts = [
            np.where(valid, reach.start + reach.stride * origin[:, axis], -(1 << 20))
            for axis, reach in enumerate((patch.rows, patch.columns))
        ]
        y, x = (at[:, None] + np.arange(n) for at, n in zip(starts, patch.shape))
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        places = np.where(inside, y[:, :, None] * width + x[:, None], -1).astype(np.int32)
        node = host.node
        return self.net.population(
            c.HostInput,
            node.name,
            (*patch.shape, channels),
            node.name,
            depth - 1,
            reader.digits,
            low=node.low,
            high=node.high,
            scale=node.unit,
            stepwise=node.steps > 0,
            source_axes=(1, 2, 0),
            sample_shape=host.shape,
            places=self.builder.tensor(f"{node.name}.places", places),
        )

    # ---- convolutions ----------------------------------------------------------------------------

    def conv_reading(self, conv: Conv, reader: Slots) -> Reading:
        """The patch of a convolution for ``reader``."""
        node = conv.node
        kernel = self.graph.tensors[node.weight].shape[2:]
        extent = tuple(d * (k - 1) + 1 for d, k in zip(node.dilation, kernel))
        return self.reading(conv.x.base, reader, extent, node.stride, node.padding)  # type: ignore[arg-type]

    def kernel(self, conv: Conv) -> np.ndarray:
        """int16 (C', kH, kW, C / groups), input channels as they lie in memory."""
        weight = self.graph.tensors[conv.node.weight].transpose(0, 2, 3, 1)
        channels = self.map_of(conv.x.base)[0][2]
        _, inner = split(conv.x.layout, channels)
        order = inner.indices().reshape(-1)
        if not np.array_equal(order, np.arange(channels)):
            if conv.node.groups > 1:
                raise self.refused(conv.node, "has groups over channels in another order")
            moved = np.empty_like(weight)
            moved[..., order] = weight
            weight = moved
        return np.ascontiguousarray(weight)

    def drive_conv(
        self, conv: Conv, reading: Reading, reader: Slots, dst: str, layer: str, gain: int = 1
    ) -> None:
        """Drive ``dst`` (lanes and channels of ``reader``) with a convolution."""
        node = conv.node
        source = self.gather(reading, reader, self.net.depth[dst], layer)
        reach = (reading.patch.rows, reading.patch.columns)
        kernel = self.kernel(conv)
        q = c.Conv2d(
            name="",
            src=Ref(source),
            dst=Ref(""),
            weight=self.stored(node.weight, kernel),
            stride=node.stride,
            padding=tuple(r.padding for r in reach),  # type: ignore[arg-type]
            dilation=node.dilation,
            groups=node.groups,
            weight_bits=self.weight_bits,
            weight_exp=node.exponent,
        )
        self.net.drive(dst, [self.builder.weighted(q, gain)])

    def stored(self, name: str, value: np.ndarray) -> TensorRef:
        """A tensor by the model's name, once."""
        known = self.builder.tensors.get(name)
        if known is not None and np.array_equal(known, value):
            return TensorRef(name)
        return self.builder.tensor(name, value)

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
        """A real value that several nodes read is relayed once."""
        self.values[node.name] = value
        users = self.graph.users[node.name]
        return self.real(node.name) if len(users) > 1 else value

    def add(self, node: s.Add) -> Value:
        """Spikes stay apart until they are read; real values become one relay."""
        a, b = self.values[node.a], self.values[node.b]
        if isinstance(a.base, Spikes) and isinstance(b.base, Spikes):
            if a.layout.simplified() != b.layout.simplified():
                raise self.refused(node, "adds values in different orders")
            base = a.base
            return Value(
                Spikes(node.name, base.shape, base.scale, (*base.parts, *b.base.parts)), a.layout
            )
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
            except Unfoldable as found:
                error = found
                continue
            self.schedules.own(population, name)
            base = Real(population, reader, shape, scale)
            return Value(base, layout or self.values[name].layout)
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
        readings: dict[int, Reading] = {}
        depth, pooled = 1, {}
        for i, base in enumerate(bases):
            if isinstance(base, Conv):
                readings[i] = self.conv_reading(base, reader)
            elif isinstance(base, (Spikes, Real)):
                readings[i] = self.reading(base, reader)
            elif isinstance(base, Driven):
                if base.slots != reader:
                    raise Unfoldable("a product in another schedule")
                depth = max(depth, self.net.need((q.src, q.lag) for q in base.projections))
            elif isinstance(base, Pool):
                pools.check(self, base, reader)
            else:
                raise Unfoldable("no feature map")
        for i, base in enumerate(bases):
            if isinstance(base, Pool):
                pooled[i] = pools.winners(self, base, reader, layer)
                depth = max(depth, self.net.need((w, 0) for w in pooled[i]))
        for i, base in enumerate(bases):
            if i in readings:
                hops = 1 if isinstance(base, (Spikes, Real)) or readings[i].direct else 2
                if readings[i].plans:
                    depth = max(depth, self.net.need(readings[i].sources(), hops))
        made = self.net.population(
            kind, name, (*reader.lanes, shape[2]), layer, depth, reader.digits, **fields
        )
        stray = 0
        for i, base in enumerate(bases):
            if isinstance(base, Conv):
                self.drive_conv(base, readings[i], reader, made, layer, gain)
            elif isinstance(base, Driven):
                self.net.drive(made, (self.builder.weighted(q, gain) for q in base.projections))
            elif isinstance(base, Pool):
                n = int(np.prod((*reader.lanes, shape[2])))
                for winner in pooled[i]:
                    self.net.drive(made, [strided(winner, (n,), (1,), (1,), weight=gain)])
            else:
                for part, found in readings[i].plans:
                    self.carry(part, found, made, reader.columns.lanes, shape[2], gain)
                    stray += found.stray * len(found.runs) * part.weight * gain
        if stray:
            if kind is not c.LIF:
                raise Unfoldable("a sum would not be silent outside of its windows")
            self.stray[made] = stray
        return made

    stray: dict[str, int] = {}

    def lif(self, node: s.IntegerLIF) -> Value:
        """A layer of neurons, silent outside of its windows."""
        value = self.values[node.x]
        if isinstance(node.dv, TensorRef):
            raise self.refused(node, "has a leak for each channel")
        if isinstance(node.vth, TensorRef):
            raise self.refused(node, "has a threshold for each channel")
        if isinstance(value.base, Total):
            value = heads.settled(self, node.x)
        shape, scale = self.map_of(value.base)
        layer = node.name
        fields: dict[str, Any] = {"vth": node.vth, "dv": node.dv, "reset": True}
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
        return self.spikes(node.name, made, reader, shape, scale, value.layout)

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
        self.view(name, slots, shape, layout)
        return Value(Spikes(name, shape, scale, (Part(population, slots),)), layout)

    def view(self, name: str, slots: Slots, shape: tuple[int, int, int], layout: Layout) -> None:
        """Where a layer lies: each digit of its logical index in neurons, and in windows."""
        sizes, strides, apart = self.schedules.digits(slots, shape, layout)
        self.builder.views.append(
            c.View(
                name=self.builder.name(f"view.{name}"),
                layer=name,
                src=Ref(name),
                shape=layout.shape,
                sizes=sizes,
                strides=strides,
                windows=apart if any(apart) else (),
            )
        )

    def by_channel(
        self, node: s.Node, tensor: TensorRef, layout: Layout, channels: int
    ) -> np.ndarray:
        """A tensor that broadcasts against the logical shape, as it lies in channels."""
        full = np.broadcast_to(self.graph.tensors[tensor], layout.shape).reshape(-1)
        index = layout.indices().reshape(-1) % channels
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
        fields = {"vth": 0, "dv": 4096}
        now = net.population(c.LIF, f"{node.name}.now", (1,), layer, depth - 2, digits, **fields)
        net.open_by(now, valid_windows(net.windows, digits), 1, (1,), (1,), 0)
        mark = net.mark()
        add_constants(self.builder, made, constants, node.name, now)
        net.adopt(mark, digits)
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
        if isinstance(base, (Conv, Pool, Driven)):
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
