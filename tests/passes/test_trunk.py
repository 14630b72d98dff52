"""Residuals of real values: one unit for all that is added, and every layer close to its float self."""

from __future__ import annotations

import numpy as np
import pytest
from spiking_cases import assert_equal_to_definition, samples

from neurocompile.calibration import calibrate_on
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize

T = 4


def shortcut(scale: float, seed: int = 0) -> s.SpikingGraph:
    """Two blocks LIF -> conv whose outputs are added to the first convolution, then mean over tokens -> LIF -> head."""
    rng = np.random.default_rng(seed)
    tensors = {
        "w1": rng.normal(0, 1, (8, 1, 3, 3)).astype(np.float32),
        "w2": (scale * rng.normal(0, 1, (8, 8, 1, 1))).astype(np.float32),
        "w3": rng.normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32),
        "b1": rng.normal(0, 0.3, 8).astype(np.float32),
        "b2": rng.normal(0.5, 0.3, 8).astype(np.float32),
        "head": rng.normal(0, 1, (3, 8)).astype(np.float32),
    }
    nodes = (
        s.Input(name="x", shape=(1, 6, 6)),
        s.Conv2d(name="c1", x=Ref("x"), weight=TensorRef("w1"), bias=TensorRef("b1"), padding=(1, 1)),
        s.LIF(name="l1", x=Ref("c1"), tau=2.0, v_threshold=1.0),
        s.Conv2d(name="c2", x=Ref("l1"), weight=TensorRef("w2"), bias=TensorRef("b2")),
        s.Add(name="sum", a=Ref("c1"), b=Ref("c2")),
        s.LIF(name="l2", x=Ref("sum"), tau=2.0, v_threshold=1.0),
        s.Conv2d(name="c3", x=Ref("l2"), weight=TensorRef("w3")),
        s.Add(name="sum2", a=Ref("sum"), b=Ref("c3")),
        s.Sum(name="tokens", x=Ref("sum2"), axes=(1, 2)),
        s.Scale(name="mean", x=Ref("tokens"), factor=1 / 36),
        s.LIF(name="l3", x=Ref("mean"), tau=2.0, v_threshold=1.0),
        s.Linear(name="logits", x=Ref("l3"), weight=TensorRef("head")),
        s.TimeMean(name="t", x=Ref("logits")),
        s.Output(name="o", x=Ref("t")),
    )
    return canonicalize(s.SpikingGraph("shortcut", "imported", nodes, tensors))


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_layers_of_any_scale_share_a_unit_and_stay_near_their_float_selves(scale, bits):
    graph = shortcut(scale)
    x = np.random.default_rng(1).integers(0, 17, (40, 1, 6, 6)).astype(np.float32) / 16
    quantized = Quantize(T, calibrate_on(graph, x, T), bits)(graph)
    first, second = quantized.node["c1"], quantized.node["c2"]
    assert isinstance(first, s.Conv2d) and isinstance(second, s.Conv2d)
    assert 0 <= first.exponent <= 7 and 0 <= second.exponent <= 7
    bounds = ranges(quantized)
    for layer in (n for n in quantized.nodes if isinstance(n, s.IntegerLIF)):
        found = bounds[layer.x]
        assert found is not None and layer.gain * found.magnitude <= 131071
    float_trace, trace = evaluate(graph, x, T), evaluate(quantized, encode_input(quantized.input, x), T)
    if bits == 8:  # the sum of 36 tokens before l3 takes 5 bits of the common unit
        for layer in ("l1", "l2", "l3"):
            assert (float_trace[layer] == trace[layer]).mean() >= 0.9, layer


@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_its_circuit_computes_its_definition(scale):
    graph = shortcut(scale, seed=3)
    x = np.random.default_rng(2).random((8, 1, 6, 6)).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T))(graph)
    assert_equal_to_definition(quantized, lower(quantized, T), samples(quantized, 4))


def test_spikes_added_to_real_values_are_named():
    graph = shortcut(1.0)
    nodes = [n for n in graph.nodes if n.name not in ("sum",)]
    mixed = s.Add(name="sum", a=Ref("c1"), b=Ref("l1"))
    nodes.insert([n.name for n in nodes].index("l2"), mixed)
    broken = graph.replace(nodes=tuple(n for n in nodes if n.name != "c2"))
    x = np.random.default_rng(1).random((4, 1, 6, 6)).astype(np.float32)
    with pytest.raises(NeurocompileError, match="NC2001.*'l1' \\(LIF\\)"):
        Quantize(T, calibrate_on(broken, x, T))(broken)


def test_a_residual_layer_of_zeros_is_named():
    graph = shortcut(0.0)
    x = np.random.default_rng(1).random((4, 1, 6, 6)).astype(np.float32)
    with pytest.raises(NeurocompileError, match="NC2001 layer 'c2' has only zero weights"):
        Quantize(T, calibrate_on(graph, x, T))(graph)
