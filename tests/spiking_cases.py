"""Random quantized SpikingGraphs, built node by node from a hypothesis draw, and the comparison
with ``evaluate``.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef


class Maker:
    """Collects nodes; every method adds one and returns its name."""

    def __init__(self, draw, shape: tuple[int, ...], low: int = -3, high: int = 15) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
        self.nodes: list[s.Node] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.x = self.add(s.Input, "x", shape=shape, unit=1.0, low=low, high=high)

    def choose(self, *options):
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def add(self, kind: type[s.Node], name: str = "", **fields) -> str:
        fields = {
            k: Ref(v) if k in ("x", "a", "b", "digits", "value") else v for k, v in fields.items()
        }
        name = name or f"{kind.__name__.lower()}{len(self.nodes)}"
        self.nodes.append(kind(name=name, **fields))
        return name

    def tensor(self, value: np.ndarray, dtype: type = np.int16) -> TensorRef:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = value.astype(dtype)
        return TensorRef(name)

    def graph(self, name: str = "random") -> s.SpikingGraph:
        return s.SpikingGraph(name, "quantized", tuple(self.nodes), dict(self.tensors))

    def shape(self, name: str) -> tuple[int, ...]:
        return shapes(self.graph())[name]

    def range(self, name: str) -> Range:
        found = ranges(self.graph())[name]
        assert found is not None
        return found

    def weight(self, *shape: int) -> TensorRef:
        """Even mantissas of every size, among them zeros."""
        largest = self.choose(1, 8, 50)
        return self.tensor(2 * self.rng.integers(-largest, largest + 1, shape))

    def conv(self, x: str) -> str:
        channels, height, width = self.shape(x)
        groups = self.choose(*(g for g in (1, 2, 3) if channels % g == 0))
        padding = (self.integer(0, 1), self.integer(0, 1))
        kernel = tuple(self.integer(1, min(3, n + 2 * p)) for n, p in zip((height, width), padding))
        weight = self.weight(groups * self.integer(1, 2), *(channels // groups, *kernel))
        stride = (self.integer(1, 2), self.integer(1, 2))
        return self.add(s.Conv2d, x=x, weight=weight, stride=stride, padding=padding, groups=groups)

    def linear(self, x: str) -> str:
        (width,) = self.shape(x)
        return self.add(s.Linear, x=x, weight=self.weight(self.integer(1, 3), width))

    def pool(self, x: str) -> str:
        _, *size = self.shape(x)
        kernel = tuple(self.integer(1, min(3, n)) for n in size)
        padding = tuple(self.integer(0, k // 2) for k in kernel)
        return self.add(
            s.MaxPool2d,
            x=x,
            kernel=kernel,
            stride=(self.integer(1, 2), self.integer(1, 2)),
            padding=padding,
        )

    def sum_pool(self, x: str) -> str:
        _, *size = self.shape(x)
        kernel = tuple(self.integer(1, min(3, n)) for n in size)
        padding = tuple(self.integer(0, k // 2) for k in kernel)
        return self.add(
            s.SumPool2d,
            x=x,
            kernel=kernel,
            stride=(self.integer(1, 2), self.integer(1, 2)),
            padding=padding,
        )

    def offset(self, x: str) -> str:
        shape, largest = self.shape(x), self.choose(3, 300, 40_000)
        broad = (shape[0], 1, 1) if len(shape) == 3 and self.draw(st.booleans()) else shape
        name = f"t{len(self.tensors)}"
        self.tensors[name] = self.rng.integers(-largest, largest + 1, broad)
        return self.add(s.Offset, x=x, offset=TensorRef(name))

    def shift(self, x: str) -> str:
        return self.add(s.Shift, x=x, bits=self.integer(1, 7))

    def lif(self, x: str, gain: int = 1) -> str:
        shape, reach = self.shape(x), self.range(x).magnitude * gain
        assume(reach <= 131071)  # the quantizer sees to it: a larger current wraps on the chip
        bias, exponent = None, 0
        if self.draw(st.booleans()):
            exponent = self.integer(0, 3)
            broad = (shape[0], 1, 1) if len(shape) == 3 and self.draw(st.booleans()) else shape
            bias = self.tensor(self.rng.integers(-100, 200, broad))
        vth = min(self.integer(0, max(1, reach // 2)), 131071)
        if self.integer(0, 3) == 3:
            vth = self.thresholds(shape, vth)
        dv = self.choose(0, 1, 1024, 2048, 4095, "channels")
        if dv == "channels":
            dv = self.leaks(shape)
        return self.add(s.IntegerLIF, x=x, vth=vth, dv=dv, gain=gain, bias=bias, bias_exp=exponent)

    def thresholds(self, shape: tuple[int, ...], largest: int) -> TensorRef:
        """A threshold for each channel, or for each element of any of the axes."""
        axes = self.draw(st.sets(st.integers(0, len(shape) - 1)))
        broad = tuple(n if k in axes or not k else 1 for k, n in enumerate(shape))
        return self.tensor(
            self.rng.choice(np.asarray([largest, largest // 3, largest // 7]), broad), np.int32
        )

    def leaks(self, shape: tuple[int, ...]) -> TensorRef:
        """A leak for each channel, or for each element of any of the axes."""
        axes = self.draw(st.sets(st.integers(0, len(shape) - 1)))
        broad = tuple(n if k in axes or not k else 1 for k, n in enumerate(shape))
        return self.tensor(
            self.rng.choice(np.asarray(self.choose((0, 2048), (0, 1, 1024, 2048, 4095))), broad)
        )

    def rearrange(
        self, x: str, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]
    ) -> str:
        """``x.reshape(split).transpose(order).reshape(shape)``."""
        strides = [prod(split[i + 1 :]) for i in range(len(split))]
        return self.add(
            s.Rearrange,
            x=x,
            shape=shape,
            sizes=tuple(split[i] for i in order),
            strides=tuple(strides[i] for i in order),
        )

    def flat(self, x: str) -> str:
        shape = self.shape(x)
        return self.rearrange(x, shape, tuple(range(len(shape))), (prod(shape),))

    def attention(self, q: str, k: str, v: str) -> str:
        """Q K^T V over (C, H, W) spikes of one shape, in either association order, as (C, H, W)
        integers.
        """
        channels, height, width = self.shape(q)
        heads = self.choose(*(h for h in (1, 2) if channels % h == 0))
        split, tokens = (heads, channels // heads, height * width), height * width
        shape = (heads, tokens, channels // heads)
        q, v = (self.rearrange(i, split, (0, 2, 1), shape) for i in (q, v))
        k = self.rearrange(k, split, (0, 1, 2), split)
        if self.draw(st.booleans()):
            y = self.add(s.MatMul, a=q, b=self.add(s.MatMul, a=k, b=v))
        else:
            y = self.add(s.MatMul, a=self.add(s.MatMul, a=q, b=k), b=v)
        return self.rearrange(y, shape, (0, 2, 1), (channels, height, width))

    def finish(self, x: str) -> s.SpikingGraph:
        """Up to the output; ``x`` of any shape."""
        if len(self.shape(x)) != 1:
            x = self.flat(x)
        if self.draw(st.booleans()):
            x = self.linear(x)
        bias = (
            self.tensor(self.rng.integers(-9, 9, self.shape(x)))
            if self.draw(st.booleans())
            else None
        )
        self.add(s.Output, x=self.add(s.TimeMean, x=x), unit=0.5, bias=bias)
        return self.graph()


@st.composite
def networks(draw, layers: int = 3) -> s.SpikingGraph:
    """Small networks of all layer kinds."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    m = Maker(draw, shape)
    spikes = [m.lif(m.conv(m.x))]
    for _ in range(draw(st.integers(1, layers))):
        x = m.choose(*spikes)
        alike = [i for i in spikes if m.shape(i) == m.shape(x)]
        kind = m.choose(
            "conv",
            "pool",
            "conv pool",
            "add",
            "add conv",
            "or",
            "mask",
            "graded mask",
            "signed mask",
            "sum pool",
            "attention",
        )
        gain = m.choose(1, 3, 64, 254)
        if kind == "conv":
            y = m.lif(m.conv(x))
        elif kind == "pool":
            y = m.lif(m.pool(x), gain)
        elif kind == "conv pool":
            y = m.lif(m.pool(m.conv(x)))
        elif kind == "add":
            y = m.lif(m.add(s.Add, a=x, b=m.choose(*alike)), gain)
        elif kind == "add conv":
            residual = m.add(s.Add, a=m.choose(*alike), b=x)
            y = m.lif(m.choose(m.conv, m.pool)(residual))
            spikes.append(m.lif(m.add(s.Add, a=residual, b=m.choose(*alike)), gain))
        elif kind == "or":
            y = m.add(s.Or, x=m.add(s.Add, a=x, b=m.choose(*alike)))
        elif kind == "mask":
            axes = m.choose((0,), (1, 2), (2,))
            gate = m.add(s.Or, x=m.add(s.Sum, x=x, axes=axes, keepdims=True))
            y = m.lif(m.add(s.Mul, a=gate, b=m.choose(*alike)), gain)
        elif kind == "signed mask":
            real = m.shift(
                m.offset(m.add(s.Conv2d, x=x, weight=m.weight(m.shape(x)[0], m.shape(x)[0], 1, 1)))
            )
            y = m.lif(m.add(s.Mul, a=real, b=m.choose(*alike)))
        elif kind == "sum pool":
            y = m.lif(m.sum_pool(x), gain)
        elif kind == "graded mask":
            value = m.add(s.Sum, x=x, axes=m.choose((0,), (1, 2)), keepdims=True)
            a, b = m.choose((value, m.choose(*alike)), (m.choose(*alike), value))
            y = m.lif(m.add(s.Mul, a=a, b=b), gain)
        else:
            y = m.lif(m.attention(x, m.choose(*alike), m.choose(*alike)), m.choose(1, 16))
        spikes.append(y)
    if draw(st.booleans()):
        residual = m.add(
            s.Add,
            a=spikes[-1],
            b=m.choose(*[i for i in spikes if m.shape(i) == m.shape(spikes[-1])]),
        )
        return m.finish(residual)
    return m.finish(spikes[-1])


