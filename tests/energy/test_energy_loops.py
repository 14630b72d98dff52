"""Counts of circuits with loops: what a loop brings was sent one step before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurocompile.backends.emulator import Emulator
from neurocompile.circuits.normalize import normalization
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.energy.activity import measured_activity
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.passes.schedule import schedule


@pytest.mark.parametrize(
    ("make", "low"), [(lambda: normalization(4, 60, 9), 1), (lambda: rate_relu(3, 15, 9), -15)]
)
def test_loops_are_counted(make: Callable[[], CircuitGraph], low: int) -> None:
    circuit = schedule(make(), max_spike_delay=62, power_of_two_period=True)
    x = np.random.default_rng(0).integers(low, 16, (5, *circuit.inputs[0].shape)).astype(np.float32)
    found = measured_activity(circuit, x)
    trace = Emulator().open(circuit).run(x.astype(np.int32))
    for name, values in trace.items():
        np.testing.assert_array_equal(
            found.messages[name],
            np.count_nonzero(values.reshape(-1, found.messages[name].size), axis=0),
        )
    assert all(
        (0 <= v).all() and (v <= len(x) * circuit.steps).all() for v in found.active.values()
    )
    looped = {q.dst for q in circuit.projections if q.recurrent}
    assert looped and all(found.active[name].any() for name in looped)
