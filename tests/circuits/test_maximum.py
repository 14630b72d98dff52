"""The tournament is max-pooling, on integers of any sign."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.maximum import max_pool
from neurocompile.ir import circuit as c
from neurocompile.passes.schedule import schedule


def pooling(shape: tuple[int, int, int], kernel, stride, padding) -> c.CircuitGraph:
    """A circuit whose population ``y`` is the pooled host input."""
    builder = Builder()
    builder.population(c.HostInput, "x", shape, "x", low=-(1 << 20), high=1 << 20)
    winners, out = max_pool(builder, "x", kernel, stride, padding, "pool", "pool")
    y = builder.population(c.GradedRelay, "y", out, "y")
    n = int(np.prod(out))
    builder.drive(y, [strided(winner, (n,), (1,), (1,)) for winner in winners])
    return schedule(builder.finish("pool", 1), max_spike_delay=62, power_of_two_period=False)


def pooled(x: np.ndarray, kernel, stride, padding) -> np.ndarray:
    """Max-pooling of (samples, H, W, C), window by window."""
    (kh, kw), (sh, sw), (ph, pw) = kernel, stride, padding
    samples, height, width, channels = x.shape
    rows, columns = (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
    out = np.empty((samples, rows, columns, channels), x.dtype)
    for i, j in itertools.product(range(rows), range(columns)):
        top, left = i * sh - ph, j * sw - pw
        window = x[:, max(top, 0) : min(top + kh, height), max(left, 0) : min(left + kw, width)]
        out[:, i, j] = window.max(axis=(1, 2))
    return out


def check(x: np.ndarray, kernel, stride, padding) -> np.ndarray:
    circuit = pooling(x.shape[1:], kernel, stride, padding)
    x = np.ascontiguousarray(x, np.int32)
    found = Emulator().open(circuit).run(x)["y"][:, 0]
    np.testing.assert_array_equal(found, pooled(x, kernel, stride, padding))
    np.testing.assert_array_equal(emulate_cycles(circuit, x)["y"][:, 0], found)
    return found


@pytest.mark.parametrize(
    "taps, values", [(1, range(-3, 4)), (2, range(-4, 5)), (3, range(-2, 3)), (4, range(-2, 2))]
)
@pytest.mark.parametrize("vertical", [False, True])
def test_every_window_of_small_integers_gives_its_maximum(taps: int, values: range, vertical: bool):
    windows = np.array(list(itertools.product(values, repeat=taps)), np.int32)
    x = windows.reshape(1, 1, -1, 1)  # the windows side by side
    kernel = (1, taps)
    if vertical:
        x, kernel = x.transpose(0, 2, 1, 3), (taps, 1)
    found = check(x, kernel, kernel, (0, 0))
    np.testing.assert_array_equal(found.ravel(), windows.max(axis=1))


def test_every_square_of_small_integers_gives_its_maximum():
    squares = np.array(list(itertools.product((-2, -1, 0, 3), repeat=4)), np.int32).reshape(
        -1, 2, 2
    )
    x = squares.transpose(1, 0, 2).reshape(1, 2, -1, 1)
    np.testing.assert_array_equal(
        check(x, (2, 2), (2, 2), (0, 0)).ravel(), squares.max(axis=(1, 2))
    )


def test_a_border_never_wins_over_negative_values():
    x = np.full((1, 3, 4, 2), -7, np.int32)
    assert (check(x, (3, 3), (2, 2), (1, 1)) == -7).all()


def test_values_of_more_than_sixteen_bits_stay_exact():
    x = np.array([[[-(1 << 20)], [1 << 20], [(1 << 20) - 1], [5]]], np.int32)[None]
    np.testing.assert_array_equal(
        check(x, (1, 2), (1, 1), (0, 0)).ravel(), [1 << 20, 1 << 20, (1 << 20) - 1]
    )


@st.composite
def poolings(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 7)) for k, p in zip(kernel, padding))
    shape = (draw(st.integers(1, 2)), *size, draw(st.integers(1, 3)))
    seed = draw(st.integers(0, 2**31))
    x = np.random.default_rng(seed).integers(-50, 50, shape)
    return x, kernel, stride, padding


@settings(max_examples=150, deadline=None)
@given(poolings())
def test_the_tournament_is_max_pooling_for_every_window_stride_and_padding(case):
    check(*case)


@settings(max_examples=60, deadline=None)
@given(poolings())
def test_the_tournament_is_torchs_max_pooling(case):
    torch = pytest.importorskip("torch")
    x, kernel, stride, padding = case
    expected = torch.nn.functional.max_pool2d(
        torch.tensor(x.transpose(0, 3, 1, 2)).float(), kernel, stride, padding
    )
    np.testing.assert_array_equal(check(*case).transpose(0, 3, 1, 2), expected.numpy())


@pytest.mark.parametrize("kernel, rounds", [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_an_axis_takes_as_many_steps_as_its_window_has_bits(kernel: int, rounds: int):
    circuit = pooling((5, 5, 1), (kernel, kernel), (1, 1), (0, 0))
    assert circuit.population["y"].depth == 2 * rounds + 1


def test_lava_agrees_on_every_window():
    lava = pytest.importorskip("neurocompile.backends.lava")
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    windows = np.array(list(itertools.product((-3, -1, 0, 2), repeat=3)), np.int32)
    x = windows.reshape(1, 1, -1, 1)
    with lava.LavaInProcess().open(pooling(x.shape[1:], (1, 3), (1, 3), (0, 0))) as executor:
        np.testing.assert_array_equal(executor.run(x)["y"].ravel(), windows.max(axis=1))
