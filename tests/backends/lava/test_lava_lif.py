"""Lava's fixed-point LIF and LIFReset against the integer equations of neurocompile.ir.circuit.LIF."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lava_cases import check, circuit, lif, one_to_one, source

from neurocompile.backends.lava import LavaInProcess
from neurocompile.ir.text import TensorRef

N, T = 24, 12


def lif_circuit(bias=None, **parameters):
    """One LIF whose input ``a`` in step t is sample t (period 1, nothing resets)."""
    tensors = {} if bias is None else {"b": np.asarray(bias, np.int16)}
    population = lif("s", (N,), 1, bias=None if bias is None else TensorRef("b"), **parameters)
    return circuit([source(N), population], [one_to_one("x", "s", N)], tensors)


@settings(max_examples=120, deadline=None)
@given(
    du=st.one_of(st.just(4095), st.integers(0, 4095)),
    dv=st.integers(0, 4095),
    vth=st.one_of(st.sampled_from([0, 1, 131071]), st.integers(0, 131071)),
    bias_exp=st.integers(0, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_lif_equals_its_equations_over_the_legal_ranges(du, dv, vth, bias_exp, seed):
    rng = np.random.default_rng(seed)
    bias = rng.choice([-4096, 4095, *rng.integers(-4096, 4096, N - 2)], N)
    # |u| < 2^23 holds if |a| < 2^17 * (du + 1) / 4096: the range that the passes must prove
    limit = max(0, 2**17 * (du + 1) // 4096 - 1)
    x = rng.integers(-limit, limit + 1, (T, N)) // rng.choice([1, 1, 7, 1000, 100000], N)
    x[:, :2] = -limit, limit  # saturation of v in both directions
    check(lif_circuit(bias, du=du, dv=dv, vth=vth, bias_exp=bias_exp), x)


def test_saturation_is_symmetric_and_integer_rounding_is_towards_zero():
    x = np.zeros((T, N), int)
    x[:, 0], x[:, 1], x[0, 2:] = 131071, -131071, np.arange(-11, 11)
    check(lif_circuit(du=4095, dv=1, vth=131071), x)


@pytest.mark.parametrize(
    ("a", "u"),
    [
        (131071, 131071 * 64),
        (-131071, -131071 * 64),
        (131072, 2**23),
        (-131072, 2**23),
        (131073, -(2**23) + 64),
    ],
)
def test_current_wraps_beyond_131071(a, u):
    """Not modelled by the circuit: u is in (-2^23, 2^23] and wraps once. Passes must prove |a| <=
    131071 (du 4095).
    """
    x = np.zeros((2, N), np.int32)
    x[0] = a
    trace = LavaInProcess().open(lif_circuit(du=4095, vth=0)).run(x)["s"]
    assert trace[0].all() == (u > 0)


@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("gap", [0, 1, 4])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_reset_starts_each_sample_at_zero(steps, gap, depth):
    rng = np.random.default_rng(depth)
    period = steps + gap
    bias = rng.integers(-50, 50, N).astype(np.int16)
    populations = [
        source(N),
        lif("s", (N,), depth, vth=90, dv=50, du=2000, reset=True, bias=TensorRef("b")),
    ]
    graph = circuit(populations, [one_to_one("x", "s", N, delay=depth)], {"b": bias}, steps, period)
    trace = check(graph, rng.integers(-100, 200, (5, N)))
    alone = check(graph, rng.integers(-100, 200, (1, N)))
    assert trace["s"].any() and alone["s"].shape == (1, steps, N)


def test_samples_do_not_leak_into_each_other():
    graph = circuit(
        [source(N), lif("s", (N,), 1, vth=500, reset=True)], [one_to_one("x", "s", N)], steps=4
    )
    x = np.random.default_rng(0).integers(0, 400, (6, N)).astype(np.int32)
    with LavaInProcess().open(graph) as executor:
        together = executor.run(x)["s"]
        single = [executor.run(x[i : i + 1])["s"][0] for i in range(len(x))]
    np.testing.assert_array_equal(together, single)


def test_full_voltage_decay_is_not_stateless():
    """dv 4095 keeps v / 4096: with a threshold of 64 or more a leftover can make a later ``a ==
    vth`` spike.
    """
    graph = lif_circuit(du=4095, dv=4095, vth=100)
    trace = check(graph, np.full((3, N), 100))
    assert not trace["s"][0].any() and trace["s"][1].all()
