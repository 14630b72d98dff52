"""Inputs within ``input_limit`` leave room for what closes a neuron's loop: any leak, any number of
steps, any period.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.soft_reset import soft_reset
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.thresholds import fed_back_limit, input_limit
from neurocompile.passes.schedule import schedule

TAUS = st.one_of(st.sampled_from([1.0, 2.0, 10.0, inf]), st.floats(1.0, 300.0))
SHARES = st.floats(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(TAUS, st.integers(1, 40), st.booleans(), st.integers(1, 3), SHARES, SHARES)
def test_a_soft_reset_at_its_limit_is_closed(tau, steps, power_of_two, levels, height, share):
    """The highest threshold, and what spikes take behind the leak, are at most the limit too: low
    bits are dropped until they are (``passes/quantization/neurons.py``)."""
    limit = input_limit(True, tau, steps) >> 7
    threshold = max(int(height * limit / levels), 1)
    decay = min(round(4096 / tau), 4096)
    reset = min(int(share * limit / levels), int(2 * threshold * (1 - decay / 4096)))
    more = tuple(threshold * k for k in range(2, levels + 1))
    node = s.SoftIntegerLIF(
        name="fire", x="x", threshold=threshold, reset=reset, decay=decay, more=more
    )
    builder, x = driven(limit)
    current = builder.population(c.GradedRelay, "current", (3,), "fire", largest=limit)
    builder.drive(current, [strided(x, (3,), (1,), (1,))])
    spikes = soft_reset(builder, current, None, node, (limit + 1) * steps)
    streams_alike(builder, spikes, limit, threshold, steps, power_of_two)


@settings(max_examples=60, deadline=None)
@given(
    TAUS, st.integers(2, 40), st.booleans(), st.sampled_from([0.0, 0.3, 0.7, 0.9]), SHARES, SHARES
)
def test_spikes_that_feed_back_into_a_hard_reset_at_its_limit_are_closed(
    tau, steps, power_of_two, kept, height, share
):
    limit = fed_back_limit(steps, kept)
    threshold, own = max(int(height * limit), 1), int(share * (limit - 1))
    builder, x = driven(limit - own)
    du, dv = 4095 - int(4096 * kept), min(round(4096 / tau), 4096)
    spikes = builder.population(
        c.LIF, "fire", (3,), "fire", vth=threshold, du=du, dv=dv, reset=True
    )
    builder.drive(spikes, [strided(x, (3,), (1,), (1,))])
    for weight in builder.terms(own):
        loop = strided(spikes, (3,), (1,), (1,), weight=weight)
        builder.drive(spikes, [replace(loop, recurrent=True)])
    streams_alike(builder, spikes, limit - own, threshold, steps, power_of_two)


def driven(limit: int) -> tuple[Builder, str]:
    """A builder with an input of three values up to ``limit``."""
    builder = Builder()
    return builder, builder.population(c.HostInput, "x", (3,), "x", low=-limit, high=limit)


def streams_alike(
    builder: Builder, spikes: str, limit: int, threshold: int, steps: int, power_of_two: bool
) -> None:
    """The circuit has a schedule, and samples that follow each other do not hear each other."""
    out = builder.population(c.GradedRelay, "out", (3,), "out")
    builder.drive(out, [strided(spikes, (3,), (1,), (1,))])
    circuit = builder.finish("at the limit", steps)
    ready = schedule(circuit, max_spike_delay=62, power_of_two_period=power_of_two)
    middle = min(threshold, limit)
    x = np.array([[limit, -limit, middle], [limit, limit // 2, 0], [0, 1, limit]], np.int32)
    expected = Emulator().open(circuit).run(x)["out"]
    np.testing.assert_array_equal(emulate_cycles(ready, x)["out"], expected)
