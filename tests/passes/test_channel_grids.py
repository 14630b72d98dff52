"""Weights on a grid a channel (quantization-aware training) stay as they are, and every spike equals
float64's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import assert_equal_to_definition

from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.lower import lower
from neurocompile.passes.quantization.precision import Precision
from neurocompile.passes.quantization.scales import row_grids
from neurocompile.passes.quantize import Quantize
from neurocompile.precision import examine_precision

T = 4


def _graph(
    weight: np.ndarray, bias: np.ndarray | None, threshold: float, soft: bool = False
) -> s.SpikingGraph:
    """Spikes -> a layer -> LIF -> mean over time."""
    tensors = {"w": weight} | ({} if bias is None else {"b": bias})
    ref = None if bias is None else TensorRef("b")
    conv = weight.ndim == 4
    shape = (weight.shape[1], 5, 5) if conv else (weight.shape[1],)
    made = s.Conv2d if conv else s.Linear
    more = {"padding": (1, 1)} if conv else {}
    neuron = {"tau": 2.0, "v_threshold": threshold, "decay_input": False, "soft_reset": soft}
    nodes = (
        s.Input(name="x", shape=shape),
        s.LIF(name="first", x=Ref("x"), tau=1.0, v_threshold=0.5, decay_input=False),
        made(name="layer", x=Ref("first"), weight=TensorRef("w"), **more),
        s.LIF(name="second", x=Ref("layer"), bias=ref, **neuron),
        s.TimeMean(name="mean", x=Ref("second")),
        s.Output(name="y", x=Ref("mean")),
    )
    return s.SpikingGraph("made", "canonical", nodes, tensors)


def _float64(graph: s.SpikingGraph, x: np.ndarray) -> np.ndarray:
    """Spikes of the second neuron, (samples, T, ...)."""
    spikes, weight = (x >= 0.5).astype(np.float64), graph.tensors["w"].astype(np.float64)
    if weight.ndim == 4:
        padded = np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        current = np.einsum("bcyxij,ocij->boyx", windows, weight)
    else:
        current = spikes @ weight.T
    lif = graph.node["second"]
    if lif.bias is not None:
        current = current + graph.tensors["b"].astype(np.float64)
    v, found = np.zeros_like(current), []
    for _ in range(T):
        h = v / 2 + current
        found.append(h >= lif.v_threshold)
        v = h - lif.v_threshold * found[-1] if lif.soft_reset else np.where(found[-1], 0.0, h)
    return np.stack(found, 1)


@given(
    st.integers(0, 1 << 16), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([4, 8])
)
@settings(max_examples=16, deadline=None)
def test_every_spike_is_float64s(
    seed: int, conv: bool, biased: bool, soft: bool, bits: int
) -> None:
    rng = np.random.default_rng(seed)
    levels, channels = (1 << (bits - 1)) - 1, 12
    shape = (channels, 3, 3, 3) if conv else (channels, 24)
    q = rng.integers(-levels, levels + 1, shape)
    q.reshape(channels, -1)[:, 0] = levels
    scale = 2.0 ** -rng.integers(bits - 4, bits, channels)
    column = scale.reshape(-1, *[1] * (len(shape) - 1))
    bias = None
    if biased:
        bias = (rng.integers(-5, 6, channels) * scale).reshape((-1, 1, 1) if conv else (-1,))
    graph = _graph(q * column, bias, float(rng.integers(1, 9)) / 4, soft)
    x = (rng.random((24, *graph.input.shape)) < 0.4).astype(np.float32)
    made = Quantize(T, calibrate_on(graph, x, T), bits, most_grids=12)(graph)
    stored = made.tensors[made.node["layer"].weight]
    assert np.array_equal(stored, q * (1 << (9 - bits)))
    found = evaluate(made, encode_input(made.input, x), T, ["second"])["second"]
    assert np.array_equal(found, _float64(graph, x))


@given(st.integers(0, 1 << 16))
@settings(max_examples=40, deadline=None)
def test_row_grids_are_what_rows_are_multiples_of(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(-127, 128, (9, 20))
    q[3], q[4, 2:] = 0, 0  # a silent row, and one of two weights
    own = rng.uniform(0.01, 1.0, 3)[rng.integers(0, 3, 9)]
    own[4] = own[0]
    found = row_grids(q * own[:, None], 127, 8)
    assert found is not None and len(np.unique(found)) <= 3
    np.testing.assert_allclose(
        np.rint(q * own[:, None] / found[:, None]) * found[:, None], q * own[:, None], rtol=1e-4
    )


def test_a_row_of_few_weights_that_no_other_grid_holds_has_its_own() -> None:
    q = np.random.default_rng(2).integers(-7, 8, (6, 20))
    q[:, :4], q[5, 2:] = np.arange(4, 8), 0  # the last row is 4 and 5 of its unit
    scale = np.array([0.1, 0.1, 0.13, 0.13, 0.1, 0.0717])[:, None]
    found = row_grids(q * scale, 7, 3)
    np.testing.assert_allclose(found, scale[:, 0], rtol=1e-6)
    assert row_grids(q * scale, 7, 2) is None


@pytest.mark.parametrize("what", ["no grid", "a grid each", "one weight a row"])
def test_where_there_are_none_weights_are_rounded(what: str) -> None:
    rng = np.random.default_rng(1)
    weight = {
        "no grid": rng.normal(size=(6, 20)),
        "a grid each": rng.integers(-127, 128, (9, 20)) * rng.uniform(0.01, 1, (9, 1)),
        "one weight a row": rng.normal(size=(6, 1)),
    }[what]
    assert row_grids(weight, 127, 8) is None


@pytest.mark.parametrize("soft", [False, True])
def test_any_number_of_grids_is_kept_and_becomes_the_circuit(soft: bool) -> None:
    """18 channels with a grid each, which no threshold is a multiple of: no weight is rounded, and
    with a hard reset no spike differs; with a soft one, what a spike takes is rounded, finely.
    """
    rng = np.random.default_rng(3)
    q = rng.integers(-7, 8, (18, 24))
    q[:, 0] = 7
    weight = q * np.exp(rng.normal(-2, 0.5, 18))[:, None]
    graph = _graph(weight.astype(np.float32), None, 1.0, soft)
    x = (rng.random((64, 24)) < 0.3).astype(np.float32)
    made = Quantize(T, calibrate_on(graph, x, T), 4, most_grids=18)(graph)
    assert np.array_equal(made.tensors[made.node["layer"].weight], 32 * q)
    found = evaluate(made, encode_input(made.input, x), T, ["second"])["second"]
    right = _float64(graph, x)
    assert (found == right).mean() >= (0.999 if soft else 1.0)
    assert_equal_to_definition(made, lower(made, T), x[:4])


@pytest.mark.parametrize("soft", [False, True])
def test_biases_that_lie_on_no_grid_move_no_weight(soft: bool) -> None:
    """Batch normalization leaves such biases behind every trained layer."""
    rng = np.random.default_rng(5)
    q = rng.integers(-7, 8, (8, 24))
    q[:, 0] = 7
    weight = q * np.exp(rng.normal(-2, 0.5, 8))[:, None]
    bias = rng.normal(0, 0.2, 8).astype(np.float32)
    graph = _graph(weight.astype(np.float32), bias, 1.0, soft)
    x = (rng.random((128, 24)) < 0.3).astype(np.float32)
    made = Quantize(T, calibrate_on(graph, x, T), 4)(graph)
    assert np.array_equal(made.tensors[made.node["layer"].weight], 32 * q)
    found = evaluate(made, encode_input(made.input, x), T, ["second"])["second"]
    assert (found == _float64(graph, x)).mean() >= 0.998


def test_scales_that_are_powers_of_two_are_one_grid_at_8_bits() -> None:
    """4-bit weights whose scales are up to 16 times apart: one population, every spike float64's."""
    rng = np.random.default_rng(7)
    q = rng.integers(-7, 8, (20, 24))
    q[:, :2] = 7, 1
    graph = _graph((q * 2.0 ** -(4 + np.arange(20) % 5)[:, None]).astype(np.float32), None, 1.0)
    x = (rng.random((64, 24)) < 0.3).astype(np.float32)
    made = Quantize(T, calibrate_on(graph, x, T))(graph)
    assert isinstance(made.node["second"].vth, int)
    found = evaluate(made, encode_input(made.input, x), T, ["second"])["second"]
    assert np.array_equal(found, _float64(graph, x))


