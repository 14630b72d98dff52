"""Residuals of real values: one unit for all that is added, and every layer close to its float
self.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import assert_equal_to_definition, samples

from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantization.means import through
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantize import Quantize

T = 4


def shortcut(scale: float, seed: int = 0, size: int = 6) -> s.SpikingGraph:
    """For ``size`` x ``size`` numbers: two blocks LIF -> conv whose outputs are added to the first convolution, then mean over
    tokens -> LIF -> head.
    """
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
        s.Input(name="x", shape=(1, size, size)),
        s.Conv2d(
            name="c1", x=Ref("x"), weight=TensorRef("w1"), bias=TensorRef("b1"), padding=(1, 1)
        ),
        s.LIF(name="l1", x=Ref("c1"), tau=2.0, v_threshold=1.0),
        s.Conv2d(name="c2", x=Ref("l1"), weight=TensorRef("w2"), bias=TensorRef("b2")),
        s.Add(name="sum", a=Ref("c1"), b=Ref("c2")),
        s.LIF(name="l2", x=Ref("sum"), tau=2.0, v_threshold=1.0),
        s.Conv2d(name="c3", x=Ref("l2"), weight=TensorRef("w3")),
        s.Add(name="sum2", a=Ref("sum"), b=Ref("c3")),
        s.Sum(name="tokens", x=Ref("sum2"), axes=(1, 2)),
        s.Scale(name="mean", x=Ref("tokens"), factor=1 / size**2),
        s.LIF(name="l3", x=Ref("mean"), tau=2.0, v_threshold=1.0),
        s.Linear(name="logits", x=Ref("l3"), weight=TensorRef("head")),
        s.TimeMean(name="t", x=Ref("logits")),
        s.Output(name="o", x=Ref("t")),
    )
    return canonicalize(s.SpikingGraph("shortcut", "imported", nodes, tensors))


def test_a_mean_over_many_tokens_takes_no_bits_of_the_residual() -> None:
    """Of a Spike-driven Transformer for CIFAR-10 the sum of 64 tokens left 1 of 127 levels."""
    graph, x = shortcut(1.0, size=24), np.random.default_rng(1).integers(0, 17, (8, 1, 24, 24))
    x = x.astype(np.float32) / 16
    quantized = Quantize(T, calibrate_on(graph, x, T), 8)(graph)
    for name in ("c1", "c2", "c3"):
        node = quantized.node[name]
        assert isinstance(node, s.Conv2d)
        assert np.abs(quantized.tensors[node.weight]).max() >= 2 * 60
    names = [n.name for n in graph.spiking_layers]
    meant = evaluate(graph, x, T, names)
    found = evaluate(quantized, encode_input(quantized.input, x), T, names)
    assert all((meant[n] == found[n]).mean() > 0.97 for n in names)


@pytest.mark.parametrize(("size", "apart"), [(2, 1), (4, 4), (8, 3)])
def test_layers_on_grids_keep_them_and_every_spike_is_that_of_float64(size, apart):
    """Grids powers of two or a small factor apart; at size 8 the mean over tokens is read through a
    shift, which rounds in front of the last neuron alone.
    """
    graph, rng = shortcut(1.0, size=size), np.random.default_rng(size)
    tensors = dict(graph.tensors)
    for name, unit, most in (("w1", 1, 3), ("w2", apart, 3), ("w3", 1, 7), ("head", 1, 7)):
        whole = rng.integers(-most + 1, most + 1, tensors[name].shape)
        tensors[name] = (unit * whole / 8).astype(np.float32)
    for name in (n for n in tensors if n.startswith("l") or n.startswith("b")):
        tensors[name] = np.float32(np.rint(8 * tensors[name]) / 8)
    graph = replace(graph, tensors=tensors)
    x = rng.integers(0, 2, (16, 1, size, size)).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T), 8)(graph)
    names = [n.name for n in graph.spiking_layers]
    meant = evaluate(graph, x.astype(np.float64), T, names)
    found = evaluate(quantized, encode_input(quantized.input, x), T, names)
    assert all(meant[n].any() for n in names[:2])
    differing = [n for n in names if (meant[n] != found[n]).any()]
    assert not differing or size == 8 and differing == names[2:]
    for name in ("w1", "w2", "w3"):
        layer = next(n for n in graph.nodes if getattr(n, "weight", None) == TensorRef(name))
        made = quantized.node[layer.name]
        stored = quantized.tensors[made.weight].astype(np.float64) * 2.0**made.exponent
        ratio = stored[tensors[name] != 0] / tensors[name][tensors[name] != 0]
        assert np.allclose(ratio, ratio.flat[0])


def test_the_coarsest_layer_of_a_residual_uses_all_of_its_exponent() -> None:
    """Where layers are further apart than exponents reach, the finer ones lose bits, none is refused."""
    graph, x = shortcut(1000.0), np.random.default_rng(1).integers(0, 17, (8, 1, 6, 6)) / 16
    x = x.astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T), 8)(graph)
    assert [quantized.node[n].exponent for n in ("c1", "c2")] == [0, 7]


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
    float_trace, trace = (
        evaluate(graph, x, T),
        evaluate(quantized, encode_input(quantized.input, x), T),
    )
    if bits == 8:  # the sum of 36 tokens before l3 takes 5 bits of the common unit
        for layer in ("l1", "l2", "l3"):
            assert (float_trace[layer] == trace[layer]).mean() >= 0.9, layer


@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_its_circuit_computes_its_definition(scale):
    graph = shortcut(scale, seed=3)
    x = np.random.default_rng(2).random((8, 1, 6, 6)).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T))(graph)
    assert_equal_to_definition(quantized, lower(quantized, T), samples(quantized, 4))


def spiking_shortcut(maps: bool) -> s.SpikingGraph:
    """The classical spiking ResNet: a block's spikes and the next convolution's real values are
    added before a LIF.
    """
    rng = np.random.default_rng(5)
    layer = s.Conv2d if maps else s.Linear
    shape = (8, 4, 4) if maps else (8,)
    kernel: tuple[int, ...] = (3, 3) if maps else ()
    geometry = {"padding": (1, 1)} if maps else {}
    tensors = {
        f"w{i}": rng.normal(0.05 if maps else 0.4, 0.2 if i else 0.5, (8, 8, *kernel)).astype(
            np.float32
        )
        for i in range(3)
    }
    nodes = (
        s.Input(name="x", shape=shape),
        layer(name="c0", x=Ref("x"), weight=TensorRef("w0"), **geometry),
        s.LIF(name="l0", x=Ref("c0"), tau=2.0, v_threshold=1.0),
        layer(name="c1", x=Ref("l0"), weight=TensorRef("w1"), **geometry),
        s.LIF(name="l1", x=Ref("c1"), tau=2.0, v_threshold=1.0),
        layer(name="c2", x=Ref("l1"), weight=TensorRef("w2"), **geometry),
        s.Add(name="sum", a=Ref("c2"), b=Ref("l0")),
        s.LIF(name="l2", x=Ref("sum"), tau=2.0, v_threshold=1.0),
        s.TimeMean(name="t", x=Ref("l2")),
        s.Output(name="o", x=Ref("t")),
    )
    return canonicalize(s.SpikingGraph("spiking", "imported", nodes, tensors))


@pytest.mark.parametrize("maps", [True, False])
def test_spikes_are_added_to_real_values(maps: bool) -> None:
    graph = spiking_shortcut(maps)
    x = np.random.default_rng(1).random((40, *graph.input.shape)).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T))(graph)
    float_trace, trace = (
        evaluate(graph, x, T),
        evaluate(quantized, encode_input(quantized.input, x), T),
    )
    assert float_trace["l2"].mean() > 0.1 and (float_trace["l2"] == trace["l2"]).mean() > 0.93
    assert_equal_to_definition(quantized, lower(quantized, T), samples(quantized, 2))


def test_a_residual_layer_of_zeros_adds_nothing():
    graph = shortcut(0.0)
    x = np.random.default_rng(1).integers(0, 17, (40, 1, 6, 6)).astype(np.float32) / 16
    quantized = Quantize(T, calibrate_on(graph, x, T))(graph)
    assert not quantized.tensors[quantized.node["c2"].weight].any()
    expected = evaluate(graph, x, T)
    found = evaluate(quantized, encode_input(quantized.input, x), T)
    assert not found["c2"].any()
    for layer in quantized.spiking_layers:
        assert (found[layer.name] == expected[layer.name]).mean() > 0.97


def deep(depth: int, seed: int = 0) -> s.SpikingGraph:
    """A membrane-shortcut network: ``depth`` blocks LIF -> conv added to the trunk, halved in width
    by a convolution of the trunk's real values in the middle."""
    rng, width = np.random.default_rng(seed), 8
    tensors = {"w": rng.normal(0.4, 1, (width, 1, 3, 3)), "head": rng.normal(0, 1, (3, width))}
    nodes: list[s.Node] = [s.Input(name="x", shape=(1, 12, 12))]
    nodes.append(s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("w"), padding=(1, 1)))
    trunk, stride = Ref("c"), (1, 1)
    for i in range(depth):
        stride = (2, 2) if i == depth // 2 else (1, 1)
        tensors[f"w{i}"] = rng.normal(0.02, 0.15, (width, width, 3, 3))
        nodes.append(s.LIF(name=f"l{i}", x=trunk, tau=2.0, v_threshold=1.0))
        nodes.append(
            s.Conv2d(
                name=f"c{i}",
                x=Ref(f"l{i}"),
                weight=TensorRef(f"w{i}"),
                padding=(1, 1),
                stride=stride,
            )
        )
        if stride == (2, 2):
            tensors["down"] = rng.normal(0, 0.4, (width, width, 1, 1))
            nodes.append(s.Conv2d(name="down", x=trunk, weight=TensorRef("down"), stride=stride))
            trunk = Ref("down")
        nodes.append(s.Add(name=f"a{i}", a=trunk, b=Ref(f"c{i}")))
        trunk = Ref(f"a{i}")
    nodes += [
        s.LIF(name="last", x=trunk, tau=2.0, v_threshold=1.0),
        s.Sum(name="tokens", x=Ref("last"), axes=(1, 2)),
        s.Linear(name="logits", x=Ref("tokens"), weight=TensorRef("head")),
        s.TimeMean(name="t", x=Ref("logits")),
        s.Output(name="o", x=Ref("t")),
    ]
    return canonicalize(
        s.SpikingGraph(
            "deep", "imported", tuple(nodes), {k: v.astype(np.float32) for k, v in tensors.items()}
        )
    )


