"""Weights on a grid, and biases, resets or products on a finer part of it: every spike of every layer
is that of float64.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spiking_cases import assert_equal_to_definition, samples

from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize

T = 4
X = np.random.default_rng(0).integers(0, 2, (16, 2, 4, 4)).astype(np.float32)


def network(lif: s.LIF, product: bool = False) -> s.SpikingGraph:
    """conv -> ``lif`` -> head; or the same convolution times spikes in front of it."""
    rng = np.random.default_rng(1)
    met = lif.v_threshold * (lif.tau if lif.decay_input else 1.0)  # by a first step's input
    tensors = {
        # multiples of 11.25: 45 quarters
        "w": (11.25 * rng.choice([-1, 1, 1, 2], (6, 2, 1, 1))).astype(np.float32),
        "b": (met - 11.25 * np.array([-1, 0, 1, 1, 2, 3])).astype(np.float32),
        "gate": rng.integers(-3, 7, (6, 2, 1, 1)).astype(np.float32),
        "head": rng.integers(-7, 8, (3, 96)).astype(np.float32),
    }
    nodes = [
        s.Input(name="x", shape=(2, 4, 4)),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("w"), bias=TensorRef("b")),
    ]
    if product:
        tensors["w"] /= 11.25
        tensors["b"] = (met - np.array([-1, 0, 1, 1, 2, 3])).astype(np.float32)
        nodes += [
            s.Conv2d(name="d", x=Ref("x"), weight=TensorRef("gate")),
            s.LIF(name="g", x=Ref("d"), tau=2.0, v_threshold=3.0),
            s.Mul(name="p", a=Ref("c"), b=Ref("g")),
        ]
    nodes += [
        replace(lif, name="l", x=Ref("p" if product else "c")),
        s.Rearrange(name="f", x=Ref("l"), shape=(96,), sizes=(96,), strides=(1,), offset=0),
        s.Linear(name="logits", x=Ref("f"), weight=TensorRef("head")),
        s.TimeMean(name="t", x=Ref("logits")),
        s.Output(name="o", x=Ref("t")),
    ]
    return canonicalize(s.SpikingGraph("finer", "imported", tuple(nodes), tensors))


LIF = s.LIF(name="", x=Ref(""), tau=2.0, v_threshold=8.5)


@pytest.mark.parametrize(
    ("lif", "product"),
    [
        (LIF, False),
        (replace(LIF, tau=np.inf, decay_input=False, v_threshold=9.0), False),
        (replace(LIF, soft_reset=True), False),
        (replace(LIF, tau=3.0e38, decay_input=False, soft_reset=True, v_threshold=30.0), False),
        (replace(LIF, v_threshold=4.0), True),
        (replace(LIF, tau=np.inf, decay_input=False, v_threshold=5.0), True),
    ],
    ids=["hard", "IF", "soft", "soft, tau without leak", "product", "product, IF"],
)
def test_every_spike_is_that_of_float64(lif: s.LIF, product: bool) -> None:
    graph = network(lif, product)
    quantized = Quantize(T, calibrate_on(graph, X, T), 8)(graph)
    names = [n.name for n in graph.spiking_layers]
    meant = evaluate(graph, X.astype(np.float64), T, names)
    found = evaluate(quantized, encode_input(quantized.input, X), T, names)
    for name in names:
        assert 0 < meant[name].mean() < 1
        assert (meant[name] == found[name]).all()
    assert_equal_to_definition(quantized, lower(quantized, T), samples(quantized, 4))


def test_a_threshold_of_many_units_takes_no_gain() -> None:
    """Weights on no grid, and a threshold so large that the 64th by which it is moved is within rounding of a
    whole number: connections with weights take no gain.
    """
    rng = np.random.default_rng(2)
    graph = network(replace(LIF, v_threshold=60.0))
    weight = rng.normal(size=(6, 2, 1, 1)).astype(np.float32)
    layer = next(n for n in graph.nodes if isinstance(n, s.Conv2d))
    neuron = graph.node["l"]
    assert isinstance(neuron, s.LIF) and neuron.bias is not None
    tensors = graph.tensors | {layer.weight: weight}
    tensors[neuron.bias] = np.zeros_like(graph.tensors[neuron.bias])
    graph = graph.replace(tensors=tensors)
    quantized = Quantize(T, calibrate_on(graph, X, T), 8)(graph)
    made = quantized.node["l"]
    assert isinstance(made, s.IntegerLIF) and made.gain == 1 and np.max(made.vth) > 7_813
    assert_equal_to_definition(quantized, lower(quantized, T), samples(quantized, 4))


@pytest.mark.parametrize("step", [1.0, 0.8125, 0.59375])
def test_the_unit_of_pixels_keeps_the_grid_of_their_residual(step: float) -> None:
    """Pixels are on no grid, and what they add to a residual is made of the grid of what spikes add."""
    rng = np.random.default_rng(3)
    tensors = {
        "w": (1.3330078125 * rng.choice([-3, 1, 2, 7], (6, 2, 1, 1))).astype(np.float32),
        "v": (step * rng.choice([-2, 1, 3, 7], (6, 6, 1, 1)) / 8).astype(np.float32),
        "head": rng.integers(-7, 8, (3, 96)).astype(np.float32),
    }
    nodes = (
        s.Input(name="x", shape=(2, 4, 4)),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("w")),
        s.LIF(name="a", x=Ref("c"), tau=2.0, v_threshold=2.0),
        s.Conv2d(name="d", x=Ref("a"), weight=TensorRef("v")),
        s.Add(name="r", a=Ref("c"), b=Ref("d")),
        s.LIF(name="b", x=Ref("r"), tau=2.0, v_threshold=2.0),
        s.Rearrange(name="f", x=Ref("b"), shape=(96,), sizes=(96,), strides=(1,), offset=0),
        s.Linear(name="logits", x=Ref("f"), weight=TensorRef("head")),
        s.TimeMean(name="t", x=Ref("logits")),
        s.Output(name="o", x=Ref("t")),
    )
    graph = canonicalize(s.SpikingGraph("pixels", "imported", nodes, tensors))
    x = rng.uniform(size=(16, 2, 4, 4)).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T), 4)(graph)
    apart = np.log2(1.3330078125 * quantized.input.unit / (step / 8))
    assert abs(apart - round(apart)) < 1e-6
    encoded = encode_input(quantized.input, x)
    names = [n.name for n in graph.spiking_layers]
    meant = evaluate(graph, encoded * quantized.input.unit, T, names)
    found = evaluate(quantized, encoded, T, names)
    for name in names:
        assert 0 < meant[name].mean() < 1
        assert np.array_equal(found[name] > 0, meant[name] > 0), name
