"""Sums over a sample, held for the next one: the same streamed, depth-free and on Lava, whatever T,
sign and nesting.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.lava import LavaInProcess
from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.latch import hold, total
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref
from neurocompile.passes.schedule import schedule
from neurocompile.targets.fields import LOIHI2

N, HIGH = 3, 5


def nested(steps: int, low: int) -> c.CircuitGraph:
    """x, its sum X over the sample, X of the sample again, and the sum of x + X; the second two
    samples deep.
    """
    builder = Builder()
    x = builder.population(c.HostInput, "x", (N,), "x", low=low, high=HIGH, stepwise=True)
    wire = [strided(x, (N,), (1,), (1,))]
    first = total(builder, tuple(wire), (N,), (steps * low, steps * HIGH), steps, "first", "first")
    again = hold(builder, first, (steps * low, steps * HIGH), steps, "again", "again")
    both = (*wire, strided(first, (N,), (1,), (1,)))
    second = total(
        builder,
        both,
        (N,),
        (steps * (steps + 1) * low, steps * (steps + 1) * HIGH),
        steps,
        "second",
        "second",
    )
    out = builder.population(c.GradedRelay, "out", (N,), "out")
    builder.drive(out, [strided(i, (N,), (1,), (1,)) for i in (second, again)])
    builder.readouts.append(c.Readout(name="readout", src=Ref(out), scale=1.0))
    return builder.finish("nested", steps)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 12),
    st.sampled_from([0, -4]),
    st.booleans(),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_a_sum_is_held_for_all_steps_of_its_own_sample(steps, low, power_of_two, limit, seed):
    circuit = schedule(nested(steps, low), max_spike_delay=limit, power_of_two_period=power_of_two)
    x = np.random.default_rng(seed).integers(low, HIGH + 1, (4, steps, N)).astype(np.int32)
    expected = Emulator().open(circuit).run(x)
    sums = np.broadcast_to(x.sum(axis=1, keepdims=True), x.shape)
    for name, factor in (("first", 1), ("again", 1), ("second", steps + 1), ("out", steps + 2)):
        np.testing.assert_array_equal(expected[name], factor * sums, err_msg=name)
    for name, values in emulate_cycles(circuit, x).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert circuit.population["second"].depth >= 2 * steps > circuit.population["first"].depth - 4
    assert c.CircuitGraph.parse(circuit.text(), circuit.tensors).text() == circuit.text()


@pytest.mark.parametrize(
    ("steps", "low", "power_of_two"), [(2, 0, True), (5, -4, True), (4, -4, False)]
)
def test_lava_agrees(steps, low, power_of_two):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    circuit = schedule(nested(steps, low), max_spike_delay=62, power_of_two_period=power_of_two)
    x = np.random.default_rng(0).integers(low, HIGH + 1, (3, steps, N)).astype(np.int32)
    expected = Emulator().open(circuit).run(x)
    with LavaInProcess().open(circuit) as executor:
        found = executor.run(x)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("steps", "bounds"), [(1, (0, 4)), (4, (0, LOIHI2.held + 1)), (4, (-LOIHI2.held // 2 - 1, 0))]
)
def test_sums_beyond_their_fields_are_refused(steps, bounds):
    with pytest.raises(NeurocompileError, match="NC2012 layer 'attention' sums up to"):
        total(Builder(), (), (2,), bounds, steps, "sum", "attention")
