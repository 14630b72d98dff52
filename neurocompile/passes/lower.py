"""Lower a quantized SpikingGraph to populations and projections: the CircuitGraph, depths and
delays still open.

Linear layers, sums, gains and views become projections; only what must be a neuron becomes one. A
value that several layers read, or that a gate or pool needs, is relayed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.circuits.builder import (
    Builder,
    Drive,
    Signal,
    channels_last,
    compact,
    loops,
    strided,
)
from neurocompile.circuits.gates import and_gate, at_least, graded_gate, or_gate, signed_gate
from neurocompile.circuits.latch import hold, total
from neurocompile.circuits.maximum import max_pool
from neurocompile.circuits.soft_reset import add_constants, soft_reset
from neurocompile.circuits.softmax import Exponentials, steady_softmax
from neurocompile.circuits.sum_pool import sum_pool
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges
from neurocompile.ir.layout import Layout
from neurocompile.ir.rules import check_circuit
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes import split_channels

__all__ = ["lower"]

_LARGEST_GATED = 255 << 9
_LARGEST_FACTOR = 16
"""Of a number of spikes that multiplies a graded value: so many gates a product."""
Product = tuple[Signal, tuple[Signal, int] | None]
_SPIKING = (s.IntegerLIF, s.SoftIntegerLIF, s.Or)


def lower(graph: s.SpikingGraph, steps: int, weight_bits: int = 8) -> c.CircuitGraph:
    """The circuit of a quantized ``graph`` for ``steps`` steps a sample; exact: the same integers
    at every layer.

    Raises NC2001 for a product of two graded signals.
    """
    lowering = _Lowering(graph, weight_bits, steps)
    for node in graph.nodes:
        lowering.lower(node)
    circuit = lowering.builder.finish(graph.name, steps)
    check_circuit(circuit, "lower")
    return circuit


class _Lowering:
    def __init__(self, graph: s.SpikingGraph, weight_bits: int, steps: int) -> None:
        self.graph, self.weight_bits, self.steps = graph, weight_bits, steps
        self.builder = Builder()
        self.signals: dict[str, Signal] = {}
        self.ranges = ranges(graph)
        self.rules: dict[type[s.Node], Callable[[Any], Signal]] = {
            s.Input: self.input,
            s.Conv2d: self.conv,
            s.Linear: self.linear,
            s.IntegerLIF: self.lif,
            s.IntegerIntegrator: self.integrator,
            s.Or: self.or_,
            s.SoftIntegerLIF: self.soft_lif,
            s.TimeSum: self.time_sum,
            s.RateSoftmax: self.softmax,
            s.Add: self.add,
            s.Mul: self.mul,
            s.MatMul: self.matmul,
            s.Sum: self.sum,
            s.MaxPool2d: self.max_pool,
            s.SumPool2d: self.sum_pool,
            s.Offset: self.offset,
            s.Shift: self.shift,
            s.Rearrange: self.rearrange,
            s.TimeMean: lambda n: self.signals[n.x],
            s.Output: self.output,
        }

    def lower(self, node: s.Node) -> None:
        try:
            signal = self.rules[type(node)](node)
        except ValueError as error:  # layouts that do not nest
            raise NeurocompileError(
                "NC2001", f"layer '{node.name}' ({type(node).__name__}): {error}"
            ) from error
        if isinstance(node, s.Add) and len(self.graph.users[node.name]) > 1:
            signal = self.builder.relay(signal, node.name, self.layer(node))
        if isinstance(node, _SPIKING):
            self.builder.view(node.name, signal)
        self.signals[node.name] = signal

    # ---- helpers ---------------------------------------------------------------------------------

    def layer(self, node: s.Node) -> str:
        """The spiking layer or output that ``node`` helps to compute: the first one downstream."""
        while not isinstance(node, (*_SPIKING, s.Output)):
            node = self.graph.users[node.name][0]
        return node.name

    def range(self, name: str) -> Range:
        found = self.ranges[name]
        assert found is not None
        return found

    def population(self, node: s.Node, name: str) -> Signal:
        """Value ``name``, which ``node`` reads, as a population."""
        relayed = self.builder.relay(self.signals[name], name, self.layer(self.graph.node[name]))
        self.signals[name] = relayed
        return relayed

    def feature_map(self, node: s.Node, name: str) -> str:
        """Value ``name`` as an (H, W, C) population: relayed into that order where it lies
        otherwise.
        """
        signal = self.population(node, name)
        assert isinstance(signal.base, str)
        layout = channels_last(signal.shape)
        shape = (*signal.shape[1:], signal.shape[0])
        if (
            signal.layout.simplified() == layout.simplified()
            and self.builder.shape(signal.base) == shape
        ):
            return signal.base
        relay = self.builder.population(c.GradedRelay, f"{name}.hwc", shape, self.layer(node))
        self.builder.drive(relay, self.builder.carry(signal, layout))
        return relay

    def neuron_shape(self, drive: Drive, layout: Layout) -> tuple[int, ...]:
        """(H, W, C) where the drive's array is such a feature map, its own shape otherwise."""
        shape = layout.shape
        if any(isinstance(p, c.Conv2d) for p in drive.projections):
            return drive.shape
        if len(shape) == 3 and layout.simplified() == channels_last(shape).simplified():
            return (*shape[1:], shape[0])
        return drive.shape

    def as_drive(self, signal: Signal) -> Signal:
        """``signal`` as the input of a neuron of its own."""
        if isinstance(signal.base, Drive):
            return signal
        shape, layout = compact(signal.layout)
        if signal.layout == layout:
            shape = self.builder.shape(signal.base)
        return Signal(Drive(shape, self.builder.carry(signal, layout)), layout)

    # ---- nodes -----------------------------------------------------------------------------------

    def input(self, node: s.Input) -> Signal:
        node.check_steps(self.steps)
        fields: dict[str, Any] = {
            "low": node.low,
            "high": node.high,
            "scale": node.unit,
            "stepwise": node.steps > 0,
        }
        if len(node.shape) == 3:
            shape = (*node.shape[1:], node.shape[0])
            name = self.builder.population(
                c.HostInput, node.name, shape, node.name, source_axes=(1, 2, 0), **fields
            )
            return Signal(name, channels_last(node.shape))
        name = self.builder.population(c.HostInput, node.name, node.shape, node.name, **fields)
        return Signal(name, Layout.contiguous(node.shape))

    def conv(self, node: s.Conv2d) -> Signal:
        source = self.feature_map(node, node.x)
        kernel = np.ascontiguousarray(self.graph.tensors[node.weight].transpose(0, 2, 3, 1))
        out, kh, kw, _ = kernel.shape
        height, width, _ = self.builder.shape(source)
        rows = (height + 2 * node.padding[0] - node.dilation[0] * (kh - 1) - 1) // node.stride[
            0
        ] + 1
        columns = (width + 2 * node.padding[1] - node.dilation[1] * (kw - 1) - 1) // node.stride[
            1
        ] + 1
        projection = c.Conv2d(
            name="",
            src=Ref(source),
            dst=Ref(""),
            weight=self.builder.tensor(node.weight, kernel),
            stride=node.stride,
            padding=node.padding,
            dilation=node.dilation,
            groups=node.groups,
            weight_bits=self.weight_bits,
            weight_exp=node.exponent,
        )
        return Signal(
            Drive((rows, columns, out), (projection,)), channels_last((out, rows, columns))
        )

    def linear(self, node: s.Linear) -> Signal:
        signal = self.population(node, node.x)
        weight = self.graph.tensors[node.weight]
        if len(signal.shape) != 1:
            raise NeurocompileError(
                "NC2001",
                f"layer '{node.name}' is a Linear over {list(signal.shape)}; use a 1x1 Conv for tokens",
            )
        assert isinstance(signal.base, str)
        columns = np.zeros((len(weight), int(np.prod(self.builder.shape(signal.base)))), np.int16)
        columns[:, signal.layout.indices()] = weight
        projection = c.Dense(
            name="",
            src=Ref(signal.base),
            dst=Ref(""),
            weight=self.builder.tensor(node.weight, columns),
            weight_bits=self.weight_bits,
            weight_exp=node.exponent,
        )
        return Signal(Drive((len(weight),), (projection,)), Layout.contiguous((len(weight),)))

    def lif(self, node: s.IntegerLIF) -> Signal:
        signal = self.as_drive(self.signals[node.x])
        drive = signal.base
        assert isinstance(drive, Drive)
        shape = self.neuron_shape(drive, signal.layout)
        bias = (
            None
            if node.bias is None
            else self.bias(self.graph.tensors[node.bias], signal.layout, shape)
        )
        if isinstance(node.dv, TensorRef) or isinstance(node.vth, TensorRef):
            return self.lif_parts(node, drive, shape, signal.layout, bias)
        name = self.population_of(node, node.name, shape, node.vth, node.dv, bias)
        self.builder.drive(name, (self.builder.weighted(p, node.gain) for p in drive.projections))
        return Signal(name, signal.layout)

    def population_of(
        self,
        node: s.IntegerLIF,
        name: str,
        shape: tuple[int, ...],
        vth: int,
        dv: int,
        bias: np.ndarray | None,
    ) -> str:
        stored = None if bias is None else self.builder.tensor(f"{node.bias}", bias)
        return self.builder.population(
            c.LIF,
            name,
            shape,
            node.name,
            vth=vth,
            dv=dv,
            du=node.current - 1,
            bias=stored,
            bias_exp=node.bias_exp,
            reset=True,
        )

    def integrator(self, node: s.IntegerIntegrator) -> Signal:
        """Its positive and its negative part, each a rectifier that reads both, one step before: one
        of the two is 0, so that one rounded product arrives.
        """
        signal = self.population(node, node.x)
        assert isinstance(signal.base, str)
        shape = self.builder.shape(signal.base)
        n, layer = int(np.prod(shape)), self.layer(node)
        parts = [
            (
                self.builder.population(
                    c.GradedRelu, f"{node.name}.{part}", shape, layer, largest=node.largest
                ),
                sign,
            )
            for part, sign in (("plus", 1), ("minus", -1))
        ]
        for name, sign in parts:
            self.builder.drive(name, [strided(signal.base, (n,), (1,), (1,), weight=sign)])
            for src, other in parts if node.weight else ():
                own = strided(src, (n,), (1,), (1,), weight=sign * other * node.weight)
                self.builder.drive(name, [replace(own, weight_exp=-7, recurrent=True)])
        both = tuple(strided(name, (n,), (1,), (1,), weight=sign) for name, sign in parts)
        return Signal(Drive(shape, both), signal.layout)

    def lif_parts(
        self,
        node: s.IntegerLIF,
        drive: Drive,
        shape: tuple[int, ...],
        layout: Layout,
        bias: np.ndarray | None,
    ) -> Signal:
        """A leak, or a threshold, for each channel."""
        thresholds, leaks = (
            self.bias(self.graph.tensors[v].astype(np.int64), layout, shape)
            if isinstance(v, TensorRef)
            else v
            for v in (node.vth, node.dv)
        )
        both = np.asarray(thresholds << 13 | leaks)
        parts, made = split_channels.parts(both, layout, shape), []
        read = split_channels.source(
            self.builder, drive, shape, parts[0].by_channel, f"{node.name}.in", node.name
        )
        for part in parts:
            own = None if bias is None else part.take(bias, shape)
            vth, dv = divmod(int(np.broadcast_to(both, shape).reshape(-1)[part.first]), 1 << 13)
            name = f"{node.name}.vth{vth}" if isinstance(node.vth, TensorRef) else node.name
            name = f"{name}.leak{dv}" if isinstance(node.dv, TensorRef) else name
            name = self.population_of(node, name, part.shape, vth, dv, own)
            self.builder.drive(name, split_channels.inputs(self.builder, part, read, node.gain))
            made.append((part, name))
        return split_channels.gather(self.builder, made, shape, layout, node.name)

    def soft_lif(self, node: s.SoftIntegerLIF) -> Signal:
        signal = self.as_drive(self.signals[node.x])
        drive = signal.base
        assert isinstance(drive, Drive)
        shape = self.neuron_shape(drive, signal.layout)
        bias = None
        if node.bias is not None:
            bias = self.bias(self.graph.tensors[node.bias], signal.layout, shape)
        found = self.range(node.x)
        # tighter than interval arithmetic on the circuit, which knows neither rows of weights nor
        # tournaments
        bound = node.gain * found.magnitude + (
            0 if bias is None else int(np.abs(bias).max(initial=0))
        )
        largest = ((bound >> node.shift) + 1) * self.steps
        if isinstance(node.decay, TensorRef):
            return self.soft_parts(node, drive, shape, signal.layout, bias, bound, largest)
        current = self.builder.population(
            c.GradedRelay, f"{node.name}.in", shape, node.name, largest=bound
        )
        self.builder.drive(
            current, (self.builder.weighted(p, node.gain) for p in drive.projections)
        )
        return Signal(soft_reset(self.builder, current, bias, node, largest), signal.layout)

    def soft_parts(
        self,
        node: s.SoftIntegerLIF,
        drive: Drive,
        shape: tuple[int, ...],
        layout: Layout,
        bias: np.ndarray | None,
        bound: int,
        largest: int,
    ) -> Signal:
        """A leak for each channel."""
        decays, resets = (
            np.broadcast_to(self.bias(self.graph.tensors[t], layout, shape), shape)  # type: ignore[index]
            for t in (node.decay, node.reset)
        )
        parts, made = split_channels.parts(decays, layout, shape), []
        read = split_channels.source(
            self.builder, drive, shape, parts[0].by_channel, f"{node.name}.in", node.name
        )
        for part in parts:
            decay, reset = (int(values.reshape(-1)[part.first]) for values in (decays, resets))
            own = replace(node, name=f"{node.name}.leak{decay}", decay=decay, reset=reset)
            current = self.builder.population(
                c.GradedRelay, f"{own.name}.in", part.shape, node.name, largest=bound
            )
            self.builder.drive(current, split_channels.inputs(self.builder, part, read, node.gain))
            taken = None if bias is None else part.take(bias, shape)
            made.append((part, soft_reset(self.builder, current, taken, own, largest, node.name)))
        return split_channels.gather(self.builder, made, shape, layout, node.name, node.levels)

    @staticmethod
    def bias(bias: np.ndarray, layout: Layout, shape: tuple[int, ...]) -> np.ndarray:
        """``bias``, which broadcasts against the logical shape, as an array that broadcasts against
        ``shape``.
        """
        lies = (
            len(layout.shape) == 3
            and layout.simplified() == channels_last(layout.shape).simplified()
        )
        if (
            lies
            and bias.ndim == 3
            and bias.shape[1:] == (1, 1)
            and shape == (*layout.shape[1:], layout.shape[0])
        ):
            return np.ascontiguousarray(bias[:, 0, 0])
        full = np.empty(int(np.prod(shape)), bias.dtype)
        full[layout.indices()] = np.broadcast_to(bias, layout.shape)
        return full.reshape(shape)

    def or_(self, node: s.Or) -> Signal:
        signal = self.as_drive(self.signals[node.x])
        assert isinstance(signal.base, Drive)
        gate = or_gate(
            self.builder,
            self.neuron_shape(signal.base, signal.layout),
            signal.layout,
            node.name,
            node.name,
        )
        self.builder.drive(str(gate.base), signal.base.projections)
        return gate

    def time_sum(self, node: s.TimeSum) -> Signal:
        signal = self.as_drive(self.signals[node.x])
        assert isinstance(signal.base, Drive)
        shape, found = self.neuron_shape(signal.base, signal.layout), self.range(node.name)
        name = total(
            self.builder,
            signal.base.projections,
            shape,
            (found.low, found.high),
            self.steps,
            node.name,
            self.layer(node),
        )
        return Signal(name, signal.layout)

    def softmax(self, node: s.RateSoftmax) -> Signal:
        signal = self.population(node, node.x)
        rows, n = int(np.prod(signal.shape[:-1])), signal.shape[-1]
        shape, layout = compact(signal.layout)
        last = layout.simplified().dims[-1]
        if layout != signal.layout or (
            n > 1 and (len(last) != 1 or last[0].stride != 1)
        ):  # rows lie one behind the other
            layout = Layout.contiguous(signal.shape)
            name = self.builder.population(
                c.GradedRelay, f"{node.name}.rows", signal.shape, node.name
            )
            self.builder.drive(name, self.builder.carry(signal, layout))
            signal = Signal(name, layout)
        grid = Exponentials(
            self.graph.tensors[node.thresholds].astype(np.int64), node.span, node.shift
        )
        assert isinstance(signal.base, str)
        return Signal(
            steady_softmax(self.builder, signal.base, rows, n, grid, self.steps, node.name), layout
        )

    def add(self, node: s.Add) -> Signal:
        first, second = (self.signals[i] for i in node.inputs)
        if first.shape != second.shape:
            shapes = f"{first.shape} and {second.shape}"
            raise NeurocompileError(
                "NC2001", f"layer '{node.name}' adds {shapes}; equal shapes are supported"
            )
        first = self.as_drive(first)
        assert isinstance(first.base, Drive)
        if isinstance(second.base, Drive):
            convolved = any(isinstance(p, c.Conv2d) for p in second.base.projections)
            if second.layout != first.layout or (
                convolved and second.base.shape != first.base.shape
            ):
                second = self.population(node, node.b)
        return Signal(
            Drive(
                first.base.shape, first.base.projections + self.builder.carry(second, first.layout)
            ),
            first.layout,
        )

    def mul(self, node: s.Mul) -> Signal:
        a, b = (self.population(node, i) for i in node.inputs)
        logical = np.broadcast_shapes(a.shape, b.shape)
        shape, layout = logical, Layout.contiguous(logical)
        for full in (b, a):  # the gates lie like the factor that has all axes, if one has
            if full.shape == logical:
                shape, layout = compact(full.layout)
        a, b = (
            Signal(i.base, Layout(((),) * (len(logical) - len(i.shape)) + i.layout.dims))
            for i in (a, b)
        )
        products = self.product(node, node.a, node.b, a, b, shape, layout, node.name)
        if len(products) == 1 and not products[0][1]:
            return products[0][0]
        return Signal(Drive(shape, self.summed(products, layout)), layout)

    def summed(self, products: list[Product], target: Layout) -> tuple[c.Projection, ...]:
        """The sum of ``products``, broadcast and summed to ``target``. What a signed one still
        needs: minus M times its spikes.
        """
        found: tuple[c.Projection, ...] = ()
        for product, inhibition in products:
            found += self.builder.carry(product, target)
            if inhibition:
                spike, largest = inhibition
                found += self.builder.carry(spike, target, -largest)
        return found

    def product(
        self,
        node: s.Node,
        a_name: str,
        b_name: str,
        a: Signal,
        b: Signal,
        shape: tuple[int, ...],
        layout: Layout,
        name: str,
    ) -> list[Product]:
        """Element-wise product of two signals, broadcast to ``layout``, as the sum of populations
        of gates; and of those whose factor may be negative the spikes, and M, that are still to be
        taken from them."""
        left, right = self.range(a_name), self.range(b_name)
        if not left.is_spike and (
            right.is_spike or left.low < 0 or 0 <= right.low <= right.high < left.high
        ):
            a, b, left, right = b, a, right, left
        if left.low < 0 or left.high > _LARGEST_FACTOR:
            raise NeurocompileError(
                "NC2001",
                f"layer '{node.name}' multiplies {left.low}..{left.high} by {right.low}..{right.high}; one factor "
                f"must be spikes, or numbers of spikes up to {_LARGEST_FACTOR}",
            )
        layer = self.layer(node)
        if left.is_spike:
            return [self.gated(node, a, b, right, shape, layout, name, layer)]
        products = []
        for k in range(1, left.high + 1):
            plane = at_least(self.builder, a, k, f"{name}.at_least{k}", layer)
            gate = self.gated(node, plane, b, right, shape, layout, f"{name}.times{k}", layer)
            products.append(gate)
        return products

    def gated(
        self,
        node: s.Node,
        a: Signal,
        b: Signal,
        right: Range,
        shape: tuple[int, ...],
        layout: Layout,
        name: str,
        layer: str,
    ) -> Product:
        """The product of the spikes ``a`` and ``b``, which lies in ``right``."""
        if right.magnitude > _LARGEST_GATED:
            raise NeurocompileError(
                "NC2002",
                f"layer '{node.name}' gates values up to {right.magnitude:,}; the limit is {_LARGEST_GATED:,}",
            )
        if right.is_spike:
            return and_gate(self.builder, a, b, shape, layout, name, layer), None
        if right.low >= 0:
            return graded_gate(self.builder, b, right.high, a, shape, layout, name, layer), None
        gate, largest = signed_gate(self.builder, b, right.magnitude, a, shape, layout, name, layer)
        return gate, (a, largest)

    def matmul(self, node: s.MatMul) -> Signal:
        a, b = (self.population(node, i) for i in node.inputs)
        if isinstance(
            self.graph.node[node.a], s.RateSoftmax
        ):  # its spikes come one sample later than what it reads
            found = self.range(node.b)
            assert isinstance(b.base, str)
            b = Signal(
                hold(
                    self.builder,
                    b.base,
                    (found.low, found.high),
                    self.steps,
                    f"{node.b}.held",
                    self.layer(node),
                ),
                b.layout,
            )
        *lead, n, k = a.shape
        m = b.shape[-1]
        if tuple(lead) != b.shape[:-2]:
            raise NeurocompileError(
                "NC2001",
                f"layer '{node.name}' broadcasts {a.shape} @ {b.shape}; equal heads are supported",
            )
        # gates (..., n, k, m), tokens first in memory; then the sum over k
        rank = len(lead)
        gate_shape = (n, *lead, k, m)
        order = (*range(1, rank + 1), 0, rank + 1, rank + 2)
        gates = Layout.contiguous(gate_shape).transpose(order)
        left = Signal(a.base, Layout((*a.layout.dims, ())))
        right = Signal(b.base, Layout((*b.layout.dims[:-2], (), *b.layout.dims[-2:])))
        products = self.product(
            node, node.a, node.b, left, right, gate_shape, gates, f"{node.name}.gate"
        )
        shape = (n, *lead, m)
        result = Layout.contiguous(shape).transpose((*range(1, rank + 1), 0, rank + 1))
        target = Layout((*result.dims[:-1], (), result.dims[-1]))
        return Signal(Drive(shape, self.summed(products, target)), result)

    def sum(self, node: s.Sum) -> Signal:
        signal = self.population(node, node.x)
        dims = signal.layout.dims
        kept = Layout(tuple(() if i in node.axes else d for i, d in enumerate(dims)))
        shape, target = compact(kept)
        assert isinstance(signal.base, str)
        projection = strided(signal.base, *loops(signal.layout, target))
        logical = (
            target.dims
            if node.keepdims
            else tuple(d for i, d in enumerate(target.dims) if i not in node.axes)
        )
        return Signal(Drive(shape, (projection,)), Layout(logical))

    def max_pool(self, node: s.MaxPool2d) -> Signal:
        source = self.feature_map(node, node.x)
        winners, shape = max_pool(
            self.builder,
            source,
            node.kernel,
            node.stride,
            node.padding,
            node.name,
            self.layer(node),
            node.more,
        )
        height, width, channels = shape
        projections = tuple(strided(w, (int(np.prod(shape)),), (1,), (1,)) for w in winners)
        return Signal(Drive(shape, projections), channels_last((channels, height, width)))

    def sum_pool(self, node: s.SumPool2d) -> Signal:
        source = self.feature_map(node, node.x)
        projection, shape = sum_pool(
            self.builder, source, node.kernel, node.stride, node.padding, node.name, node.more
        )
        height, width, channels = shape
        return Signal(Drive(shape, (projection,)), channels_last((channels, height, width)))

    def offset(self, node: s.Offset) -> Signal:
        signal = self.as_drive(self.signals[node.x])
        assert isinstance(signal.base, Drive)
        shape = self.neuron_shape(signal.base, signal.layout)
        name = self.builder.population(c.GradedRelay, node.name, shape, self.layer(node))
        self.builder.drive(name, signal.base.projections)
        add_constants(
            self.builder,
            name,
            self.bias(self.graph.tensors[node.offset], signal.layout, shape),
            self.layer(node),
        )
        return Signal(name, signal.layout)

    def shift(self, node: s.Shift) -> Signal:
        signal = self.population(node, node.x)
        assert isinstance(signal.base, str)
        shape = self.builder.shape(signal.base)
        name = self.builder.population(c.GradedRelay, node.name, shape, self.layer(node))
        self.builder.drive(
            name,
            [
                replace(
                    strided(signal.base, (int(np.prod(shape)),), (1,), (1,)), weight_exp=-node.bits
                )
            ],
        )
        return Signal(name, signal.layout)

    def rearrange(self, node: s.Rearrange) -> Signal:
        signal = self.signals[node.x]
        if np.prod(node.shape) < np.prod(signal.shape):
            return self.slice(node)
        return Signal(signal.base, signal.layout.rearranged(node.shape, node.sizes, node.strides))

    def slice(self, node: s.Rearrange) -> Signal:
        """A piece of a value, relayed."""
        signal = self.population(node, node.x)
        assert isinstance(signal.base, str)
        source = signal.layout.rearranged(node.shape, node.sizes, node.strides)
        shape, layout = compact(source)
        name = self.builder.population(c.GradedRelay, node.name, shape, self.layer(node))
        start = signal.layout.memory(node.offset)
        self.builder.drive(name, [strided(signal.base, *loops(source, layout), src_offset=start)])
        return Signal(name, layout)

    def output(self, node: s.Output) -> Signal:
        signal = self.as_drive(self.signals[node.x])
        if not signal.layout.is_contiguous:  # the host reads the array as it lies
            target = Layout.contiguous(signal.shape)
            signal = Signal(
                Drive(signal.shape, self.builder.carry(self.population(node, node.x), target)),
                target,
            )
        name = self.builder.population(c.GradedRelay, node.name, signal.base.shape, node.name)  # type: ignore[union-attr]
        self.builder.drive(name, signal.base.projections)  # type: ignore[union-attr]
        shape = signal.shape if node.shape is None else node.shape
        bias = None
        if node.bias is not None:
            values = np.broadcast_to(self.graph.tensors[node.bias], signal.shape)
            bias = self.builder.tensor(node.bias, np.array(values.reshape(shape)))
        self.builder.readouts.append(
            c.Readout(
                name=self.builder.name("readout"),
                src=Ref(name),
                scale=node.unit,
                bias=bias,
                per_step=node.per_step,
                shape=None if len(shape) == 1 else shape,
            )
        )
        return Signal(name, signal.layout)
