"""Loops are closed between samples: the streamed pipeline equals the depth-free run, on the
emulator and on Lava.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from recurrent_cases import inputs, recurrent_circuits

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.lava import LavaInProcess, LavaRuntime
from neurocompile.circuits.builder import Builder, strided, terms
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.circuit_ranges import reaches
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.passes.close_loops import close_loops
from neurocompile.passes.schedule import schedule
from neurocompile.targets.fields import LOIHI2

LIMITS = st.sampled_from([1, 2, 62])


def scheduled(circuit, limit=62, power_of_two=False):
    try:
        return schedule(circuit, max_spike_delay=limit, power_of_two_period=power_of_two)
    except NeurocompileError as error:
        assert error.code == "NC2010"  # growth that no field holds
        assume(False)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(recurrent_circuits(), LIMITS, st.booleans(), st.integers(1, 3))
def test_streaming_equals_the_depth_free_run_for_circuits_with_loops(
    circuit, limit, power_of_two, count
):
    """Idle steps are those of a schedule (T = 3 and 5 where periods are powers of two): loops are
    closed for its period, and a longer one would need another closing."""
    ready = scheduled(circuit, limit, power_of_two)
    x = inputs(circuit, count)
    meant, expected, found = (
        Emulator().open(circuit).run(x),
        Emulator().open(ready).run(x),
        emulate_cycles(ready, x),
    )
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    for name in set(meant) & set(expected):
        np.testing.assert_array_equal(expected[name], meant[name], err_msg=name)
    read = {q.src for q in circuit.projections if q.recurrent} - {
        q.src for q in circuit.projections if not q.recurrent
    }
    assert set(meant) - set(expected) <= read  # only what nothing but a loop reads is gone


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(recurrent_circuits(), LIMITS, st.booleans())
def test_lava_streams_loops_as_the_emulator_does(circuit, limit, power_of_two):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    ready, x = scheduled(circuit, limit, power_of_two), inputs(circuit, 3)
    expected = Emulator().open(ready).run(x)
    with LavaInProcess().open(ready) as executor:
        found = executor.run(x)
        again = executor.run(x)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
        np.testing.assert_array_equal(again[name], values, err_msg=name)


def integrate_and_fire(threshold: int = 5, steps: int = 6, n: int = 3) -> c.CircuitGraph:
    """h = h - threshold s + x; s = h > threshold, of a relay and a LIF without memory."""
    builder = Builder()
    x = builder.population(c.HostInput, "x", (n,), "x", low=-9, high=9)
    h = builder.population(c.GradedRelay, "h", (n,), "h")
    s = builder.population(c.LIF, "s", (n,), "s", vth=threshold, dv=4096)
    out = builder.population(c.GradedRelay, "out", (n,), "out")
    for name in (h, s):
        builder.drive(name, [strided(x, (n,), (1,), (1,))])
        for src, weight in ((h, 1), (s, -threshold)):
            builder.drive(
                name, [replace(strided(src, (n,), (1,), (1,), weight=weight), recurrent=True)]
            )
    builder.drive(out, [strided(s, (n,), (1,), (1,))])
    return builder.finish("integrate and fire", steps)


def test_an_integrate_and_fire_neuron_from_a_loop_is_exact_over_several_samples():
    circuit = integrate_and_fire()
    x = inputs(circuit, 5)
    h, s, spikes = np.zeros_like(x), np.zeros_like(x), []
    for _ in range(circuit.steps):
        h = h - 5 * s + x
        s = (h > 5).astype(np.int32)
        spikes.append(s)
    ready = scheduled(circuit)
    np.testing.assert_array_equal(emulate_cycles(ready, x)["s"], np.stack(spikes, axis=1))


@pytest.mark.slow
def test_lavas_own_runtime_runs_loops_alike():
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    ready = scheduled(integrate_and_fire(steps=4))
    x = inputs(ready, 3)
    expected = Emulator().open(ready).run(x)
    with LavaRuntime().open(ready) as executor:
        found = executor.run(x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_gate_is_open_in_all_steps_but_the_last():
    ready = scheduled(integrate_and_fire(steps=7), power_of_two=True)
    trace = Emulator().open(ready).run(inputs(ready, 1))
    assert trace["loop.open"].ravel().tolist() == [1] * 6 + [0]
    assert trace["loop.clock"].ravel().tolist() == [0] * 6 + [1]


def test_all_populations_of_a_loop_have_one_depth_and_recurrent_delays_are_one_step():
    ready = scheduled(integrate_and_fire())
    for q in ready.projections:
        if q.recurrent:
            assert q.delay == 1 and ready.population[q.src].depth == ready.population[q.dst].depth


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(recurrent_circuits())
def test_no_value_leaves_its_interval(circuit):
    found, x = reaches(circuit), inputs(circuit, 3)
    for name, values in Emulator().open(circuit).run(x).items():
        if isinstance(circuit.population[name], (c.GradedRelay, c.GradedRelu)):
            assert values.max() <= max(found[name].high, 0) and values.min() >= min(
                found[name].low, 0
            )


def test_a_cycle_without_recurrent_projections_is_refused():
    circuit = integrate_and_fire()
    plain = tuple(replace(q, recurrent=False) for q in circuit.projections)
    with pytest.raises(ValueError, match="cycle"):
        circuit.replace(projections=plain).groups  # noqa: B018


def test_a_recurrent_projection_between_depths_breaks_a_rule():
    ready = scheduled(integrate_and_fire())
    deeper = tuple(replace(p, depth=p.depth + (p.name == "s.loop")) for p in ready.populations)
    with pytest.raises(NeurocompileError, match="recurrent with delay 1, depths"):
        check_circuit(ready.replace(populations=deeper), "test")


def test_a_loop_that_outgrows_its_fields_is_refused_with_its_figures():
    with pytest.raises(
        NeurocompileError,
        match=r"NC2010 'h' feeds a loop with values up to 540,000; inhibition reaches 262,143",
    ):
        schedule(integrate_and_fire(steps=60_000), max_spike_delay=62, power_of_two_period=False)


@given(st.integers(0, 1 << 20))
def test_terms_are_legal_weights_with_the_right_sum(value):
    found = terms(value)
    assert sum(found) == value
    for weight in found:
        exponent = max(weight.bit_length() - 8, 0)
        assert exponent <= 7 and weight % (1 << exponent) == 0


def test_a_loop_that_fires_on_its_own_before_the_first_sample_is_closed_when_it_comes():
    """Found by the law above: one step a sample, a current that lasts, and a bias that fires; the
    loop kept itself going.
    """
    text = """circuit "early" {steps = 1}
