"""The threshold circuit of a LIF against the LIF, counts by hand, scaling of attention, and PARITY."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.circuits.builder import Builder, strided
from neurocompile.ir import circuit as c
from neurocompile.passes.lower import lower
from neurocompile.theory.bounds.complexity import complexity
from neurocompile.theory.bounds.threshold_lif import constant_depth_gates, evaluate_constant_depth
from neurocompile.theory.experiments.complexity_task import attention_graph
from neurocompile.theory.experiments.parity_task import (
    best_thresholds,
    parity_accuracy,
    parity_circuit,
)


@settings(deadline=None)
@given(st.integers(1, 7), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 10_000))
def test_three_layers_are_the_neuron(T: int, beta: float, seed: int) -> None:
    current = np.random.default_rng(seed).integers(-8, 24, (64, T)) / 16  # exact in floats
    v, expected = np.zeros(64), np.zeros((64, T), bool)
    for t in range(T):
        v = beta * v + current[:, t]
        expected[:, t] = v >= 1
        v = np.where(expected[:, t], 0, v)
    assert np.array_equal(evaluate_constant_depth(current, beta, 1.0), expected)


def test_gates_by_hand() -> None:
    # T = 2: g01, g02, g12; sets {1}, {2}, {1, 2}; two ORs
    assert [constant_depth_gates(T) for T in (1, 2, 3, 4)] == [1, 8, 16, 29]
    x = c.HostInput(name="x", shape=(2,), layer="x", low=0, high=1)
    lif = c.LIF(name="l", shape=(3,), layer="l", vth=1, reset=True)
    relay = c.GradedRelay(name="r", shape=(1,), layer="r")
    projections = (
        c.Dense(name="a", src="x", dst="l", weight="w"),
        c.Strided(
            name="b", src="l", dst="r", sizes=(3,), src_strides=(1,), dst_strides=(0,), weight=2
        ),
    )
    graph = c.CircuitGraph(
        "g", 2, (x, lif, relay), projections, (), {"w": np.ones((3, 2), np.int16)}
    )
    found = complexity(graph)
    assert (
        found.gates == 3 * 8 + 2 * (2 * 6 + 3) and found.depth == 3 + 2
    )  # the relay's sum reaches 6: 3 bits
    assert (found.unrolled_depth, found.unrolled_gates) == (3 + 2, 3 * 3 + 30)


def test_depth_is_constant_and_size_polynomial() -> None:
    by_n = [complexity(lower(attention_graph(side), 4)) for side in (2, 4, 8)]
    assert len({k.depth for k in by_n}) == 1
    assert by_n[2].gates < by_n[1].gates * 4**2.5  # n x 4
    by_T = [complexity(lower(attention_graph(4), T)) for T in (2, 4, 8)]
    assert len({k.depth for k in by_T}) == 1
    assert by_T[0].unrolled_depth < by_T[1].unrolled_depth < by_T[2].unrolled_depth


@pytest.mark.parametrize(("n", "k"), [(3, 1), (5, 2), (6, 3), (4, 9)])
def test_thresholds_are_the_best_of_all(n: int, k: int) -> None:
    weight = [comb(n, i) / 2**n for i in range(n + 1)]

    def value(cuts: tuple[int, ...]) -> float:
        edges = (0, *cuts, n + 1)
        return sum(
            max(sum(weight[i] for i in range(a, b) if i % 2 == p) for p in (0, 1))
            for a, b in pairwise(edges)
        )

    brute = max(value(cuts) for cuts in combinations(range(1, n + 1), min(k, n)))
    found = best_thresholds(n, k)
    assert found.accuracy == pytest.approx(brute) and len(found.thresholds) == min(k, n)


@pytest.mark.parametrize("n", [2, 5, 8, 12])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_the_circuit_reaches_the_optimum_with_at_most_k_spikes(n: int, k: int) -> None:
    accuracy, spikes, optimum = parity_accuracy(n, k)
    assert accuracy == pytest.approx(optimum) and spikes <= k
    assert (accuracy == 1) == (k >= n or optimum == 1)


def test_bounded_spikes_fail_as_n_grows_and_n_spikes_do_not() -> None:
    optimum = [best_thresholds(n, 4).accuracy for n in (4, 8, 16, 32, 64)]
    assert optimum[0] == 1 and optimum == sorted(optimum, reverse=True) and optimum[-1] < 0.7
    assert [parity_accuracy(n, n)[0] for n in (8, 40)] == [1.0, 1.0]


def test_parity_circuit_is_legal_and_runs_cycle_by_cycle() -> None:
    from neurocompile.backends.emulator import emulate_cycles
    from neurocompile.ir.circuit_rules import check_circuit
    from neurocompile.passes.schedule import schedule

    graph = parity_circuit(4, best_thresholds(4, 4))
    check_circuit(graph, "lower")
    x = np.array(list(product((0, 1), repeat=4)), np.int32)
    found = emulate_cycles(schedule(graph, max_spike_delay=62, power_of_two_period=True), x)[
        "parity"
    ].reshape(-1)
    assert np.array_equal(found, x.sum(axis=1) % 2)


def test_a_shift_makes_gates_fewer() -> None:
    """Values of a coarser unit need fewer gates; and what a population says of its size counts."""

    def circuit(exponent: int, largest: int = 0) -> c.CircuitGraph:
        builder = Builder()
        x = builder.population(c.HostInput, "x", (1,), "x", low=0, high=1000)
        y = builder.population(c.GradedRelay, "y", (1,), "y", largest=largest)
        builder.drive(y, [replace(strided(x, (1,), (1,), (1,)), weight_exp=exponent)])
        return builder.finish("g", 2)

    assert complexity(circuit(0)).gates == 2 * (2 * 1000 + 10)
    assert complexity(circuit(-3)).gates == 2 * (2 * 125 + 7)
    assert complexity(circuit(0, 125)).gates == 2 * (2 * 125 + 7)
