"""exact_threshold: the integer LIF has the float LIF's spikes on every sequence of integer inputs."""

from __future__ import annotations

import itertools
from math import inf

import numpy as np
import pytest

from neurocompile.passes.quantization.thresholds import exact_threshold

FOUR_THIRDS = float(np.float32(4 / 3))
"""What an ONNX file holds for 4/3."""


def float_spikes(x: np.ndarray, tau: float, threshold: float, gain: float) -> np.ndarray:
    """The canonical LIF in float32: x (sequences, steps)."""
    f = np.float32
    v, spikes = np.zeros(len(x), f), np.zeros(x.shape, bool)
    for t in range(x.shape[1]):
        h = v - v / f(tau) + f(gain) * x[:, t].astype(f)
        spikes[:, t] = h >= f(threshold)
        v = np.where(spikes[:, t], f(0), h)
    return spikes


def integer_spikes(x: np.ndarray, tau: float, k: int, vth: int) -> np.ndarray:
    dv = 0 if tau == inf else round(4096 / tau)
    v, spikes = np.zeros(len(x), np.int64), np.zeros(x.shape, bool)
    for t in range(x.shape[1]):
        h = np.sign(v) * (np.abs(v) * (4096 - dv) // 4096) + k * x[:, t] * 64
        assert np.abs(h).max() < 2**23
        spikes[:, t] = h > vth * 64
        v = np.where(spikes[:, t], 0, h)
    return spikes


def sequences(values: list[int], steps: int) -> np.ndarray:
    return np.array(list(itertools.product(values, repeat=steps)), np.int64)


VALUES = {
    1: range(-20, 60),
    2: range(-9, 30),
    3: range(-5, 14),
    4: range(-3, 8),
    5: range(-2, 4),
    6: [-1, 0, 1, 2, 5],
}
CASES = list(itertools.product([0.0625, 0.125, 0.25, 0.5, 0.75, 1.0], [0.5, 1.0, 0.375, 0.3, 1.7]))


@pytest.mark.parametrize("steps", range(1, 7))
@pytest.mark.parametrize("tau", [2.0, FOUR_THIRDS, 4.0, inf])
def test_all_sequences_of_small_integers_give_the_float_models_spikes(
    tau: float, steps: int
) -> None:
    x, exact = sequences(list(VALUES[steps]), steps), 0
    for gain, threshold in CASES:
        found = exact_threshold(gain, threshold, tau, steps, int(np.abs(x).max()))
        if found is None:
            continue
        exact += 1
        np.testing.assert_array_equal(
            integer_spikes(x, tau, *found),
            float_spikes(x, tau, threshold, gain),
            err_msg=f"{gain} {threshold} {found}",
        )
    # two bits a step leave the membrane's 2^-6 / 128 at T = 5: then the quantizer rounds the
    # threshold
    assert exact >= (len(CASES) if steps <= 4 else len(CASES) // 2 if tau in (2.0, inf) else 0)


@pytest.mark.parametrize("steps", range(1, 7))
def test_spiking_self_attention_is_exact_at_every_t_up_to_six(steps: int) -> None:
    """Q K^T V scaled by 0.125 into a LIF of tau 2 with decay_input and threshold 0.5: gain 0.0625."""
    k, vth = exact_threshold(0.0625, 0.5, 2.0, steps, 64)
    small = {
        1: range(65),
        2: range(65),
        3: range(25),
        4: [0, 1, 2, 3, 4, 5, 7, 8, 9],
        5: [0, 1, 3, 5, 6, 8],
        6: [0, 1, 4, 5, 7],
    }
    x = sequences(list(small[steps]), steps)
    np.testing.assert_array_equal(integer_spikes(x, 2.0, k, vth), float_spikes(x, 2.0, 0.5, 0.0625))


def test_without_leak_the_threshold_is_that_of_the_counts() -> None:
    assert exact_threshold(1.0, 3.0, inf, 100, 4) == (1, 2)
    assert exact_threshold(1.0, 2.5, inf, 100, 4) == (1, 2)
    assert exact_threshold(0.25, 1.0, inf, 4, 9) == (1, 3)


@pytest.mark.parametrize(
    ("gain", "threshold", "tau", "steps", "largest"),
    [
        (1.0, 1.0, 3.0, 4, 4),  # thirds of thirds are no binary fractions
        (1.0, 1.0, 1.0, 4, 4),  # the membrane is forgotten: dv would be 4096
        (1.0, 1.0, 2.0, 40, 4),  # 2^-39 is finer than the membrane
        (1.0, 1.0, 2.0, 4, 10**6),  # inputs of 2^20 wrap
        (1.0, 1e9, 2.0, 4, 4),  # the threshold leaves its field
        (1e-9, 1.0, 2.0, 4, 4),
        (-1.0, 1.0, 2.0, 4, 4),  # more input means less membrane
        (0.0, 1.0, 2.0, 4, 4),
        (1.0, -1.0, 2.0, 4, 4),
    ],
)
def test_where_no_integer_form_fits_there_is_none(gain, threshold, tau, steps, largest) -> None:
    assert exact_threshold(gain, threshold, tau, steps, largest) is None