%x = HostInput {shape = [1], layer = "x", low = -9, high = 9}
%a = LIF {shape = [1], layer = "a", vth = 0, reset = true}
%b = LIF {shape = [1], layer = "b", vth = 0, du = 2047, bias = @bias, reset = true}
%x>a = Strided {src = %x, dst = %a, sign = "inhibitory", sizes = [1], src_strides = [0], dst_strides = [0], weight = -1}
%a>b = Strided {src = %a, dst = %b, sign = "inhibitory", sizes = [1], src_strides = [0], dst_strides = [0], weight = -2}
%b>b = Strided {src = %b, dst = %b, sign = "excitatory", recurrent = true, sizes = [1], src_strides = [0], dst_strides = [0], weight = 2}
@bias : int16[1]
"""
    circuit = c.CircuitGraph.parse(text, {"bias": np.array([21], np.int16)})
    ready = scheduled(circuit, 1, False)
    x = np.array([[4], [-3], [0]], np.int32)
    expected, found = Emulator().open(ready).run(x), emulate_cycles(ready, x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("steps", [3, 5, 6])
@pytest.mark.parametrize("du", [4095, 3000])
def test_a_loop_that_a_bias_charges_stays_closed_in_idle_steps(steps, du):
    """Closed enough for the last step of a sample was not enough for the idle ones after it: a
    spike of theirs reached the next sample."""
    text = """circuit "idle" {{steps = {steps}}}
