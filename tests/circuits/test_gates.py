"""Gates equal their definition on every combination of small integers, in every one of many
consecutive steps.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.circuits.builder import Builder, Signal, strided
from neurocompile.circuits.gates import and_gate, graded_gate, or_gate, signed_gate
from neurocompile.ir import circuit as c
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.ir.layout import Atom, Layout
from neurocompile.passes.schedule import schedule

BOUNDS = [*range(1, 21), 255, 256, 300, 511, 1000, 32640]


def sources(builder: Builder, rows: int, columns: int, graded: int = 0) -> list[str]:
    """Populations that repeat the rows of the host's (rows, columns): ``graded`` relays, then
    spikes.
    """
    builder.population(c.HostInput, "x", (rows, columns), "x", low=0, high=1 << 20)
    names = []
    for row in range(rows):
        fields = {} if row < graded else {"vth": 0}
        name = builder.population(
            c.GradedRelay if row < graded else c.LIF, f"in{row}", (columns,), "in", **fields
        )
        builder.drive(name, [strided("x", (columns,), (1,), (1,), src_offset=row * columns)])
        names.append(name)
    return names


def finished(builder: Builder, steps: int) -> c.CircuitGraph:
    circuit = schedule(builder.finish("gate", steps), max_spike_delay=62, power_of_two_period=False)
    check_circuit(circuit, "test")
    return circuit


def shuffled(rows: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(count, rows, columns): the columns in another order in every sample, so that each neuron
    sees them all mixed.
    """
    rng = np.random.default_rng(seed)
    return np.stack([rows[:, rng.permutation(rows.shape[1])] for _ in range(count)]).astype(
        np.int32
    )


def outputs(circuit: c.CircuitGraph, x: np.ndarray, name: str = "gate") -> list[np.ndarray]:
    """Of one sample a step, streamed through the pipeline without a pause, and of the depth-free
    emulator.
    """
    return [emulate_cycles(circuit, x)[name][:, 0], Emulator().open(circuit).run(x)[name][:, 0]]


def and_circuit(columns: int, steps: int = 1) -> c.CircuitGraph:
    builder, layout = Builder(), Layout.contiguous((columns,))
    a, b = (Signal(name, layout) for name in sources(builder, 2, columns))
    and_gate(builder, a, b, (columns,), layout, "gate", "gate")
    return finished(builder, steps)


def graded_circuit(largest: int, columns: int, steps: int = 1) -> c.CircuitGraph:
    builder, layout = Builder(), Layout.contiguous((columns,))
    value, spike = (Signal(name, layout) for name in sources(builder, 2, columns, graded=1))
    graded_gate(builder, value, largest, spike, (columns,), layout, "gate", "gate")
    return finished(builder, steps)


def signed_circuit(largest: int, columns: int, steps: int = 1) -> c.CircuitGraph:
    """The host's rows are value + largest and the spike; 'gate' is their product, a relay of what a
    signed gate needs.
    """
    builder, layout = Builder(), Layout.contiguous((columns,))
    shifted, spike = (Signal(name, layout) for name in sources(builder, 2, columns, graded=1))
    value = builder.population(c.GradedRelay, "value", (columns,), "in")
    one = Signal(builder.always_on("value"), Layout(((),)))
    builder.drive(value, (*builder.carry(shifted, layout), *builder.carry(one, layout, -largest)))
    gates, taken = signed_gate(
        builder, Signal(value, layout), largest, spike, (columns,), layout, "gates", "gate"
    )
    builder.population(c.GradedRelay, "gate", (columns,), "gate")
    builder.drive("gate", (*builder.carry(gates, layout), *builder.carry(spike, layout, -taken)))
    return finished(builder, steps)


def all_pairs(largest: int) -> np.ndarray:
    """Every (value, spike) with value in 0..largest (a sample of them if there are many), as two
    rows.
    """
    values = np.unique(np.linspace(0, largest, 2001).astype(int))
    return np.array(list(itertools.product(values, (0, 1)))).T


def test_an_and_gate_fires_exactly_when_both_inputs_do_in_every_order_of_inputs():
    # every sequence of three pairs, so that what one step leaves in the membrane would show in the
    # next
    sequences = np.array(
        list(itertools.product(itertools.product((0, 1), repeat=2), repeat=3)), np.int32
    )
    x = np.ascontiguousarray(sequences.transpose(1, 2, 0))
    for found in outputs(and_circuit(x.shape[2]), x):
        np.testing.assert_array_equal(found, x[:, 0] * x[:, 1])


def test_an_and_gate_holds_over_two_hundred_random_steps():
    x = np.random.default_rng(0).integers(0, 2, (200, 2, 7), dtype=np.int32)
    for found in outputs(and_circuit(7), x):
        np.testing.assert_array_equal(found, x[:, 0] & x[:, 1])


