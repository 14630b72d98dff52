"""Weights on a grid a channel (quantization-aware training) stay as they are, and every spike equals
float64's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.quantization.precision import Precision
from neurocompile.passes.quantization.scales import row_grids
from neurocompile.passes.quantize import Quantize
from neurocompile.precision import examine_precision

T = 4


def _graph(weight: np.ndarray, bias: np.ndarray | None, threshold: float) -> s.SpikingGraph:
    """Spikes -> a layer -> LIF -> mean over time."""
    tensors = {"w": weight} | ({} if bias is None else {"b": bias})
    ref = None if bias is None else TensorRef("b")
    conv = weight.ndim == 4
    shape = (weight.shape[1], 5, 5) if conv else (weight.shape[1],)
    made = s.Conv2d if conv else s.Linear
    more = {"padding": (1, 1)} if conv else {}
    neuron = {"tau": 2.0, "v_threshold": threshold, "decay_input": False}
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
        v = np.where(found[-1], 0.0, h)
    return np.stack(found, 1)


@given(st.integers(0, 1 << 16), st.booleans(), st.booleans(), st.sampled_from([4, 8]))
@settings(max_examples=12, deadline=None)
def test_every_spike_is_float64s(seed: int, conv: bool, biased: bool, bits: int) -> None:
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
    graph = _graph(q * column, bias, float(rng.integers(1, 9)) / 4)
    x = (rng.random((24, *graph.input.shape)) < 0.4).astype(np.float32)
    made = Quantize(T, calibrate_on(graph, x, T), bits)(graph)
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
    found = row_grids(q * own[:, None], 127)
    assert found is not None and len(np.unique(found)) <= 3
    np.testing.assert_allclose(
        np.rint(q * own[:, None] / found[:, None]) * found[:, None], q * own[:, None], rtol=1e-4
    )


@pytest.mark.parametrize("what", ["no grid", "a grid each", "one weight a row"])
def test_where_there_are_none_weights_are_rounded(what: str) -> None:
    rng = np.random.default_rng(1)
    weight = {
        "no grid": rng.normal(size=(6, 20)),
        "a grid each": rng.integers(-127, 128, (9, 20)) * rng.uniform(0.01, 1, (9, 1)),
        "one weight a row": rng.normal(size=(6, 1)),
    }[what]
    assert row_grids(weight, 127) is None


@pytest.mark.parametrize(
    ("grids", "soft", "why"),
    [
        (8, False, ""),
        (9, False, "9 of them, 8 are kept"),
        (1, True, ""),
        (3, True, "only a neuron with a hard reset that alone reads them keeps several"),
    ],
)
def test_grids_that_are_left_are_named(grids: int, soft: bool, why: str) -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-127, 128, (18, 24))
    scale = (1 + np.arange(18) % grids)[:, None] / 256
    graph = _graph(q * scale, None, 4.0)
    if soft:
        lif = replace(graph.node["second"], soft_reset=True)
        graph = graph.replace(nodes=tuple(lif if n.name == "second" else n for n in graph.nodes))
    x = (rng.random((8, 24)) < 0.4).astype(np.float32)
    statistics, precision = calibrate_on(graph, x, T), Precision()
    made = Quantize(T, statistics, precision=precision)(graph)
    reports = examine_precision(graph, made, precision, statistics, x, T)
    found = next(r for r in reports if r.layer == "second")
    assert found.rounded == (why and f"weights leave the grids of their channels: {why}")
    assert not why or found.rounded in found.remarks
