"""Every formula against hand-computed values, exact laws, and simulation."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.theory.bounds import (
    exponential,
    normalization,
    rate_coding,
    shares,
    spike_bound,
    threshold_lif,
    timesteps,
    universal,
)
from neurocompile.theory.bounds.codes import CODES
from neurocompile.theory.bounds.margin import epsilon_for_accuracy
from neurocompile.theory.bounds.statements import STATEMENTS, Status, statement
from neurocompile.theory.bounds.units import LogitError, RateError
from neurocompile.theory.measure.calibrate import fit_constant

EPS = st.floats(1e-3, 0.9)


def test_hand_computed_values() -> None:
    assert rate_coding.hoeffding_steps(0.1, 0.05) == 185  # ln 40 / 0.02 = 184.4
    assert rate_coding.hoeffding_steps(0.01, 0.05) == 18445
    assert rate_coding.hoeffding_failure(100, 0.1) == pytest.approx(2 * math.exp(-2))
    assert rate_coding.hoeffding_failure(1, 0.1) == 1.0
    assert exponential.taylor_order(1.0, 0.001) == 6  # e/6! = 3.8e-3, e/7! = 5.4e-4
    assert exponential.taylor(np.array([1.0]), 6)[0] == pytest.approx(1957 / 720)
    assert exponential.coincidence_steps(1.0, 0.1) == 185  # e^2 / 4 / 0.01 = 184.7
    assert normalization.normalization_steps(1, 0.1) == rate_coding.hoeffding_steps(0.1)
    assert normalization.normalization_steps(16, 0.1) == 324  # ln 640 / 0.02 = 323.07
    assert normalization.softmax_error(16, 100) == pytest.approx(math.sqrt(math.log(16) / 100))
    assert normalization.deterministic_normalization_steps(0.001) == 500
    assert universal.layer_error(0.1, 4) == 0.025
    assert universal.universal_steps(4, 16, 0.1) == 4437  # 16 ln 16 / 0.01 = 4436.1
    assert universal.universal_steps(3, 1, 0.1) == 1
    assert spike_bound.spike_bound(2, 16, 64, 0.1) == pytest.approx(409_600)
    assert spike_bound.energy_bound(1e6) == pytest.approx(23.6e-6)


def test_table_iii_of_the_paper_is_one_formula() -> None:
    from neurocompile.theory.experiments.paper import TABLE2, TABLE3

    assert [round(spike_bound.spike_bound(1, 16, 64, eps, 0.01)) for eps, _, _ in TABLE3] == [
        t for _, _, t in TABLE3
    ]
    predicted = (62.5e-3, 15.6e-3, 3.9e-3, 0.98e-3, 0.24e-3)
    assert [1 / T**2 for T, _, _ in TABLE2] == pytest.approx(predicted, rel=0.02)


@given(EPS, EPS, st.floats(0.001, 0.5), st.integers(1, 1000), st.integers(1, 40))
def test_monotone(a: float, b: float, delta: float, n: int, layers: int) -> None:
    low, high = min(a, b), max(a, b)
    assert rate_coding.hoeffding_steps(low, delta) >= rate_coding.hoeffding_steps(high, delta)
    assert normalization.normalization_steps(n + 1, low) >= normalization.normalization_steps(
        n, low
    )
    assert normalization.normalization_steps(n, low) >= normalization.normalization_steps(n, high)
    assert universal.universal_steps(layers + 1, n, low) >= universal.universal_steps(
        layers, n, low
    )
    assert spike_bound.spike_bound(1, n, 8, low) >= spike_bound.spike_bound(1, n, 8, high)
    assert exponential.taylor_order(2.0, low) >= exponential.taylor_order(2.0, high)
    assert exponential.coincidence_steps(2.0, low) >= exponential.coincidence_steps(2.0, high)


@given(EPS, st.floats(0.001, 0.5))
def test_lemma_1_inverts(eps: float, delta: float) -> None:
    T = rate_coding.hoeffding_steps(eps, delta)
    assert rate_coding.hoeffding_error(T, delta) <= eps * (1 + 1e-12)
    assert T == 1 or rate_coding.hoeffding_error(T - 1, delta) > eps * (1 - 1e-12)
    assert rate_coding.hoeffding_failure(T, eps) <= delta * (1 + 1e-9)


@given(st.floats(0.1, 50), st.integers(1, 256), st.integers(1, 512), EPS, st.floats(0.1, 5))
def test_theorem_8_inverts_and_scales(
    lipschitz: float, n: int, d: int, eps: float, constant: float
) -> None:
    spikes = spike_bound.spike_bound(lipschitz, n, d, eps, constant)
    assert spike_bound.epsilon_of(spikes, lipschitz, n, d, constant) == pytest.approx(eps)
    assert spike_bound.spike_bound(2 * lipschitz, n, d, eps, constant) == pytest.approx(4 * spikes)
    assert spike_bound.spike_bound(lipschitz, n, d, eps / 2, constant) == pytest.approx(4 * spikes)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_hoeffding_holds_in_simulation(rate: float, eps: float) -> None:
    T = rate_coding.hoeffding_steps(eps, 0.05)
    means = np.random.default_rng(0).binomial(T, rate, 40_000) / T
    assert (np.abs(means - rate) > eps).mean() <= 0.05


def test_at_rate_one_half_half_of_the_steps_suffice() -> None:
    T = rate_coding.hoeffding_steps(0.05, 0.05)
    rng = np.random.default_rng(0)
    failures = [
        (np.abs(rng.binomial(t, 0.5, 200_000) / t - 0.5) > 0.05).mean()
        for t in (T // 3, round(0.55 * T))
    ]
    assert failures[0] > 0.05 > failures[1]


def test_union_bound_holds_in_simulation() -> None:
    T = normalization.normalization_steps(16, 0.1)
    means = np.random.default_rng(1).binomial(T, 0.5, (20_000, 16)) / T
    assert (np.abs(means - 0.5).max(axis=1) > 0.1).mean() <= 0.05


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.integers(1, 64),
    st.sampled_from([0.0, 0.5]),
)
def test_relu_rate_is_the_neuron_step_by_step(x: list[float], T: int, initial: float) -> None:
    current = np.floor(np.array(x) * 256) / 256  # exact sums
    v, count = np.full(len(x), initial), np.zeros(len(x))
    for _ in range(T):
        v = v + current
        spikes = v >= 1
        count += spikes
        v = v - spikes
    assert np.array_equal(rate_coding.relu_rate(current, T, 1.0, initial), count / T)
    assert np.abs(count / T - current).max() <= rate_coding.relu_error(T, 1.0, initial) + 1e-12


def test_relu_rectifies_and_saturates() -> None:
    assert rate_coding.relu_rate(np.array([-3.0, 0.0, 2.0, 9.0]), 8, 2.0).tolist() == [0, 0, 1, 1]


def test_coincidence_variance_is_that_of_the_simulation() -> None:
    T, rate, bound, order, trials = 50, 0.6, 1.5, 4, 40_000
    rng, total = np.random.default_rng(0), np.ones(40_000)
    for k in range(1, order + 1):
        total += bound**k / math.factorial(k) * rng.binomial(T, rate**k, trials) / T
    assert total.mean() == pytest.approx(
        float(exponential.taylor(np.array(bound * rate), order)), abs=0.01
    )
    assert total.var() == pytest.approx(
        exponential.coincidence_variance(rate, bound, order, T), rel=0.05
    )


@given(st.floats(0.05, 3), st.floats(0.05, 0.5), st.floats(0, 1))
def test_lemma_2_suffices(bound: float, eps: float, rate: float) -> None:
    T = exponential.coincidence_steps(bound, eps)
    assert exponential.coincidence_variance(rate, bound, 12, T) <= eps**2 * (1 + 1e-9)


@given(st.floats(-3, 3), st.integers(0, 12))
def test_taylor_remainder_bounds(x: float, order: int) -> None:
    error = abs(math.exp(x) - float(exponential.taylor(np.array(x), order)))
    assert error <= exponential.taylor_remainder(abs(x), order) + 1e-12


def test_codes_have_their_rates() -> None:
    x, rng = np.linspace(0, 1, 33), np.random.default_rng(0)
    for name in ("integrate", "integrate-half"):
        assert np.abs(CODES[name](x, 64) / 64 - x).max() <= 1 / 64
    assert np.abs(CODES["bernoulli"](x, 4096, rng) / 4096 - x).max() < 0.05
    assert CODES["hard-reset LIF"](np.array([0.4, 0.49, 0.6, 2.0]), 100).tolist() == [0, 0, 33, 100]


def test_rules() -> None:
    known = timesteps.Known(rate_error=RateError(0.05), d_eff=47, measured=4, goal="found")
    steps = {s.rule: s for s in timesteps.choose(known)}
    assert steps["fitted"].T == 4 and steps["fitted"].interval == (
        4,
        5,
    )  # 2.3 log10 47 = 3.85, [3.18, 4.51]
    assert steps["fitted"].status is Status.unknown
    assert (
        steps["deterministic"].T == 20 and steps["stochastic"].T == 738 and steps["measured"].T == 4
    )
    assert {s.T for s in timesteps.choose(timesteps.Known())} == {None}
    assert all(s.remark for s in timesteps.choose(timesteps.Known()))
    assert timesteps.choose(timesteps.Known(rate_error=RateError(0.01)))[1].T == 100


@pytest.mark.parametrize("eps", [0.1, 1.0, 7.0])
def test_the_error_of_a_rate_is_the_hardest_layers_share(eps) -> None:
    """With every rate of one layer off by that much, the logits move by eps / K at most."""
    layers = [(0.5, 16), (2.0, 64), (0.0, 1_000_000)]
    found = timesteps.rate_error(LogitError(eps), layers)
    assert found == pytest.approx(min(eps / (3 * D) / math.sqrt(m) for D, m in layers if D))
    assert max(D * math.sqrt(m) * found for D, m in layers) == pytest.approx(eps / 3)
    assert timesteps.rate_error(LogitError(eps), [(0.0, 4)]) is None


def test_statements_name_functions_that_exist() -> None:
    import importlib

    assert [s.name for s in STATEMENTS if s.status is Status.unknown] == ["Theorem 13"]
    for one in STATEMENTS:
        module, _, name = one.function.rpartition(".")
        assert hasattr(importlib.import_module(f"neurocompile.theory.{module}"), name), one.name
        assert statement(one.name) is one and one.found


@pytest.mark.parametrize(
    "call",
    [
        lambda: rate_coding.hoeffding_steps(0),
        lambda: rate_coding.hoeffding_steps(float("nan")),
        lambda: rate_coding.hoeffding_steps(0.1, 1.0),
        lambda: rate_coding.hoeffding_error(0),
        lambda: spike_bound.spike_bound(float("inf"), 1, 1, 1),
        lambda: spike_bound.spike_bound(1, 1, 1, -1),
        lambda: spike_bound.spike_bound(1e200, 1, 1, 1e-200),
        lambda: universal.layer_error(1, 2.5),
    ],
)
def test_parameters_out_of_range(call) -> None:
    with pytest.raises(NeurocompileError) as error:
        call()
    assert error.value.code == "NC8003" and "\n" not in str(error.value)


_FORMULAS = {
    rate_coding.hoeffding_steps: (0.1, 0.05),
    rate_coding.hoeffding_error: (4, 0.05),
    rate_coding.hoeffding_failure: (4, 0.1),
    rate_coding.relu_rate: (0.5, 4, 1.0, 0.0),
    rate_coding.relu_error: (4, 1.0, 0.5),
    exponential.taylor: (0.5, 3),
    exponential.taylor_remainder: (1.0, 3),
    exponential.taylor_order: (1.0, 0.1),
    exponential.coincidence_steps: (1.0, 0.1, 0.25),
    exponential.coincidence_variance: (0.5, 1.0, 3, 4),
    normalization.normalization_steps: (4, 0.1, 0.05),
    normalization.deterministic_normalization_steps: (0.1, 0.5),
    normalization.softmax_error: (4, 4, 1.0, 0.0),
    universal.layer_error: (0.1, 3),
    universal.universal_steps: (3, 4, 0.1, 1.0),
    spike_bound.spike_bound: (1.0, 4, 4, 0.1, 1.0),
    spike_bound.epsilon_of: (100.0, 1.0, 4, 4, 1.0),
    spike_bound.energy_bound: (100.0, 1e-12),
    threshold_lif.constant_depth_gates: (4,),
    threshold_lif.sequential_gates: (4,),
    shares.layer_demand: (4, 4, 1.0, 3, 0.1, 1.0),
}
_BAD = (
    math.nan,
    math.inf,
    -math.inf,
    0,
    -1,
    2.5,
    1e-320,
    1e-200,
    1e-9,
    1e9,
    1e200,
    1e308,
    "a",
    None,
    [],
)


@pytest.mark.parametrize("function", _FORMULAS, ids=lambda f: f.__name__)
def test_whatever_is_given_a_formula_answers_with_a_finite_number_or_one_line(function) -> None:
    base = _FORMULAS[function]
    for i in range(len(base)):
        for bad in _BAD:
            arguments = [*base[:i], bad, *base[i + 1 :]]
            try:
                found = function(*arguments)
            except NeurocompileError as error:
                assert error.code == "NC8003" and "\n" not in str(error), arguments
            else:
                assert np.isfinite(np.float64(found)).all() and np.all(np.float64(found) >= 0), (
                    arguments,
                    found,
                )


@pytest.mark.parametrize(
    "known",
    [
        timesteps.Known(rate_error=RateError(1e-200)),
        timesteps.Known(rate_error=RateError(1e200)),
        timesteps.Known(rate_error=RateError(1e-320)),
        timesteps.Known(d_eff=math.nan),
        timesteps.Known(d_eff=10, constant=-1),
        timesteps.Known(d_eff=10, interval=(math.nan, 1)),
        timesteps.Known(rate_error=RateError(1), delta=2),
    ],
)
def test_rules_of_what_is_out_of_range(known) -> None:
    with contextlib.suppress(NeurocompileError):
        assert all(s.T is None or 1 <= s.T <= 1e100 for s in timesteps.choose(known))


def test_codes_and_fits_of_what_is_out_of_range() -> None:
    rng = np.random.default_rng(0)
    for call in (
        lambda: CODES["bernoulli"](np.array([1.5]), 4, rng),
        lambda: CODES["bernoulli"](np.array([0.5]), 0, rng),
        lambda: CODES["hard-reset LIF"](np.array([0.5]), -1),
        lambda: CODES["integrate"](np.array([np.nan]), 4),
        lambda: fit_constant(np.ones(4), np.ones(3)),
        lambda: fit_constant(np.arange(1, 5), np.arange(1, 5), scale=0),
        lambda: fit_constant(np.arange(1, 5), np.arange(1, 5), resamples=0),
        lambda: threshold_lif.evaluate_constant_depth(np.zeros((2, 0)), 0.5, 1),
        lambda: threshold_lif.constant_depth_gates(0),
        lambda: threshold_lif.evaluate_constant_depth(np.zeros((2, 40)), 0.5, 1),
    ):
        with pytest.raises(NeurocompileError, match="NC8003"):
            call()
    for logits, y in (
        (np.zeros((0, 3)), []),
        (np.ones((3, 3)), [0]),
        (np.ones((2, 1)), [0, 0]),
        (np.full((2, 3), np.nan), [0, 1]),
    ):
        with pytest.raises(NeurocompileError, match="NC8006"):
            epsilon_for_accuracy(logits, np.array(y, np.int64), 0.5)
