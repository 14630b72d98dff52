"""Random small networks through the whole back half of the compiler, on the emulator and on Lava's
own process models.

``NEUROCOMPILE_FUZZ`` sets the number of networks (200); the sequence is the same in every run.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spiking_cases import assert_equal_to_definition, networks, on_frames, samples

from neurocompile.backends.emulator import emulate_cycles
from neurocompile.backends.encoding import encode
from neurocompile.backends.lava import LavaInProcess
from neurocompile.backends.lava.compat import require_lava
from neurocompile.errors import NeurocompileError
from neurocompile.passes.lower import lower
from neurocompile.passes.schedule import schedule

EXAMPLES = int(os.environ.get("NEUROCOMPILE_FUZZ", "200"))


@pytest.fixture(scope="module", autouse=True)
def _lava():
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    try:
        require_lava()
    except NeurocompileError as error:
        pytest.skip(str(error))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(networks(), st.integers(1, 4), st.sampled_from([1, 2, 62]), st.booleans(), st.booleans())
def test_the_emulator_the_cycles_and_lava_equal_the_definition_in_every_step(
    graph, steps, limit, power_of_two, frames
):
    graph = on_frames(graph, steps) if frames else graph
    circuit = schedule(lower(graph, steps), max_spike_delay=limit, power_of_two_period=power_of_two)
    x = samples(graph, 2)
    trace = assert_equal_to_definition(graph, circuit, x)
    stepped = emulate_cycles(circuit, encode(circuit, x))
    with LavaInProcess().open(circuit) as executor:
        found = executor.run(encode(circuit, x))
    assert set(found) == set(trace) == set(stepped) == {p.name for p in circuit.populations}
    for name, values in trace.items():
        np.testing.assert_array_equal(stepped[name], values, err_msg=f"cycles: {name}")
        np.testing.assert_array_equal(found[name], values, err_msg=f"lava: {name}")
