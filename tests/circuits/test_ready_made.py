"""The ready-made circuits compute what they say, streamed over several samples, and Lava agrees
element for element.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import decode
from neurocompile.backends.lava import LavaInProcess
from neurocompile.circuits.attention import attention, attention_plan, attention_spikes
from neurocompile.circuits.exponential import (
    LEVELS,
    exponential,
    exponential_on_chip,
    random_thresholds,
    sobol_thresholds,
)
from neurocompile.circuits.normalize import normalization
from neurocompile.circuits.one_winner import one_winner
from neurocompile.circuits.random_bits import reference_bits, seeds
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.circuits.winners import k_winners, subtractive_winners
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping import map_circuit
from neurocompile.targets import load_target
from neurocompile.theory.measure.convergence import CIRCUITS, measure, prepared


def rates(circuit: CircuitGraph, x: np.ndarray) -> np.ndarray:
    return decode(circuit, Emulator().open(circuit).run(x))


@pytest.mark.parametrize("name", CIRCUITS)
def test_every_circuit_is_exact_streamed_and_on_lava_and_maps_and_prints(name):
    case = CIRCUITS[name](3, 24, np.random.default_rng(1))
    circuit = prepared(case.circuit)
    expected = Emulator().open(circuit).run(case.x)
    plain = Emulator().open(case.circuit).run(case.x)
    found = emulate_cycles(circuit, case.x)
    for population, values in expected.items():
        np.testing.assert_array_equal(found[population], values, err_msg=f"cycles: {population}")
        if population in plain:
            np.testing.assert_array_equal(
                plain[population], values, err_msg=f"unscheduled: {population}"
            )
    assert CircuitGraph.parse(circuit.text(), circuit.tensors).text() == circuit.text()
    assert map_circuit(circuit, load_target("loihi2"), {}, seed=0).cores_used >= 1
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    with LavaInProcess().open(circuit) as executor:
        lava = executor.run(case.x)
    assert set(lava) == set(expected)
    for population, values in expected.items():
        np.testing.assert_array_equal(lava[population], values, err_msg=f"lava: {population}")


def integrate(x: np.ndarray, steps: int, half: bool) -> np.ndarray:
    """Spikes of the normalization, by its definition: int (steps, n)."""
    total, spikes = x.sum(), []
    h = np.full(len(x), total / 2 if half else 0.0)
    for _ in range(steps):
        h = h + x
        s = h >= total
        h = h - total * s
        spikes.append(s)
    return np.array(spikes)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any),
    st.integers(1, 40),
    st.booleans(),
)
def test_normalization_equals_its_definition_in_every_step(values, steps, half):
    circuit = prepared(normalization(len(values), 600, steps, half))
    x = np.array([values, values[::-1]], np.int32)
    out = Emulator().open(circuit).run(x, ["out"])["out"]
    for row, found in zip(x, out):
        np.testing.assert_array_equal(found, integrate(row, steps, half))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any), st.integers(1, 40))
def test_one_neuron_wins_in_each_step_and_each_its_share(values, steps):
    circuit = prepared(one_winner(len(values), 540, steps))
    x = np.array([values, values[::-1]], np.int32)
    out = Emulator().open(circuit).run(x, ["out"])["out"]
    for row, found in zip(x, out):
        p, late, expected = (
            row.astype(np.int64),
            np.zeros(len(row), np.int64),
            [np.zeros(len(row), np.int64)],
        )
        for _ in range(steps - 1):
            won = (np.arange(len(row)) == p.argmax()).astype(np.int64)
            p, late = p + row - row.sum() * late, won
            assert p.min() >= -2 * row.sum() and p.max() <= 2 * len(row) * row.sum()
            expected.append(won)
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.data())
def test_k_winners_are_the_k_largest_and_ties_go_to_the_lower_index(values, data):
    k = data.draw(st.integers(1, len(values)))
    order = np.argsort([-v for v in values], kind="stable")[:k]
    x = np.array([values], np.int32)
    expected = np.isin(np.arange(len(values)), order).astype(float)
    np.testing.assert_array_equal(rates(prepared(k_winners(len(values), k, 9, 2)), x)[0], expected)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.data())
def test_subtraction_leaves_the_same_winners(values, data):
    n = len(values)
    k = data.draw(st.integers(1, n))
    circuit = prepared(subtractive_winners(n, k, 6, 2 * n * n * 7))
    x = np.array([values, values[::-1]], np.int32)
    found = Emulator().open(circuit).run(x, ["active"])["active"][:, -1]
    for row, active in zip(x, found):
        order = np.argsort(-row, kind="stable")[:k]
        np.testing.assert_array_equal(active, np.isin(np.arange(n), order))


def test_bits_on_the_chip_follow_the_recurrence_and_start_anew_with_each_sample():
    rng = np.random.default_rng(0)
    given_seeds = seeds(3, 4, rng)
    circuit = prepared(exponential_on_chip(2, 2, 200))
    x = np.concatenate([np.full((3, 1), 2, np.int32), given_seeds], axis=1)
    found = emulate_cycles(circuit, x)["random"][..., :2].sum(axis=-1)
    for sample in range(3):
        expected = reference_bits(given_seeds[sample].reshape(4, -1), 200)
        np.testing.assert_array_equal(found[sample].T, expected)
    assert 0.4 < found.mean() < 0.6


@pytest.mark.parametrize(
    "thresholds",
    [random_thresholds(5, 64, 4, np.random.default_rng(0)), sobol_thresholds(5, 64, 4)],
)
def test_the_exponential_is_the_series_of_coincidences(thresholds):
    level = np.array([0, 9_000, 30_000, 50_000, LEVELS - 1], np.int32)
    x = np.concatenate(
        [np.broadcast_to(level[:, None, None], (5, 64, 1)), thresholds], axis=2
    ).astype(np.int32)
    trains = level[:, None, None] > thresholds
    terms = np.cumprod(trains, axis=2) / np.array([1, 2, 6, 24])
    expected = 1 + terms.sum(axis=2).mean(axis=1)
    np.testing.assert_allclose(
        rates(prepared(exponential(4, 64)), x)[:, 0], expected, rtol=0, atol=1e-12
    )


def test_a_rate_is_a_rectifier():
    x = np.arange(-8, 9, dtype=np.int32)[:, None]
    found = rates(prepared(rate_relu(1, 8, 64)), x)
    np.testing.assert_array_equal(found, np.maximum(x, 0) / 8)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("normalization, membrane S/2", -1.1, -0.9),
        ("normalization, one winner a step", -1.15, -0.85),
        ("normalization, stochastic", -0.65, -0.35),
        ("exp, Sobol trains", -1.15, -0.8),
        ("exp, Bernoulli trains", -0.65, -0.35),
        ("ReLU by rate", -1.1, -0.9),
        ("softmax attention", -1.2, -0.85),
    ],
)
def test_errors_fall_at_the_rate_that_theory_promises(name, low, high):
    curve = measure(name, 50, (16, 32, 64, 128, 256))
    assert low < curve.slope < high
    assert curve.interval[0] <= curve.slope <= curve.interval[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: normalization(4, 9_000, 4),
        lambda: one_winner(16, 2_000, 4),
        lambda: k_winners(4, 5, 9),
        lambda: subtractive_winners(100, 3, 9, 4),
        lambda: exponential(8, 4),
        lambda: exponential_on_chip(2, 15, 4),
        lambda: rate_relu(1, 50_000, 4),
        lambda: attention(4, 4, 63, 0.1, 3),
        lambda: attention(4, 4, 9_000, 0.1, 8),
        lambda: attention(4, 16, 127, 0.1, 4096),
    ],
)
def test_sizes_beyond_the_fields_are_refused(make):
    with pytest.raises(NeurocompileError, match="NC201[12]"):
        make()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 40),
    st.floats(1e-4, 2.0),
    st.integers(4, 40),
    st.integers(0, 99),
)
def test_attention_equals_its_definition_in_every_step(n, d, levels, unit, steps, seed):
    x = np.random.default_rng(seed).integers(-levels, levels + 1, (2, 3, n, d)).astype(np.int32)
    plan = attention_plan(n, d, levels, unit, steps)
    out = Emulator().open(prepared(attention(n, d, levels, unit, steps))).run(x, ["out"])["out"]
    np.testing.assert_array_equal(out, attention_spikes(x, levels, plan))
