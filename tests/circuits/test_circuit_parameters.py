"""Parameters of ready-made circuits that make no sense: one line with a code, whatever they are."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.circuits import (
    attention,
    attention_block,
    convergence,
    exponential,
    normalize,
    one_winner,
    random_bits,
    softmax,
    winners,
)
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.errors import NeurocompileError

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
