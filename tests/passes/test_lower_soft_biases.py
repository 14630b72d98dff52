"""A neuron with soft reset whose channels have very different biases."""

from __future__ import annotations

import numpy as np
import pytest
from spiking_cases import assert_equal_to_definition

from neurocompile.backends.emulator import emulate_cycles
from neurocompile.backends.encoding import encode
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.lower import lower
from neurocompile.passes.schedule import schedule


@pytest.mark.parametrize("decay", [0, 1024])
def test_the_largest_bias_counts_in_what_a_membrane_may_reach(decay: int) -> None:
    """Streamed, where idle steps between two samples have to be kept silent by that bound."""
    nodes = (
        s.Input(name="x", shape=(3,), unit=1.0, low=0, high=8),
        s.SoftIntegerLIF(
            name="y", x=Ref("x"), threshold=700, reset=700, decay=decay, bias=TensorRef("b")
        ),
        s.TimeMean(name="m", x=Ref("y")),
        s.Output(name="o", x=Ref("m")),
    )
    tensors = {"b": np.array([0, 3000, -3000], np.int32)}
    graph = s.SpikingGraph("biases", "quantized", nodes, tensors)
    circuit = schedule(lower(graph, 5), max_spike_delay=62, power_of_two_period=True)
    x = np.array([[8, 8, 8], [0, 0, 0], [8, 0, 8]], np.int64)
    trace = assert_equal_to_definition(graph, circuit, x)
    stepped = emulate_cycles(circuit, encode(circuit, x))
    for name, values in trace.items():
        np.testing.assert_array_equal(stepped[name], values, err_msg=name)
        p = circuit.population[name]
        assert np.abs(values.astype(np.int64)).max() <= (getattr(p, "largest", 0) or 1 << 23)