def samples(graph: s.SpikingGraph, count: int = 2, seed: int = 0) -> np.ndarray:
    """Random inputs over the whole range, float32."""
    node = graph.input
    return (
        np.random.default_rng(seed)
        .integers(node.low, node.high + 1, (count, *node.sample_shape))
        .astype(np.float32)
    )


def on_frames(graph: s.SpikingGraph, steps: int) -> s.SpikingGraph:
    """``graph`` with another input in every step."""
    nodes = tuple(replace(n, steps=steps) if isinstance(n, s.Input) else n for n in graph.nodes)
    return replace(graph, nodes=nodes)


def assert_equal_to_definition(
    graph: s.SpikingGraph, circuit: CircuitGraph, x: np.ndarray
) -> dict[str, np.ndarray]:
    """Every spiking layer and the logits of ``circuit`` on the emulator equal ``evaluate``; returns
    the trace.
    """
    expected = evaluate(graph, encode_input(graph.input, x), circuit.steps)
    trace = Emulator().open(circuit).run(encode(circuit, x))
    assert {v.layer for v in circuit.views} == {n.name for n in graph.spiking_layers}
    for view in circuit.views:
        np.testing.assert_array_equal(
            view.read(trace[view.src]), expected[view.layer], err_msg=view.layer
        )
    logits = expected[graph.output.name]
    np.testing.assert_allclose(
        decode(circuit, trace).reshape(len(x), -1), logits.reshape(len(x), -1), rtol=0, atol=1e-9
    )
    return trace
