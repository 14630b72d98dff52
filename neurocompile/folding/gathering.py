"""How a population under construction gets what it reads: patches of maps in other schedules, what
the host sends, and convolutions over both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from neurocompile.circuits.builder import Builder, strided
from neurocompile.errors import NeurocompileError, argument
from neurocompile.folding.net import Net
from neurocompile.folding.reading import Patch, Plan, patch_of, plan
from neurocompile.folding.schedules import Schedules
from neurocompile.folding.slots import Slots, Unfoldable
from neurocompile.folding.values import Base, Conv, Host, Part, Real, Spikes, split
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["Facts", "Gathering", "Reading"]


@dataclass(frozen=True)
class Reading:
    """Parts of a value as one patch."""

    base: Base
    patch: Patch
    plans: tuple[tuple[Part, Plan], ...]
    direct: str = ""
    """The population itself, where it lies as its reader wants it."""
    halves: tuple[tuple[int, int], ...] = ()
    """(sign, largest input) of the rectified halves in which a real value is silenced, where some of
    it arrives in windows that are not the reader's."""

    @property
    def hops(self) -> int:
        """Steps from the sources to what reads the patch."""
        if self.direct:
            return 1
        return 3 if any(sign < 0 for sign, _ in self.halves) else 2

    def sources(self) -> list[tuple[str, int]]:
        """(population, lag) that decide the depth of the patch."""
        return [(part.population, plan.least_lag) for part, plan in self.plans]


def _name_of(base: Base) -> str:
    """Of what a patch is taken."""
    if isinstance(base, Host):
        return base.node.name
    if isinstance(base, Spikes):
        return base.key
    if isinstance(base, Real):
        return base.population
    raise Unfoldable("a value that is no population yet")


class Facts:
    """A graph with what every attempt to fold it asks for."""

    def __init__(self, graph: s.SpikingGraph) -> None:
        self.graph, self.ranges, self.shapes = graph, ranges(graph), shapes(graph)


