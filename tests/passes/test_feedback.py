"""Spikes that feed back into their own layer: the circuit equals the definition, streamed and on
Lava; the quantized model follows the float one.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from spiking_cases import Maker, assert_equal_to_definition, samples

from neurocompile.backends.emulator import emulate_cycles
from neurocompile.backends.encoding import encode
from neurocompile.backends.lava import LavaInProcess
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.lower import lower
from neurocompile.passes.schedule import schedule


@st.composite
def recurrent_networks(draw) -> s.SpikingGraph:
    """Layers of neurons of all kinds whose own spikes come back through weights, or as they are."""
    channels, height, width = (draw(st.integers(1, 2)) for _ in range(3))
    m = Maker(draw, (channels, height, width) if draw(st.booleans()) else (channels,))
    x = m.x
    for k in range(draw(st.integers(1, 2))):
        name, shift, levels = f"n{k}", m.choose(0, 0, 1), m.choose(1, 1, 3)
        soft = draw(st.booleans())
        levels = levels if soft else 1
        shape = m.shape(x)
        out = (draw(st.integers(1, 3)), *shape[1:])
        before = m.add(s.Previous, f"{name}.before", of=name, shape=out, levels=levels)
        if len(shape) == 3:
            current = m.add(s.Conv2d, x=x, weight=m.weight(out[0], shape[0], 1, 1))
        else:
            current = m.add(s.Linear, x=x, weight=m.weight(out[0], shape[0]))
        back, exponent = before, m.choose(0, 2) if not shift else 2
        if len(shape) == 3 and (shift or draw(st.booleans())):
            fields = m.choose({}, {"groups": out[0]})
            weight = m.weight(out[0], 1 if fields else out[0], 3, 3)
            back = m.add(
                s.Conv2d, x=before, weight=weight, padding=(1, 1), exponent=exponent, **fields
            )
        elif shift or draw(st.booleans()):
            if len(shape) == 3:
                back = m.add(
                    s.Conv2d, x=before, weight=m.weight(out[0], out[0], 1, 1), exponent=exponent
                )
            else:
                back = m.add(s.Linear, x=before, weight=m.weight(out[0], out[0]), exponent=exponent)
        total = m.add(s.Add, **dict(zip(m.choose("ab", "ba"), (current, back))))
        reach = m.range(total).magnitude
        bias = m.tensor(m.rng.integers(-90, 90, (out[0], *[1] * (len(out) - 1))))
        bias = m.choose(bias, None)
        if soft:
            decay, threshold = m.choose(0, 1024, 2048, 4095, 4096), m.integer(1, max(1, reach // 2))
            more = tuple(threshold * (i + 2) for i in range(levels - 1))
            reset = round(threshold * (4096 - decay) / 4096)
            fields = {"threshold": threshold, "more": more, "reset": reset, "decay": decay}
            x = m.add(s.SoftIntegerLIF, name, x=total, bias=bias, shift=shift, **fields)
        else:
            fields = {"vth": m.integer(0, reach), "dv": m.choose(0, 1024, 4095)}
            x = m.add(s.IntegerLIF, name, x=total, bias=bias, **fields)
    return m.finish(x)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(recurrent_networks(), st.integers(1, 5), st.booleans())
def test_feedback_is_exact_in_the_circuit_streamed_and_on_lava(graph, steps, power_of_two):
    try:
        circuit = schedule(
            lower(graph, steps), max_spike_delay=62, power_of_two_period=power_of_two
        )
    except NeurocompileError as error:  # random weights may outgrow a loop's fields
        assert error.code == "NC2010"
        assume(False)
    x = samples(graph, 3)
    trace = assert_equal_to_definition(graph, circuit, x)
    stepped = emulate_cycles(circuit, encode(circuit, x))
    for name, values in trace.items():
        np.testing.assert_array_equal(stepped[name], values, err_msg=f"cycles: {name}")
    if pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed"):
        with LavaInProcess().open(circuit) as executor:
            found = executor.run(encode(circuit, x))
        for name, values in trace.items():
            np.testing.assert_array_equal(found[name], values, err_msg=f"lava: {name}")


def test_a_loop_through_a_mean_over_time_ends_in_an_error():
    """No round makes it right: every step would depend on later ones."""
    nodes = (
        s.Input(name="x", shape=(1,)),
        s.Previous(name="before", of="n", shape=(1,)),
        s.TimeMean(name="mean", x=Ref("before")),
        s.Linear(name="back", x=Ref("mean"), weight=TensorRef("w")),
        s.Add(name="sum", a=Ref("x"), b=Ref("back")),
        s.LIF(name="n", x=Ref("sum"), tau=1.0, v_threshold=0.5, decay_input=False),
        s.TimeMean(name="m", x=Ref("n")),
        s.Output(name="o", x=Ref("m")),
    )
    graph = s.SpikingGraph("g", "imported", nodes, {"w": np.full((1, 1), -9, np.float32)})
    with pytest.raises(NeurocompileError, match="NC1009.*later steps"):
        evaluate(graph, np.ones((1, 1), np.float32), 4)
