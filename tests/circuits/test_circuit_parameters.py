"""Parameters of ready-made circuits that make no sense: one line with a code, whatever they are."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from neurocompile.backends.emulator import Emulator
from neurocompile.circuits import (
    attention,
    exponential,
    normalize,
    one_winner,
    random_bits,
    softmax,
    winners,
)
from neurocompile.circuits.normalize import largest_sum_of, normalization
from neurocompile.circuits.one_spike import OneSpikeCode
from neurocompile.circuits.one_spike_attention import one_spike_attention
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.circuits.softmax import expected_error, plan_exponentials
from neurocompile.circuits.winners import subtractive_winners
from neurocompile.errors import NeurocompileError
from neurocompile.theory.measure import attention_block, convergence
from neurocompile.theory.measure.convergence import prepared

RNG = np.random.default_rng(0)
GOOD = {
    normalize.normalization: (4, 100, 8),
    normalize.stochastic_normalization: (4, 100, 8),
    winners.k_winners: (4, 2, 10, 3),
    winners.subtractive_winners: (4, 2, 10, 8),
    exponential.exponential: (4, 8),
    exponential.exponential_on_chip: (4, 6, 8),
    exponential.random_thresholds: (3, 4, 5, RNG),
    exponential.sobol_thresholds: (3, 4, 5, 7),
    rate_relu: (4, 10, 8),
    one_winner.one_winner: (4, 10, 8),
    attention.attention: (3, 2, 7, 0.1, 8),
    softmax.plan_softmax: (4, 8, 0.1, 100, 2),
    one_spike_attention: (3, 2, 100, 0.01, OneSpikeCode(2.0, 5)),
    softmax.plan_exponentials: (4, 8, 0.1, 100),
    random_bits.seeds: (3, 4, RNG),
    attention_block.attention_block: (3, 2, 2, 1.0, 7),
    convergence.measure: ("ReLU by rate", 4, (4, 8), 7),
}
BAD = (-1, 2.5, float("nan"), float("inf"), 10**30, "a", None, [])


@pytest.mark.parametrize("function", GOOD, ids=lambda f: f.__name__)
def test_one_line_for_each_bad_parameter(function) -> None:
    if function is exponential.sobol_thresholds:
        pytest.importorskip("scipy")
    good = GOOD[function]
    function(*good)
    for i, value in enumerate(good):
        if not isinstance(value, (int, float)):
            continue
        bads = [b for b in BAD if isinstance(value, int) or b not in (2.5, 10**30)]
        for bad in (*bads, *([] if value == 7 else [0])):  # 7: a seed
            if bad is None and function is softmax.plan_softmax and i == 4:
                continue
            with pytest.raises(NeurocompileError) as error:
                function(*good[:i], bad, *good[i + 1 :])
            assert error.value.code in ("NC2011", "NC2012") and "\n" not in str(error.value), (
                i,
                bad,
            )


def test_a_doubled_normalization_names_its_own_limit():
    largest = largest_sum_of(half=True)
    prepared(normalization(4, largest, 4, half=True))
    with pytest.raises(NeurocompileError, match="NC2011.*reach 4,228 with half"):
        normalization(4, largest + 1, 4, half=True)


@pytest.mark.parametrize("steps", [2, 3, 5, 16, 48])
@pytest.mark.parametrize("half", [False, True])
def test_a_normalization_holds_up_to_its_limit_with_idle_steps_too(half, steps):
    """Where a period of a power of two leaves idle steps, loops stay closed over these."""
    largest = largest_sum_of(half=half, steps=steps)
    idle, full = ((5_698, 8_000), (3_048, 4_228))[half]
    assert largest == (idle if steps in (3, 5, 48) else full)
    x = np.array([[largest, 0, 0], [1, 0, 0], [largest // 3, largest // 3, largest % 3]], np.int32)
    circuit = prepared(normalization(3, largest, steps, half=half))
    found = Emulator().open(circuit).run(x, ["out"])["out"]
    for row, out in zip(x, found):
        h = np.full(3, row.sum() / 2 if half else 0.0)
        for spikes in out:
            h = h + row
            np.testing.assert_array_equal(spikes, h >= row.sum())
            h = h - row.sum() * (h >= row.sum())
    with pytest.raises(NeurocompileError, match="NC2011 normalization"):
        normalization(3, largest + 1, steps, half=half)


@pytest.mark.parametrize("n", [11, 12, 16, 40])
def test_winners_by_subtraction_whose_constants_exceed_a_synapse(n):
    """Ranks reach 2 n (n - 1), beyond the 8 bits of one weight from n = 12 on."""
    prepared(subtractive_winners(n, 1, 5, 16))


@pytest.mark.parametrize(("n", "largest"), [(2, 40), (5, 9), (60, 3), (86, 1)])
def test_winners_by_subtraction_over_their_range(n, largest):
    """Up to the most inputs that constants hold, zeros and as many winners as inputs included; the
    last two only build, for they take 28,800 steps.
    """
    for k in sorted({1, n // 2, n}):
        circuit = prepared(subtractive_winners(n, k, largest, 2 * n * n * (largest + 1)))
        if n > 5:
            continue
        x = np.zeros((3, n), np.int32)
        x[1], x[2, -1] = largest, largest
        active = Emulator().open(circuit).run(x, ["active"])["active"][:, -1]
        for row, found in zip(x, active):
            order = np.argsort(-row, kind="stable")[:k]
            np.testing.assert_array_equal(found.astype(bool), np.isin(np.arange(n), order))


def test_a_softmax_over_many_scores_says_what_its_levels_cost():
    with pytest.warns(UserWarning, match="197 scores has 40 levels, however many steps"):
        plan_exponentials(197, 1024, 0.01, 1000)
    assert expected_error(197, 40) == pytest.approx(0.07, abs=0.02)
    assert expected_error(8, 1000) < 0.002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_exponentials(8, 1000, 0.01, 1000)