%x = HostInput {{shape = [1], layer = "x", low = -9, high = 9}}
%a = LIF {{shape = [1], layer = "a", vth = {vth}, du = {du}, bias = @bias, reset = true}}
%b = GradedRelay {{shape = [1], layer = "b"}}
%x>b = Strided {{src = %x, dst = %b, sign = "excitatory", sizes = [1], src_strides = [0], dst_strides = [0], weight = 1}}
%a>b = Strided {{src = %a, dst = %b, sign = "excitatory", recurrent = true, sizes = [1], src_strides = [0], dst_strides = [0], weight = 1}}
@bias : int16[1]
"""
    x = np.array([[4], [-3], [0]], np.int32)
    for vth in (33, 60):
        for bias in range(100, 1500, 93):
            parsed = text.format(steps=steps, vth=vth, du=du)
            circuit = c.CircuitGraph.parse(parsed, {"bias": np.array([bias], np.int16)})
            ready = schedule(circuit, max_spike_delay=62, power_of_two_period=True)
            expected, found = Emulator().open(ready).run(x), emulate_cycles(ready, x)
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values, err_msg=f"{name}, {bias}")


ONE = "sizes = [1], src_strides = [0], dst_strides = [0]"
LOOP = f"""circuit "named" {{{{steps = 1}}}}
%x = HostInput {{{{shape = [1], layer = "x", low = -9, high = 9}}}}
%a = {{neuron}}
%x>a = {{first}}
%a>a = Strided {{{{src = %a, dst = %a, sign = "excitatory", recurrent = true, {ONE}, weight = 2}}}}
@bias : int16[1]
@weight : int16[1, 1]
"""
FIRST = f'Strided {{src = %x, dst = %a, sign = "excitatory", {ONE}, weight = 2}}'
MIXED = 'Dense {src = %x, dst = %a, sign = "mixed", weight = @weight}'
LIF = 'LIF {shape = [1], layer = "a", vth = %d, du = %d, bias = @bias, reset = true%s}'
RELAY = 'GradedRelay {shape = [1], layer = "a", largest = %d}'
NAMED = {
    "a period beyond the clock": (
        (LIF % (5, 4095, ""), FIRST),
        1 << 18,
        LOIHI2,
        "counts to .* steps, the period is 262,144",
    ),
    "values that inhibition does not reach": (
        (RELAY % 300_000, FIRST),
        4,
        LOIHI2,
        "values up to 300,000; inhibition reaches",
    ),
    "a current that lasts and a bias that fires": (
        (LIF % (0, 2047, ", largest = 99"), FIRST),
        4,
        LOIHI2,
        "keeps its current and fires by its bias alone",
    ),
    "a bias that the field does not hold": (
        (LIF % (0, 4095, ""), FIRST),
        4,
        replace(LOIHI2, mantissa=1),
        "with biases from",
    ),
    "a current beyond the field": (
        (LIF % (5, 0, ""), FIRST),
        4,
        replace(LOIHI2, current=20),
        "with a current of up to",
    ),
    "a weight without a negative": (
        (RELAY % 90, MIXED),
        4,
        LOIHI2,
        "weight -256, and its negative does not fit; use -254",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_loops_that_cannot_be_closed_are_named(name):
    (neuron, first), period, fields, why = NAMED[name]
    tensors = {"bias": np.array([701], np.int16), "weight": np.array([[-256]], np.int16)}
    text = LOOP.format(neuron=neuron, first=first)
    if "inhibition" in name:
        text = text.replace("high = 9", "high = 150000")
    tensors = {k: v for k, v in tensors.items() if f"@{k}" in neuron + first}
    for key in {"bias", "weight"} - tensors.keys():
        text = "".join(line for line in text.splitlines(True) if not line.startswith(f"@{key} "))
    circuit = c.CircuitGraph.parse(text, tensors)
    with pytest.raises(NeurocompileError, match=f"NC2010.*{why}"):
        close_loops(circuit, period, fields)
