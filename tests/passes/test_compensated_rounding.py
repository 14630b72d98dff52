"""Rounding that makes up for itself: the factors, what it gains, what it needs, who knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurocompile
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.moments import input_covariances
from neurocompile.options import BuildOptions
from neurocompile.passes.quantization.compensated import _unit_upper, compensated


def _covariance(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """Of spikes that a few common causes drive."""
    causes = rng.random((4000, 3)) < 0.4
    spikes = (causes @ rng.random((3, n)) + rng.normal(0, 1 - share, (4000, n))) > 0.8
    return np.cov(spikes.T.astype(np.float64)).reshape(n, n)


@given(st.integers(1, 24), st.integers(0, 1 << 16))
@settings(max_examples=30, deadline=None)
def test_factors_give_the_covariance_back(n: int, seed: int) -> None:
    a = np.random.default_rng(seed).normal(size=(n, n + 3))
    h = a @ a.T + 1e-3 * np.eye(n)
    found = _unit_upper(h.copy())
    upper = np.triu(found, 1) + np.eye(n)
    np.testing.assert_allclose(
        upper @ np.diag(np.diagonal(found)) @ upper.T, h, rtol=1e-6, atol=1e-8
    )


@given(st.integers(0, 1 << 16), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_whole_numbers_in_range_with_less_noise(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    h, levels = _covariance(rng, 40, 0.9), (1 << (bits - 1)) - 1
    weight = rng.normal(0, levels / 3, (32, 40)).clip(-levels, levels)
    found, nearest = compensated(weight, h, levels), np.rint(weight)
    assert np.array_equal(found, np.rint(found)) and np.abs(found).max() <= levels

    def noise(q: np.ndarray) -> float:
        return float(np.einsum("ri,ij,rj->", weight - q, h, weight - q))

    assert noise(found) < noise(nearest)


def test_independent_inputs_are_rounded_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 3, (8, 12))
    for h in (np.diag(rng.random(12) + 0.1), np.zeros((12, 12))):
        assert np.array_equal(compensated(weight, h, 7), np.clip(np.rint(weight), -7, 7))


@pytest.mark.parametrize("groups, kernel, stride", [(1, 3, 1), (2, 3, 2), (4, 1, 1)])
def test_covariances_are_those_of_the_definition(groups: int, kernel: int, stride: int) -> None:
    rng, T = np.random.default_rng(groups), 3
    shape, pad = (6, 4 // groups, kernel, kernel), kernel // 2
    nodes = (
        s.Input(name="x", shape=(4, 5, 6)),
        s.LIF(name="first", x=Ref("x"), tau=2.0, v_threshold=0.4, decay_input=False),
        s.Conv2d(
            name="conv",
            x=Ref("first"),
            weight=TensorRef("w"),
            stride=(stride, stride),
            padding=(pad, pad),
            groups=groups,
        ),
        s.LIF(name="second", x=Ref("conv"), tau=2.0, v_threshold=0.4, decay_input=False),
        s.Output(name="y", x=Ref("second")),
    )
    if groups == 4:
        shape = (8, 1, 1, 1)
    graph = s.SpikingGraph("made", "canonical", nodes, {"w": rng.normal(size=shape)})
    x = rng.random((5, 4, 5, 6), np.float32)
    (found,) = (input_covariances(graph, x, T)["conv"],)
    spikes = evaluate(graph, x, T, ["first"])["first"]
    padded = np.pad(spikes, ((0, 0),) * 3 + ((pad, pad),) * 2)
    each = 4 // groups
    for group in range(groups):
        rows = [
            padded[b, t, group * each : (group + 1) * each, i : i + kernel, j : j + kernel].ravel()
            for b in range(5)
            for t in range(T)
            for i in range(0, 5 + 2 * pad - kernel + 1, stride)
            for j in range(0, 6 + 2 * pad - kernel + 1, stride)
        ]
        expected = np.cov(np.asarray(rows, np.float64).T, bias=True)
        np.testing.assert_allclose(found[group], expected.reshape(found[group].shape), atol=1e-12)


def _quantized(model: Path, x: np.ndarray | None, **options: Any) -> Any:
    stage = neurocompile.open(model, **options).canonical()
    return stage.quantize() if x is None else stage.quantize(calibration=x)


def test_other_integers_that_are_the_same_each_time_and_exact(digits_model, digits_data) -> None:
    x = digits_data.x[:64]
    found, again = (
        _quantized(digits_model, x, weight_bits=4, rounding="compensated") for _ in range(2)
    )
    nearest = _quantized(digits_model, x, weight_bits=4)
    assert found.graph.text() == again.graph.text()
    differ = 0
    for name, tensor in found.graph.tensors.items():
        assert np.array_equal(tensor, again.graph.tensors[name])
        differ += not np.array_equal(tensor, nearest.graph.tensors[name])
    assert differ > 5
    circuit = found.lower().circuit
    given = encode_input(found.graph.input, digits_data.x[:4])
    expected = evaluate(found.graph, given, 4)[found.graph.output.name]
    trace = (
        Emulator().open(circuit).run(encode(circuit, digits_data.x[:4]), [circuit.readouts[0].src])
    )
    assert np.array_equal(decode(circuit, trace), expected)


def test_samples_are_needed_and_named(digits_model: Path) -> None:
    for x in (None, np.zeros((4, 1, 8, 8), np.float32)):  # a dummy is no data
        with pytest.raises(
            NeurocompileError, match="`rounding='compensated'` needs samples"
        ) as caught:
            _quantized(digits_model, x, rounding="compensated")
        assert caught.value.code == "NC1012"
    with pytest.raises(NeurocompileError, match="nearest, compensated are possible"):
        BuildOptions(rounding="best")


def test_covariances_are_measured_only_for_whole_inputs(digits_model, digits_data) -> None:
    graph = neurocompile.open(digits_model).canonical().graph
    found = input_covariances(graph, digits_data.x[:8], 4)
    readers = {n.name: n.x for n in graph.nodes if isinstance(n, (s.Conv2d, s.Linear))}
    first = next(name for name, x in readers.items() if isinstance(graph.node[x], s.Input))
    assert first not in found and len(found) >= len(readers) - 2
    for name, value in found.items():
        assert value.ndim == 3 and value.dtype == np.float64, name
        assert np.array_equal(value, value.transpose(0, 2, 1))
