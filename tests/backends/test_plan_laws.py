"""Plans of the emulator: buffers hold the fullest sample, silence is proven where nothing fires."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_plan import by_kernels

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.plan import make_plan
from neurocompile.backends.silence import silent_windows
from neurocompile.backends.weights import make_weights
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref, TensorRef


def convolution(
    channels: int, out: int, high: int, size_of: tuple[int, int] = (3, 3)
) -> c.CircuitGraph:
    """3 x 3 or other, of spikes, or of values 0 and ``high``, to sums."""
    size, rng = (4, 5, channels), np.random.default_rng(channels)
    between: dict[str, Any] = {"name": "s", "shape": size, "layer": "s"}
    relay = c.LIF(**between, vth=1, dv=4096) if high == 1 else c.GradedRelay(**between)
    populations = (
        c.HostInput(name="x", shape=size, layer="x", low=0, high=1),
        relay,
        c.GradedRelay(name="y", shape=(4, 5, out), layer="y"),
    )
    line = {"sizes": (20 * channels,), "src_strides": (1,), "dst_strides": (1,)}
    kernel = 2 * rng.integers(-20, 20, (out, *size_of, channels))
    projections = (
        c.Strided(name="xs", src=Ref("x"), dst=Ref("s"), weight=max(high, 2), **line),
        c.Conv2d(
            name="sy",
            src=Ref("s"),
            dst=Ref("y"),
            weight=TensorRef("w"),
            padding=(size_of[0] // 2, size_of[1] // 2),
        ),
    )
    return c.CircuitGraph("wide", 1, populations, projections, (), {"w": kernel.astype(np.int16)})


@pytest.mark.parametrize("high", [1, 3])
def test_lists_of_events_hold_a_sample_in_which_everything_fires(high: int) -> None:
    """Each value an event as often as it is large: of a map, and of what one kernel covers."""
    circuit = convolution(70, 32, high)
    _, events, starts = make_plan(circuit, make_weights(circuit), ["y"]).scratch
    assert events >= (4 * 5 + 3 * 3) * 70 * high and starts >= 4 * 5 + 1
    x = np.ones((2, 4, 5, 70), np.int32)
    np.testing.assert_array_equal(
        Emulator(1).open(circuit).run(x, ["y"])["y"], by_kernels(circuit, x)["y"]
    )


@pytest.mark.parametrize("out", [32, 96, 192, 352, 480])
def test_rows_of_every_width_are_summed_where_they_belong(out: int) -> None:
    """In registers of 256, 128, 64 and 32 columns; of more channels than a word has bits."""
    circuit = convolution(130, out, 1)
    x = (np.random.default_rng(out).random((2, 4, 5, 130)) < 0.3).astype(np.int32)
    np.testing.assert_array_equal(
        Emulator(1).open(circuit).run(x, ["y"])["y"], by_kernels(circuit, x)["y"]
    )


@pytest.mark.parametrize("size_of", [(1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("high", [1, 3])
def test_flat_kernels_and_single_taps_are_summed_as_others(
    size_of: tuple[int, int], high: int
) -> None:
    circuit = convolution(20, 64, high, size_of)
    x = (np.random.default_rng(1).random((2, 4, 5, 20)) < 0.5).astype(np.int32)
    np.testing.assert_array_equal(
        Emulator(1).open(circuit).run(x, ["y"])["y"], by_kernels(circuit, x)["y"]
    )


@pytest.mark.parametrize("bias, fires", [(-3, False), (0, False), (1, True)])
def test_a_neuron_that_nothing_drives_is_proven_silent(bias: int, fires: bool) -> None:
    """Inputs that only inhibit, and a bias that adds nothing; one that does may fire in time."""
    populations = (
        c.HostInput(name="x", shape=(3,), layer="x", low=-5, high=0),
        c.LIF(name="y", shape=(3,), layer="y", vth=0, dv=0, bias=TensorRef("b")),
        c.LIF(name="z", shape=(3,), layer="z", vth=0, dv=0),
    )
    line = {"sizes": (3,), "src_strides": (1,), "dst_strides": (1,)}
    projections = (
        c.Strided(name="xy", src=Ref("x"), dst=Ref("y"), **line),
        c.Strided(name="yz", src=Ref("y"), dst=Ref("z"), **line),
    )
    tensors = {"b": np.full(3, bias, np.int16)}
    circuit = c.CircuitGraph("quiet", 2, populations, projections, (), tensors)
    silence = silent_windows(circuit, {})
    assert [bool(silence.silent[n].all()) for n in "xyz"] == [False, not fires, not fires]
    trace = Emulator(1).open(circuit).run(np.zeros((1, 3), np.int32))
    assert trace["y"].any() == trace["z"].any() == fires