@pytest.mark.parametrize("soft", [False, True])
def test_a_row_100_times_another_drowns_none(soft: bool) -> None:
    rng = np.random.default_rng(6)
    weight = rng.normal(0, 0.2, (8, 24))
    weight[3] *= 100
    graph = _graph(weight.astype(np.float32), None, 1.0, soft)
    x = (rng.random((128, 24)) < 0.3).astype(np.float32)
    statistics, precision = calibrate_on(graph, x, T), Precision()
    made = Quantize(T, statistics, precision=precision)(graph)
    found = evaluate(made, encode_input(made.input, x), T, ["second"])["second"]
    equal = (found == _float64(graph, x)).mean(axis=(0, 1))
    assert equal.min() >= 0.98  # 0.86 with one scale for all
    assert next(p for p in precision.layers if p.layer == "second").groups == 2
    assert_equal_to_definition(made, lower(made, T), x[:4])


@pytest.mark.parametrize(
    ("grids", "fed_back", "why"),
    [
        (8, False, ""),
        (9, False, "9 of them, 8 are kept (`grids=9` keeps all)"),
        (1, True, ""),
        (3, True, "only a neuron that alone reads them, and feeds no spike back, keeps several"),
    ],
)
def test_grids_that_are_left_are_named(grids: int, fed_back: bool, why: str) -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (66, 24))
    scale = (128 + np.arange(66) % grids)[:, None] / (1 << 15)
    graph = _graph(q * scale, None, 4.0)
    if fed_back:
        graph = _fed_back(graph, scale)
    x = (rng.random((8, 24)) < 0.4).astype(np.float32)
    statistics, precision = calibrate_on(graph, x, T), Precision()
    made = Quantize(T, statistics, precision=precision)(graph)
    reports = examine_precision(graph, made, precision, statistics, x, T)
    found = next(r for r in reports if r.layer == "second")
    assert found.rounded == (why and f"weights leave the grids of their channels: {why}")
    assert not why or found.rounded in found.remarks
    if fed_back:  # one threshold for all channels of a recurrent layer
        lower(made, T)


def _fed_back(graph: s.SpikingGraph, scale: np.ndarray) -> s.SpikingGraph:
    """The layer hears the spikes of its own neuron, which a bias starts."""
    weight = np.random.default_rng(1).integers(-127, 128, (66, 66)) * scale
    tensors = {"w": weight.astype(np.float32), "b": np.full(66, 5.0, np.float32)}
    nodes = []
    for node in graph.nodes:
        if node.name == "layer":
            nodes.append(s.Previous(name="before", of="second", shape=(66,)))
            node = replace(node, x=Ref("before"))
        nodes.append(replace(node, bias=TensorRef("b")) if node.name == "second" else node)
    return graph.replace(nodes=tuple(nodes), tensors=tensors)
