"""The laws of time: balanced paths, allowed delays, and a pipeline that equals the depth-free
execution.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import networks, samples

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import encode
from neurocompile.circuits.builder import Builder, strided
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref
from neurocompile.passes.lower import lower
from neurocompile.passes.schedule import period_for, schedule

LIMITS = st.sampled_from([1, 2, 5, 62])


@st.composite
def circuits(draw, most: int = 9) -> c.CircuitGraph:
    """Random acyclic circuits whose connections skip any number of steps."""
    n, builder = draw(st.integers(1, 3)), Builder()
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    names = [builder.population(c.HostInput, "x", (n,), "x", low=-9, high=9)]
    for i in range(draw(st.integers(2, most))):
        kind = draw(st.sampled_from([c.LIF, c.LIF, c.GradedRelay, c.GradedRelu]))
        fields = {}
        if kind is c.LIF:
            fields = {
                "vth": draw(st.integers(0, 40)),
                "dv": draw(st.sampled_from([0, 500, 4095])),
                "reset": True,
            }
            if draw(st.booleans()):
                fields["bias"] = builder.tensor(f"b{i}", rng.integers(-50, 90, n).astype(np.int16))
        name = builder.population(kind, f"p{i}", (n,), f"p{i}", **fields)
        # mostly the last population, so that chains grow long, and some of the earlier ones
        inputs = (
            {names[-1], *draw(st.lists(st.sampled_from(names), max_size=2))}
            if draw(st.booleans())
            else {draw(st.sampled_from(names))}
        )
        for src in sorted(inputs):
            if draw(st.booleans()):
                weight = builder.tensor("w", 2 * rng.integers(-3, 4, (n, n)).astype(np.int16))
                builder.drive(name, [c.Dense(name="", src=Ref(src), dst=Ref(""), weight=weight)])
            else:
                builder.drive(
                    name, [strided(src, (n,), (1,), (1,), weight=int(rng.integers(1, 3)))]
                )
        if draw(st.integers(0, 4)) == 0:
            builder.drive(
                name,
                [
                    strided(
                        builder.always_on(name), (n,), (0,), (1,), weight=-int(rng.integers(1, 9))
                    )
                ],
            )
        names.append(name)
    return builder.finish("random", draw(st.integers(1, 5)))


def is_constant(circuit: c.CircuitGraph, name: str) -> bool:
    return not isinstance(circuit.population[name], c.HostInput) and not circuit.incoming[name]


@settings(max_examples=150, deadline=None)
@given(circuits(), LIMITS, LIMITS)
def test_every_delay_is_the_difference_of_depths_and_within_the_limit(circuit, limit, graded):
    scheduled = schedule(
        circuit, max_spike_delay=limit, power_of_two_period=False, graded_delay=graded
    )
    for q in scheduled.projections:
        src, dst = scheduled.population[q.src], scheduled.population[q.dst]
        if is_constant(scheduled, q.src):
            assert q.delay == 1
            continue
        assert q.delay == dst.depth - src.depth
        assert 1 <= q.delay <= (limit if src.spiking else graded)


@settings(max_examples=100, deadline=None)
@given(circuits(), LIMITS)
def test_depth_is_the_longest_path_from_the_input(circuit, limit):
    """But for relays of spikes, which wait for their readers while a delay holds the spikes."""
    scheduled = schedule(circuit, max_spike_delay=limit, power_of_two_period=False)
    depth = {p.name: p.depth for p in scheduled.populations}
    for p in circuit.topological():
        inputs = [q.src for q in circuit.incoming[p.name]]
        earliest = max((depth[src] + 1 for src in inputs), default=0)
        waits = isinstance(p, c.GradedRelay) and all(circuit.population[q].spiking for q in inputs)
        if not waits or not inputs:
            assert depth[p.name] == earliest
            continue
        readers = [depth[q.dst] for q in circuit.projections if q.src == p.name]
        sent = [depth[src] for src in inputs if not is_constant(circuit, src)]
        assert earliest <= depth[p.name] < min(readers, default=earliest + 1)
        assert depth[p.name] <= max(earliest, min(sent, default=depth[p.name]) + limit)
    assert list(depth.values()) == sorted(depth.values())


@settings(max_examples=100, deadline=None)
@given(circuits(), LIMITS)
def test_all_consumers_of_a_source_share_one_line_of_relays_no_longer_than_needed(circuit, limit):
    scheduled = schedule(circuit, max_spike_delay=limit, power_of_two_period=False)
    added = {p.name for p in scheduled.populations} - {p.name for p in circuit.populations}
    depth = {p.name: p.depth for p in scheduled.populations}
    expected = set()
    for p in circuit.populations:
        if is_constant(circuit, p.name):
            continue
        waits = [depth[q.dst] - depth[p.name] for q in circuit.projections if q.src == p.name]
        reach = limit if p.spiking else 1
        expected |= {
            f"{p.name}.wait{i}" for i in range(1, (max(waits, default=1) - 1) // reach + 1)
        }
    assert added == expected
    for name in added:  # each relay passes one value on unchanged
        (q,) = scheduled.incoming[name]
        spiking = circuit.population[name.partition(".wait")[0]].spiking
        assert isinstance(scheduled.population[name], c.LIF if spiking else c.GradedRelay)
        assert (
            isinstance(q, c.Strided)
            and q.weight == 1
            and q.sizes == scheduled.population[name].shape
        )


@settings(max_examples=150, deadline=None)
@given(
    circuits(),
    LIMITS,
    LIMITS,
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 2**31),
)
def test_streaming_through_the_pipeline_equals_the_depth_free_execution(
    circuit, limit, graded, power_of_two, count, idle, seed
):
    scheduled = schedule(
        circuit, max_spike_delay=limit, power_of_two_period=power_of_two, graded_delay=graded
    )
    scheduled = scheduled.replace(period=scheduled.period + idle)
    x = (
        np.random.default_rng(seed)
        .integers(-9, 10, (count, *circuit.inputs[0].shape))
        .astype(np.int32)
    )
    expected, found = Emulator().open(circuit).run(x), emulate_cycles(scheduled, x)
    relayed = Emulator().open(scheduled).run(x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
        np.testing.assert_array_equal(relayed[name], values, err_msg=name)
    for name in set(found) - set(expected):  # relays repeat their source
        np.testing.assert_array_equal(found[name], expected[name.rpartition(".wait")[0]])


@settings(max_examples=60, deadline=None)
@given(networks(), LIMITS, st.integers(1, 5), st.booleans())
def test_lowered_networks_stream_like_they_run(graph, limit, steps, power_of_two):
    circuit = schedule(lower(graph, steps), max_spike_delay=limit, power_of_two_period=power_of_two)
    x = encode(circuit, samples(graph, 3))
    expected, found = Emulator().open(circuit).run(x), emulate_cycles(circuit, x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize(
    "steps, expected", [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (1000, 1024)]
)
def test_the_period_is_the_next_power_of_two_where_the_target_needs_one(steps, expected):
    assert period_for(steps, True) == expected
    assert period_for(steps, False) == steps


@given(st.integers(1, 1 << 16))
def test_a_period_is_a_power_of_two_and_holds_a_sample_but_not_two(steps):
    period = period_for(steps, True)
    assert period & (period - 1) == 0 and steps <= period < 2 * steps


def skipping(spiking: bool, reach: int) -> c.CircuitGraph:
    """``early`` feeds ``late`` directly and through a chain of ``reach - 1`` relays."""
    builder = Builder()
    builder.population(c.HostInput, "x", (1,), "x", low=0, high=9)
    builder.population(
        c.LIF if spiking else c.GradedRelay,
        "early",
        (1,),
        "early",
        **({"vth": 3} if spiking else {}),
    )
    names = [
        "x",
        "early",
        *(builder.population(c.GradedRelay, f"r{i}", (1,), "r") for i in range(reach - 1)),
    ]
    names.append(builder.population(c.GradedRelay, "late", (1,), "late"))
    for a, b in [*zip(names, names[1:]), ("early", "late")]:
        builder.drive(b, [strided(a, (1,), (0,), (0,))])
    return builder.finish("skipping", 1)


def test_a_spike_within_the_limit_waits_in_its_synapse():
    scheduled = schedule(skipping(True, 6), max_spike_delay=6, power_of_two_period=False)
    assert {q.delay for q in scheduled.projections if q.name == "early>late"} == {6}
    assert not [p for p in scheduled.populations if ".wait" in p.name]


def test_a_spike_beyond_the_limit_waits_in_neurons_that_repeat_it():
    scheduled = schedule(skipping(True, 8), max_spike_delay=3, power_of_two_period=False)
    line = sorted(p.name for p in scheduled.populations if ".wait" in p.name)
    assert line == ["early.wait1", "early.wait2"]
    assert [
        q.delay for n in (*line, "late") for q in scheduled.incoming[n] if "early" in q.name
    ] == [3, 3, 2]


def test_what_the_host_does_not_reach_lies_as_deep_as_its_readers():
    builder = Builder()
    tick = builder.population(
        c.LIF,
        "tick",
        (1,),
        "tick",
        vth=0,
        bias=builder.tensor("one", np.ones(1, np.int16)),
        reset=True,
    )
    twice = builder.population(c.LIF, "twice", (1,), "tick", vth=0, reset=True)
    builder.drive(twice, [strided(tick, (1,), (1,), (1,))])
    name = builder.population(c.HostInput, "x", (1,), "x", low=0, high=9)
    for i in range(9):
        relay = builder.population(c.GradedRelay, f"r{i}", (1,), "r")
        builder.drive(
            relay, [strided(name, (1,), (1,), (1,))] + [strided(twice, (1,), (1,), (1,))] * (i == 8)
        )
        name = relay
    scheduled = schedule(
        builder.finish("clocked", 3), max_spike_delay=62, power_of_two_period=False
    )
    depths = {p.name: p.depth for p in scheduled.populations}
    assert (depths["tick"], depths["twice"], depths["r8"]) == (7, 8, 9)
    assert {q.delay for q in scheduled.projections} == {1}


def test_a_graded_value_waits_in_relays_only():
    scheduled = schedule(skipping(False, 4), max_spike_delay=62, power_of_two_period=False)
    assert sorted(p.name for p in scheduled.populations if ".wait" in p.name) == [
        f"early.wait{i}" for i in (1, 2, 3)
    ]
    assert {q.delay for q in scheduled.projections} == {1}


@pytest.mark.parametrize("limit", [0, -1])
def test_a_target_without_any_delay_is_refused(limit):
    with pytest.raises(NeurocompileError) as error:
        schedule(skipping(True, 2), max_spike_delay=limit, power_of_two_period=False)
    assert error.value.code == "NC3103"
