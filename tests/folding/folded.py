"""What the tests of folding share: random networks that fold, and the law they are held to."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from spiking_cases import Maker, samples

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import decode, encode
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.windows import valid_windows


class MapMaker(Maker):
    """Layers as folding knows them: feature maps, one bias and threshold for all positions."""

    def lif(self, x: str, gain: int = 1) -> str:
        channels, reach = self.shape(x)[0], max(1, self.range(x).magnitude * gain)
        bias = None
        if self.draw(st.booleans()):
            bias = self.tensor(self.rng.integers(-100, 300, (channels, 1, 1)))
        vth = self.integer(0, max(1, min(reach // 3, 1 << 16)))
        dv = self.choose(0, 1024, 2048, 4095)
        exponent = self.integer(0, 3)
        return self.add(s.IntegerLIF, x=x, vth=vth, dv=dv, gain=gain, bias=bias, bias_exp=exponent)

    def spatial(self, x: str) -> str:
        channels, height, width = self.shape(x)
        groups = self.choose(*(g for g in {1, 2, channels} if channels % g == 0))
        kernel, padding, dilation = self.choose(
            (1, 0, 1), (3, 1, 1), (3, 2, 2), (2, 0, 1), (5, 2, 1)
        )
        stride = self.choose(1, 1, 2) if height > 2 and padding or kernel == 1 else 1
        if kernel == 2:
            stride = 2
        if height < 2 or height % stride:
            kernel, padding, dilation, stride = 1, 0, 1, 1
        weight = self.weight(
            max(2, groups) * self.integer(1, 2), channels // groups, kernel, kernel
        )
        return self.add(
            s.Conv2d,
            x=x,
            weight=weight,
            stride=(stride, stride),
            padding=(padding, padding),
            dilation=(dilation, dilation),
            groups=groups,
        )

    def pointwise(self, x: str) -> str:
        channels = self.shape(x)[0]
        return self.add(s.Conv2d, x=x, weight=self.weight(channels, channels, 1, 1))

    def spatial_same(self, x: str) -> str:
        channels = self.shape(x)[0]
        weight = self.weight(channels, channels, 3, 3)
        return self.add(s.Conv2d, x=x, weight=weight, padding=(1, 1))

    def pooled(self, x: str) -> str:
        if self.shape(x)[1] < 4:
            return x
        kernel, padding = self.choose((2, 0), (3, 1))
        return self.add(
            s.MaxPool2d, x=x, kernel=(kernel,) * 2, stride=(2, 2), padding=(padding,) * 2
        )

    def averaged(self, x: str) -> str:
        if self.shape(x)[1] < 4:
            return x
        return self.add(s.SumPool2d, x=x, kernel=(2, 2), stride=(2, 2))

    def membrane(self, x: str) -> str:
        """What reads a real residual itself: kernels, strides and pools."""
        channels = self.shape(x)[0]
        edge, stride = self.choose((1, 1), (3, 1), (1, 2), (3, 2), (0, 2), (-1, 2))
        if self.shape(x)[1] < 4:
            stride = 1
        if edge < 1:
            return self.averaged(x) if edge else self.pooled(x)
        weight = self.weight(channels, channels, edge, edge)
        padding = (edge // 2,) * 2
        return self.add(s.Conv2d, x=x, weight=weight, stride=(stride,) * 2, padding=padding)

    def token_mask(self, x: str) -> str:
        """QKFormer's: one spike a head and token gates K."""
        q, k = self.lif(self.pointwise(x)), self.lif(self.pointwise(x))
        gate = self.add(s.Or, x=self.add(s.Sum, x=q, axes=(0,), keepdims=True))
        return self.add(s.Mul, a=gate, b=k)

    def channel_mask(self, x: str) -> str:
        """One spike a channel, of all tokens, gates Q."""
        q, k = self.lif(self.pointwise(x)), self.lif(self.pointwise(x))
        mask = self.add(s.Or, x=self.add(s.Sum, x=k, axes=(1, 2), keepdims=True))
        return self.add(s.Mul, a=q, b=mask)

    def dual_attention(self, x: str) -> str:
        """SpikingResformer's: both factors of patches are real, spikes X of all positions pass them."""
        channels, height, width = self.shape(x)
        edge = self.choose(*(e for e in (1, 2) if height % e == 0))
        flat, few = (channels, height * width), (channels, height * width // edge**2)
        kernel = (channels, channels, edge, edge)
        a, b = (
            self.add(s.Conv2d, x=x, weight=self.weight(*kernel), stride=(edge, edge))
            for _ in range(2)
        )
        a = self.rearrange(a, few, (1, 0), few[::-1])
        b = self.rearrange(b, few, (0, 1), few)
        spikes = self.rearrange(x, flat, (0, 1), flat)
        y = self.add(s.MatMul, a=b, b=self.lif_of(self.add(s.MatMul, a=a, b=spikes)))
        return self.rearrange(y, flat, (0, 1), (channels, height, width))

    def lif_of(self, x: str) -> str:
        """Without a bias, for values of any shape."""
        reach = max(1, self.range(x).magnitude)
        return self.add(
            s.IntegerLIF, x=x, vth=self.integer(0, max(1, min(reach // 3, 1 << 16))), dv=0
        )


@st.composite
def maps(draw, layers: int = 4) -> s.SpikingGraph:
    """Small networks of feature maps, of every operator that folds."""
    height, width = draw(st.sampled_from(((4, 4), (8, 8), (4, 8), (8, 4))))
    m = MapMaker(draw, (draw(st.integers(1, 2)), height, width))
    first = (m.spatial, lambda x: m.pooled(m.spatial(x)), lambda x: x, m.pooled, m.averaged)
    x = m.lif(m.choose(*first)(m.x))
    residual = x
    for _ in range(m.integer(1, layers)):
        kind = m.choose(
            "conv",
            "pool",
            "or pool",
            "residual",
            "token",
            "channel",
            "ssa",
            "real",
            "dual",
            "shortcut",
            "average",
            "membrane",
        )
        same = m.shape(x) == m.shape(residual)
        if kind == "conv":
            x = m.lif(m.spatial(x))
        elif kind == "pool":
            x = m.lif(m.pooled(m.spatial(x)))
        elif kind == "or pool":
            x = m.pooled(x)
        elif kind == "residual" and same:
            both = m.add(s.Add, a=x, b=residual)
            x = m.lif(m.choose(m.spatial, m.pointwise)(both))
        elif kind == "token":
            x = m.lif(m.pointwise(m.token_mask(x)))
        elif kind == "channel":
            x = m.lif(m.pointwise(m.channel_mask(x)))
        elif kind == "ssa":
            q, k, v = (m.lif(m.pointwise(x)) for _ in range(3))
            x = m.lif(m.attention(q, k, v), m.choose(1, 16))
        elif kind == "real":
            real = m.add(s.Add, a=m.spatial_same(x), b=m.pointwise(x))
            x = m.lif(m.add(s.Add, a=real, b=m.pointwise(m.lif(real))))
        elif kind == "dual":
            x = m.lif(m.dual_attention(x))
        elif kind == "shortcut":
            real = m.pointwise(x)
            x = m.lif(m.add(s.Add, a=real, b=m.spatial_same(m.lif(real))))
        elif kind == "average":
            x = m.lif(m.averaged(x))
        elif kind == "membrane":
            x = m.lif(m.membrane(m.add(s.Add, a=m.spatial_same(x), b=m.pointwise(x))))
        if m.shape(x) != m.shape(residual) or m.draw(st.booleans()):
            residual = x
    if m.shape(x) == m.shape(residual) and m.draw(st.booleans()):
        x = m.add(s.Add, a=x, b=residual)
    total = m.add(s.Sum, x=x, axes=(1, 2))
    m.add(s.Output, x=m.add(s.TimeMean, x=m.linear(total)), unit=0.5)
    return m.graph()


@st.composite
def folds(draw, shape: tuple[int, ...]) -> str:
    """Of (C, H, W): rows of a window, or a part of one; one buffer or two, clocks of the host or on
    the chip.
    """
    _, height, width = shape
    n = draw(st.sampled_from((1, 2, 4, 8)))
    text = draw(st.sampled_from((f"{min(n, height)}x{width}", f"1x{min(n, width)}")))
    return text + draw(st.sampled_from(("", "", "s", "c", "sc")))


def assert_law(graph: s.SpikingGraph, circuit: CircuitGraph, count: int = 3, seed: int = 0) -> None:
    """The folded circuit equals the definition at every layer, sample and step; the stream of
    samples equals the depth-free run at every population; and it is silent outside of its slots.
    """
    x = samples(graph, count, seed)
    integers = encode(circuit, x)
    expected = evaluate(graph, encode_input(graph.input, x), circuit.steps)
    trace = Emulator().open(circuit).run(integers)
    assert {v.layer for v in circuit.views} == {n.name for n in graph.spiking_layers}
    chosen = np.random.default_rng(seed).permutation([p.name for p in circuit.populations])[:4]
    # recorded alone, most of what it reads shares places or is known beforehand
    for name in (*chosen, circuit.readouts[0].src):
        alone = Emulator(1).open(circuit).run(integers, [name])[name]
        np.testing.assert_array_equal(alone, trace[name], err_msg=name)
    for view in circuit.views:
        np.testing.assert_array_equal(
            view.read(trace[view.src], circuit.windows), expected[view.layer], err_msg=view.layer
        )
    logits = expected[graph.output.name].reshape(count, -1)
    np.testing.assert_allclose(decode(circuit, trace), logits, rtol=0, atol=1e-9)
    streamed = emulate_cycles(circuit, integers)
    for p in circuit.populations:
        np.testing.assert_array_equal(streamed[p.name], trace[p.name], err_msg=p.name)
        if p.slots:
            idle = ~valid_windows(circuit.windows, p.slots)
            by_window = trace[p.name].reshape(count, circuit.windows, -1)
            assert not by_window[:, idle].any(), f"{p.name} speaks outside of its windows"