@pytest.mark.parametrize("largest", BOUNDS)
def test_a_graded_gate_passes_its_value_exactly_when_the_spike_comes(largest: int):
    x = shuffled(all_pairs(largest), 5, seed=largest)
    for found in outputs(graded_circuit(largest, x.shape[2]), x):
        np.testing.assert_array_equal(found, x[:, 0] * x[:, 1])


@pytest.mark.parametrize("largest", [*BOUNDS[:-1], 4001, 16320, 16321, 65535])
def test_a_signed_gate_passes_its_value_exactly_when_the_spike_comes(largest: int):
    x = shuffled(all_pairs(2 * largest), 5, seed=largest)
    for found in outputs(signed_circuit(largest, x.shape[2]), x):
        np.testing.assert_array_equal(found, (x[:, 0] - largest) * x[:, 1])


@pytest.mark.parametrize("largest", [3, 300])
def test_a_graded_gate_gives_the_same_in_every_step_of_a_sample_and_zero_in_idle_steps(
    largest: int,
):
    x = shuffled(all_pairs(largest), 2)
    circuit = graded_circuit(largest, x.shape[2], steps=3).replace(period=5)
    expected = np.repeat((x[:, 0] * x[:, 1])[:, None], 3, axis=1)
    np.testing.assert_array_equal(Emulator().open(circuit).run(x)["gate"], expected)
    np.testing.assert_array_equal(emulate_cycles(circuit, x)["gate"], expected)


@pytest.mark.parametrize("inputs", [1, 2, 3, 5])
def test_an_or_gate_fires_exactly_when_any_input_does(inputs: int):
    x = shuffled(np.array(list(itertools.product((0, 1), repeat=inputs))).T, 8)
    builder, layout = Builder(), Layout.contiguous((x.shape[2],))
    names = sources(builder, inputs, x.shape[2])
    or_gate(builder, (x.shape[2],), layout, "gate", "gate")
    builder.drive(
        "gate", [p for name in names for p in builder.carry(Signal(name, layout), layout)]
    )
    for found in outputs(finished(builder, 1), x):
        np.testing.assert_array_equal(found, x.max(axis=1))


@pytest.mark.parametrize("largest", [1, 4, 300])
def test_an_or_gate_of_a_graded_value_fires_exactly_when_it_is_at_least_one(largest: int):
    values = np.arange(largest + 1)[None]
    builder, layout = Builder(), Layout.contiguous((largest + 1,))
    (name,) = sources(builder, 1, largest + 1, graded=1)
    or_gate(builder, (largest + 1,), layout, "gate", "gate")
    builder.drive("gate", builder.carry(Signal(name, layout), layout))
    x = shuffled(values, 6)
    for found in outputs(finished(builder, 1), x):
        np.testing.assert_array_equal(found, x[:, 0] >= 1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 300), st.booleans(), st.integers(0, 2**31)
)
def test_gates_broadcast_a_row_against_a_column(
    n: int, m: int, largest: int, graded: bool, seed: int
):
    builder = Builder()
    width = max(n, m)
    value, spike = sources(builder, 2, width, graded=int(graded))
    layout = Layout.contiguous((n, m))
    column, row = Layout(((Atom(n, 1),), ())), Layout(((), (Atom(m, 1),)))
    if graded:
        graded_gate(
            builder,
            Signal(value, column),
            largest,
            Signal(spike, row),
            (n, m),
            layout,
            "gate",
            "gate",
        )
    else:
        and_gate(builder, Signal(value, column), Signal(spike, row), (n, m), layout, "gate", "gate")
    rng = np.random.default_rng(seed)
    values = rng.integers(0, (largest if graded else 1) + 1, (4, width))
    x = np.stack([values, rng.integers(0, 2, (4, width))], axis=1).astype(np.int32)
    for found in outputs(finished(builder, 1), x):
        np.testing.assert_array_equal(found, x[:, 0, :n, None] * x[:, 1, None, :m])


def test_lava_agrees_on_every_combination_of_every_gate():
    lava = pytest.importorskip("neurocompile.backends.lava")
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    sequences = np.array(
        list(itertools.product(itertools.product((0, 1), repeat=2), repeat=3)), np.int32
    )
    cases = [(and_circuit(sequences.shape[0]), np.ascontiguousarray(sequences.transpose(1, 2, 0)))]
    for largest in (1, 2, 7, 20, 255, 256, 300, 1000):
        pairs = all_pairs(largest)
        cases.append((graded_circuit(largest, pairs.shape[1]), shuffled(pairs, 4)))
    for largest in (1, 7, 300, 20_000):
        pairs = all_pairs(2 * largest)
        x = shuffled(pairs, 3)
        with lava.LavaInProcess().open(signed_circuit(largest, pairs.shape[1])) as executor:
            found = executor.run(x)["gate"][:, 0]
        np.testing.assert_array_equal(found, (x[:, 0] - largest) * x[:, 1])
    for circuit, x in cases:
        with lava.LavaInProcess().open(circuit) as executor:
            found = executor.run(x)["gate"][:, 0]
        np.testing.assert_array_equal(found, x[:, 0] * x[:, 1])