@pytest.mark.parametrize("depth", [4, 8])
def test_a_convolution_of_the_residual_keeps_weights_and_rates(depth: int) -> None:
    graph = deep(depth)
    x = (np.random.default_rng(1).integers(0, 17, (24, 1, 12, 12)) / 16).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T))(graph)
    down = quantized.node["down"]
    assert isinstance(down, s.Conv2d) and np.abs(quantized.tensors[down.weight]).max() >= 2 * 31
    shifts = [(n.x, n.bits) for n in quantized.nodes if isinstance(n, s.Shift)]
    assert len(shifts) == len(set(shifts))  # a value has one coarser form for all that read it
    float_trace, trace = (
        evaluate(graph, x, T),
        evaluate(quantized, encode_input(quantized.input, x), T),
    )
    first, last = float_trace["l0"] == trace["l0"], float_trace["last"] == trace["last"]
    assert first.mean() > 0.95 and last.mean() > 0.75
    assert abs(trace["last"].mean() - float_trace["last"].mean()) < 0.02
    assert_equal_to_definition(quantized, lower(quantized, T), samples(quantized, 2))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    groups=st.sampled_from([1, 2, 4]),
)
def test_a_mean_goes_through_a_convolution_with_its_border(
    seed: int, kernel: int, stride: int, padding: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    weight, channels = rng.normal(size=(8, 4 // groups, kernel, kernel)), rng.normal(size=(4, 1, 1))
    nodes = (
        s.Input(name="x", shape=(4, 5, 6)),
        s.Conv2d(
            name="c",
            x=Ref("x"),
            weight=TensorRef("w"),
            stride=(stride, stride),
            padding=(padding, padding),
            groups=groups,
        ),
        s.TimeMean(name="t", x=Ref("c")),
        s.Output(name="o", x=Ref("t")),
    )
    graph = s.SpikingGraph("conv", "canonical", nodes, {"w": weight.astype(np.float32)})
    x = np.broadcast_to(channels, (4, 5, 6)).astype(np.float32)
    state, node = Quantization(graph, Quantize(1, calibrate_on(graph, x[None], 1))), graph.node["c"]
    assert isinstance(node, s.Conv2d)
    found = np.broadcast_to(through(state, node, weight, x.astype(np.float64)), state.size["c"])
    assert np.allclose(found, evaluate(graph, x[None], 1)["c"][0, 0], atol=1e-4)


def test_parts_of_spikes_side_by_side_stay_integers() -> None:
    """Crops put into other places by weights of 0 and 1: every spike is that of float64."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.float32) / 128
    weight[0, 0, 0, 0] = 127 / 128
    tensors = {
        "w1": rng.integers(-127, 128, (4, 1, 3, 3)).astype(np.float32) / 128,
        "w2": weight,
        "top": np.eye(4, dtype=np.float32)[[2, 3, 0, 0]].reshape(4, 4, 1, 1)
        * [[[[1]]], [[[1]]], [[[0]]], [[[0]]]],
        "end": np.eye(4, dtype=np.float32)[[0, 0, 0, 1]].reshape(4, 4, 1, 1)
        * [[[[0]]], [[[0]]], [[[1]]], [[[1]]]],
        "head": rng.normal(0, 1, (3, 4)).astype(np.float32),
    }
    tensors["w1"][0, 0, 0, 0] = 127 / 128
    threshold = 1 + 1 / 8192
    nodes = (
        s.Input(name="x", shape=(1, 6, 6)),
        s.Conv2d(name="c1", x=Ref("x"), weight=TensorRef("w1"), padding=(1, 1)),
        s.LIF(name="l1", x=Ref("c1"), tau=2.0, v_threshold=threshold),
        s.Conv2d(name="a", x=Ref("l1"), weight=TensorRef("top")),
        s.Conv2d(name="b", x=Ref("l1"), weight=TensorRef("end")),
        s.Add(name="both", a=Ref("a"), b=Ref("b")),
        s.MaxPool2d(name="pool", x=Ref("both"), kernel=(1, 1), stride=(1, 1)),
        s.Conv2d(name="c2", x=Ref("pool"), weight=TensorRef("w2")),
        s.LIF(name="l2", x=Ref("c2"), tau=2.0, v_threshold=threshold),
        s.Sum(name="all", x=Ref("l2"), axes=(1, 2)),
        s.Linear(name="h", x=Ref("all"), weight=TensorRef("head")),
        s.TimeMean(name="m", x=Ref("h")),
        s.Output(name="o", x=Ref("m")),
    )
    tensors = {k: np.asarray(v, np.float32) for k, v in tensors.items()}
    graph = canonicalize(s.SpikingGraph("parts", "imported", nodes, tensors))
    x = (rng.random((32, 1, 6, 6)) < 0.5).astype(np.float32)
    quantized = Quantize(T, calibrate_on(graph, x, T))(graph)
    assert not any(isinstance(n, s.Shift) for n in quantized.nodes)
    float_, integer = (
        evaluate(graph, x, T),
        evaluate(quantized, encode_input(quantized.input, x), T),
    )
    for name in ("l1", "l2"):
        np.testing.assert_array_equal(integer[name], float_[name], err_msg=name)
    assert 0.02 < float_["l2"].mean() < 0.98
    assert_equal_to_definition(quantized, lower(quantized, T), x[:4])