class Gathering:
    """The patches of one fold of one graph."""

    def __init__(self, facts: Facts, net: Net, schedules: Schedules, weight_bits: int) -> None:
        self.graph, self.net, self.schedules = facts.graph, net, schedules
        self.weight_bits = weight_bits
        self.builder: Builder = net.builder
        self.ranges, self.shapes = facts.ranges, facts.shapes
        self.now = ""
        """The node that is being lowered."""
        self.suspect: str | None = None
        """A layer whose schedule another one of could have let this one be read."""
        self._gathered: dict[Any, str] = {}

    def refused(self, node: s.Node, why: str) -> NeurocompileError:
        """NC3104."""
        return NeurocompileError(
            "NC3104",
            f"layer '{node.name}' ({type(node).__name__}) {why}: build it with {argument('fold', 'none')}",
            layer=node.name,
        )

    # ---- helpers ---------------------------------------------------------------------------------

    def layer(self, node: s.Node) -> str:
        """:meth:`SpikingGraph.layer_of`."""
        return self.graph.layer_of(node)

    def range(self, name: str) -> Range:
        """Bounds of a value."""
        found = self.ranges[name]
        assert found is not None
        return found

    def bound(self, population: str, name: str) -> None:
        """Remember that a graded population carries value ``name``, or 0."""
        found = self.ranges.get(name)
        if found is not None:
            self.net.bounds[population] = min(found.low, 0), max(found.high, 0)

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
        *,
        patched: bool = False,
    ) -> Reading:
        """How ``reader`` gets the patch under ``kernel`` (its dilated extent).

        Args:
            patched: a population of its own will carry the patch, and can be silenced.
        """
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
            own = plan(reader, reader, patch, self.net.windows)
            return Reading(base, patch, ((parts[0], own),), parts[0].population)
        patch, plans = patch_of(reader, parts[0].slots, kernel, stride, padding), []
        for part in parts:
            if patch_of(reader, part.slots, kernel, stride, padding) != patch:
                raise Unfoldable("parts of a residual lie in different ways")
            try:
                plans.append((part, plan(reader, part.slots, patch, self.net.windows)))
            except Unfoldable:
                self.suspect = self.schedules.owner(part.population)
                raise
        halves: tuple[tuple[int, int], ...] = ()
        if isinstance(base, Real) and any(p.stray for _, p in plans):
            if not patched:
                raise Unfoldable("a real value would be read in windows that are not its reader's")
            halves = self._halves(base, patch, [found for _, found in plans])
        return Reading(base, patch, tuple(plans), halves=halves)

    def _halves(self, base: Real, patch: Patch, plans: list[Plan]) -> tuple[tuple[int, int], ...]:
        """How each sign of a real value is silenced."""
        if base.population not in self.net.bounds:
            raise Unfoldable("a real value without known bounds arrives in windows of others")
        low, high = self.net.bounds[base.population]
        heard = np.zeros(patch.shape, np.int64)
        for run in (run for found in plans for run in found.runs):
            place = tuple(slice(a, a + n) for a, n in zip(run.first, run.count))
            heard[place] += 1
        most = int(heard.max())
        found = [(sign, most * amount) for sign, amount in ((1, high), (-1, -low)) if amount > 0]
        largest = max((amount for _, amount in found), default=0)
        if largest > self.builder.fields.held:
            raise Unfoldable(
                f"a real value of {largest:,} would arrive in windows that are not its reader's; "
                f"{self.builder.fields.held:,} can be silenced"
            )
        return tuple(found) or ((1, 1),)

    def need(self, readings: Iterable[Reading]) -> int:
        """Least depth of a population that reads all of these patches."""
        depth = 1
        for reading in readings:
            if reading.plans:
                least = self.net.need(reading.sources(), reading.hops)
                depth = max(depth, least, reading.hops)
        return depth

    def gather(self, reading: Reading, reader: Slots, depth: int, layer: str) -> str:
        """The patch as a population (rows, columns, C) one step before ``depth``."""
        if reading.direct:
            return reading.direct
        base = reading.base
        key = (_name_of(base), reading.patch, reader, depth)
        if key not in self._gathered:
            made = self._bring if isinstance(base, Host) else self.own_patch
            self._gathered[key] = made(reading, reader, depth, layer)
        return self._gathered[key]

    def own_patch(self, reading: Reading, reader: Slots, depth: int, layer: str) -> str:
        """A patch of a map on the chip that is shared with nobody."""
        if reading.halves:
            return self._silenced(reading, reader, depth, layer)
        base = reading.base
        channels = base.shape[2]  # type: ignore[union-attr]
        spikes = isinstance(base, Spikes) and base.single
        stray = any(found.stray for _, found in reading.plans)
        kind = c.LIF if spikes else c.GradedRelu if stray else c.GradedRelay
        fields = {"vth": 0, "dv": ALL} if spikes else {}
        shape = (*reading.patch.shape, channels)
        made = self.net.population(
            kind, f"{_name_of(base)}.patch", shape, layer, depth - 1, reader.digits, **fields
        )
        for part, found in reading.plans:
            self.carry(part, found, made, shape[1], channels)
        if isinstance(base, Real) and base.population in self.net.bounds:
            self.net.bounds[made] = self.net.bounds[base.population]
        if stray:
            amount = sum(part.weight * len(p.runs) for part, p in reading.plans)
            self.net.close(made, reader.digits, amount, layer)
        return made

    def _silenced(self, reading: Reading, reader: Slots, depth: int, layer: str) -> str:
        """The patch of a real value, of halves that are closed outside of the reader's windows."""
        base = reading.base
        assert isinstance(base, Real)
        shape = (*reading.patch.shape, base.shape[2])
        name, digits = f"{base.population}.patch", reader.digits
        single = len(reading.halves) == 1 and reading.halves[0][0] > 0
        made = []
        for sign, amount in reading.halves:
            wanted = name if single else f"{name}.{'negative' if sign < 0 else 'positive'}"
            at = depth - reading.hops + 1
            half = self.net.population(c.GradedRelu, wanted, shape, layer, at, digits)
            for part, found in reading.plans:
                self.carry(part, found, half, shape[1], shape[2], sign)
            self.net.close(half, digits, amount, layer)
            made.append((sign, half))
        if single:
            whole = made[0][1]
        else:
            whole = self.net.population(c.GradedRelay, name, shape, layer, depth - 1, digits)
            for sign, half in made:
                self.net.drive(whole, [strided(half, (prod(shape),), (1,), (1,), weight=sign)])
        self.net.bounds[whole] = self.net.bounds[base.population]
        return whole

    def carry(
        self, part: Part, found: Plan, dst: str, columns: int, channels: int, gain: int = 1
    ) -> None:
        """Projections of one part to a patch of ``columns``."""
        width, sign = part.slots.columns.lanes, 1 if gain > 0 else -1
        for run in found.runs:
            for weight in self.builder.terms(abs(part.weight * gain)):
                q = strided(
                    part.population,
                    (*run.count, channels),
                    (width * channels, channels, 1),
                    (columns * channels, channels, 1),
                    weight=sign * weight,
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
        size = self.graph.tensors[node.weight].shape[2:]
        rows, columns = (d * (k - 1) + 1 for d, k in zip(node.dilation, size))
        base = conv.x.base
        return self.reading(base, reader, (rows, columns), node.stride, node.padding, patched=True)

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
