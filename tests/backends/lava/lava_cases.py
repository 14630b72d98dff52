"""Small circuits for the Lava tests, and the comparison with the reference."""

from __future__ import annotations

import lava_reference
import numpy as np

from neurocompile.backends.lava import LavaInProcess
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    Conv2d,
    Dense,
    GradedRelay,
    GradedRelu,
    HostInput,
    Strided,
)
from neurocompile.ir.text import Ref, TensorRef


def circuit(populations, projections, tensors=None, steps=1, period=None):
    return CircuitGraph(
        "test",
        steps=steps,
        period=period or steps,
        populations=tuple(populations),
        projections=tuple(projections),
        readouts=(),
        tensors=tensors or {},
    )


def source(*shape):
    return HostInput(name="x", shape=shape, layer="x", depth=0, low=-(2**23), high=2**23 - 1)


def lif(name, shape, depth, **parameters):
    return LIF(name=name, shape=shape, layer=name, depth=depth, **parameters)


def relay(name, shape, depth, kind=GradedRelay):
    return kind(name=name, shape=shape, layer=name, depth=depth)


def one_to_one(src, dst, n, delay=1, weight=1, sign="excitatory", **more):
    return Strided(
        name=f"{src}>{dst}",
        src=Ref(src),
        dst=Ref(dst),
        delay=delay,
        sign=sign,
        sizes=(n,),
        src_strides=(1,),
        dst_strides=(1,),
        weight=weight,
        **more,
    )


def weights(rng, sign, shape, bits=8):
    """Random legal mantissas of a sign mode that use all of ``bits``."""
    if sign == "mixed":
        return (rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape) << (9 - bits)).astype(
            np.int16
        )
    values = rng.integers(0, 2**bits, shape) << (8 - bits)
    return (values if sign == "excitatory" else -values).astype(np.int16)


def check(graph, x, open_with=LavaInProcess):
    """Every population, every step, equals the reference; returns the trace."""
    x = np.asarray(x, np.int32)
    expected = lava_reference.run(graph, x)
    with open_with().open(graph) as executor:
        found = executor.run(x)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    return found


def mixed_net(seed=0, period=4):
    """Every kind of population and projection, with delays, groups, dilation and both kinds of
    source.
    """
    rng = np.random.default_rng(seed)
    tensors = {
        "b": rng.integers(-4, 4, 4).astype(np.int16),
        "w1": weights(rng, "mixed", (4, 3, 3, 2), 6),
        "w2": weights(rng, "mixed", (16, 3, 2, 2), 5),
        "w3": weights(rng, "mixed", (7, 120), 5),
        "w4": (weights(rng, "mixed", (7, 192), 4) >> 5).astype(
            np.int16
        ),  # 8..-8, to keep |a| < 2^17
    }
    populations = [
        source(6, 5, 2),
        lif("a", (6, 5, 4), 1, vth=30, dv=2048, reset=True, bias=TensorRef("b"), bias_exp=3),
        relay("r", (6, 5, 4), 4),
        relay("q", (3, 4, 16), 2, GradedRelu),
        lif("d", (7,), 5, vth=100, dv=100, reset=True),
        relay("o", (7,), 6),
    ]
    projections = [
        Conv2d(
            name="c1",
            src=Ref("x"),
            dst=Ref("a"),
            delay=1,
            weight=TensorRef("w1"),
            padding=(1, 1),
            weight_bits=6,
        ),
        Conv2d(
            name="c2",
            src=Ref("a"),
            dst=Ref("q"),
            delay=1,
            weight=TensorRef("w2"),
            padding=(1, 2),
            stride=(2, 2),
            dilation=(1, 2),
            groups=2,
            weight_bits=5,
        ),
        one_to_one("a", "r", 120, delay=3, weight=3),
        Dense(name="d1", src=Ref("r"), dst=Ref("d"), delay=1, weight=TensorRef("w3")),
        Dense(name="d2", src=Ref("q"), dst=Ref("d"), delay=3, weight=TensorRef("w4"), weight_exp=1),
        one_to_one("d", "o", 7, weight_bits=1),
    ]
    graph = circuit(populations, projections, tensors, steps=3, period=period)
    return graph, rng.integers(0, 10, (4, 6, 5, 2)).astype(np.int32)
