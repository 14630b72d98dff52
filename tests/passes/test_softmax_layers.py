"""Softmax attention in a model: quantized, lowered and scheduled it computes what its nodes say,
and approaches the float softmax.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import decode, encode
from neurocompile.backends.lava import LavaInProcess
from neurocompile.calibration import calibration_from_weights
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.fold_scale import FoldScale
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import schedule
from neurocompile.passes.sink_time_mean import SinkTimeMean
from neurocompile.theory.measure.attention_block import (
    attention_block,
    compiled_block,
    float_attention,
)


def scheduled(circuit: CircuitGraph) -> CircuitGraph:
    return schedule(circuit, max_spike_delay=62, power_of_two_period=True)


def inputs(graph: s.SpikingGraph, samples: int, seed: int, low: float = 0) -> np.ndarray:
    return (
        np.random.default_rng(seed)
        .uniform(low, 2, (samples, *graph.input.shape))
        .astype(np.float32)
    )


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 18),
    st.integers(1, 3),
    st.integers(4, 17),
    st.floats(0.05, 6),
    st.integers(0, 99),
)
def test_the_circuit_computes_what_the_nodes_say_streamed_or_not(n, d, steps, gain, seed):
    graph = attention_block(n, d, 3, gain, seed)
    quantized, lowered = compiled_block(graph, steps)
    circuit, x = scheduled(lowered), inputs(graph, 3, seed)
    fed = encode(circuit, x)
    trace = Emulator().open(circuit).run(fed)
    expected = evaluate(quantized, encode_input(quantized.input, x), steps)
    for name in (
        "softmax",
        "attention",
    ):  # (token, key) and (token, channel) lie in the populations as in the values
        np.testing.assert_array_equal(
            trace[name].reshape(expected[name].shape), expected[name], err_msg=name
        )
    np.testing.assert_allclose(decode(circuit, trace).reshape(3, n, d), expected["out"], rtol=1e-12)
    for name, values in emulate_cycles(circuit, fed).items():
        np.testing.assert_array_equal(values, trace[name], err_msg=name)
    assert s.SpikingGraph.parse(quantized.text(), quantized.tensors).text() == quantized.text()
    assert CircuitGraph.parse(circuit.text(), circuit.tensors).text() == circuit.text()


def test_lava_agrees():
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    graph = attention_block(5, 2, 3, 1.5, 1)
    quantized, lowered = compiled_block(graph, 6)
    circuit = scheduled(lowered)
    x = encode(circuit, inputs(graph, 3, 0))
    expected = Emulator().open(circuit).run(x)
    assert expected["softmax"].any() and expected["attention"].any()
    with LavaInProcess().open(circuit) as executor:
        found = executor.run(x)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_the_error_against_the_float_softmax_falls_as_one_over_t():
    graph, errors, T = attention_block(16, 4, 4, 1.5, 0), [], (8, 16, 32, 64, 128)
    for steps in T:
        quantized, _ = compiled_block(graph, steps)
        x = encode_input(quantized.input, inputs(graph, 40, 0))
        found = evaluate(quantized, x, steps, ["out"])["out"]
        errors.append(np.sqrt(((found - float_attention(graph, quantized, x, steps)) ** 2).mean()))
    slope = np.polyfit(np.log(T), np.log(errors), 1)[0]
    assert -1.15 < slope < -0.85 and errors[-1] < 0.01


def test_equal_scores_take_turns_and_every_row_sums_to_its_steps():
    node = s.RateSoftmax(name="p", x=Ref("x"), thresholds=TensorRef("grid"), span=4)
    nodes = (
        s.Input(name="x", shape=(2, 16), unit=1.0, low=0, high=4),
        node,
        s.TimeMean(name="m", x=Ref("p")),
        s.Output(name="o", x=Ref("m")),
    )
    graph = s.SpikingGraph("p", "quantized", nodes, {"grid": np.array([4, 4, 4, 4], np.int32)})
    x = np.zeros((1, 2, 16), np.int32)
    x[0, 1, :4] = 4  # four equal winners, twelve that never fire
    spikes = evaluate(graph, x, 8, ["p"])["p"][0]
    np.testing.assert_array_equal(spikes.sum(axis=2), np.ones((8, 2)))
    np.testing.assert_array_equal(spikes[:, 1].sum(axis=0)[:4], [2] * 4)
    assert set(spikes[:, 0].sum(axis=0)) == {0, 1}


def replaced(graph: s.SpikingGraph, **changes: s.Node) -> s.SpikingGraph:
    return graph.replace(nodes=tuple(changes.get(n.name, n) for n in graph.nodes))


def test_scores_are_averaged_where_the_model_does_and_factors_go_into_the_gain():
    block = attention_block(4, 2, 3, 1.0, 0)
    graph = block.replace(
        stage="imported",
        nodes=(
            *block.nodes[:-6],
            s.TimeMean(name="mean", x=Ref("scores")),
            s.Scale(name="half", x=Ref("mean"), factor=0.5),
            s.Softmax(name="softmax", x=Ref("half")),
            *block.nodes[-4:-2],
            s.Output(name="out", x=Ref("attention")),
        ),
    )
    after = FoldScale()(SinkTimeMean()(graph))
    assert [n.name for n in after.nodes if isinstance(n, s.TimeMean)] == [
        "mean",
        "value",
        "time_mean",
    ]
    assert after.node["softmax"] == s.Softmax(name="softmax", x=Ref("mean"), gain=0.5)
    x = np.random.default_rng(0).uniform(0, 2, (3, *graph.input.shape)).astype(np.float32)
    np.testing.assert_allclose(
        evaluate(after, x, 5, ["out"])["out"], evaluate(graph, x, 5, ["out"])["out"], rtol=1e-6
    )
    with pytest.raises(
        NeurocompileError, match=r"NC2012 layer 'softmax' is a softmax of scores times -1.0"
    ):
        FoldScale()(
            SinkTimeMean()(replaced(graph, half=s.Scale(name="half", x=Ref("mean"), factor=-1.0)))
        )


@pytest.mark.parametrize(
    ("change", "T", "why"),
    [
        (
            {"attention": s.MatMul(name="attention", a=Ref("softmax"), b=Ref("v"))},
            8,
            r"'attention': softmax 'softmax' times values that change",
        ),
        (
            {"attention": s.Mul(name="attention", a=Ref("softmax"), b=Ref("mean"))},
            8,
            r"'attention' \(Mul\) reads the softmax",
        ),
        ({}, 3, r"'softmax': a softmax at T = 3"),
    ],
)
def test_what_has_no_circuit_is_refused_in_one_line(change, T, why):
    graph = replaced(attention_block(3, 3, 3, 1.0, 0), **change)
    with pytest.raises(NeurocompileError, match=f"NC2012 .*{why}") as caught:
        Quantize(T, calibration_from_weights(T))(graph)
    assert "\n" not in caught.value.message


def test_a_sum_over_time_of_signed_values_is_exact():
    block = attention_block(3, 2, 3, 1.0, 4)
    graph = block.replace(
        nodes=(
            *block.nodes[:2],
            s.TimeMean(name="mean", x=Ref("q.conv")),
            replace(block.nodes[2], x=Ref("mean")),
            s.TimeMean(name="time", x=Ref("q.lif")),
            s.Output(name="out", x=Ref("time")),
        )
    )
    quantized, lowered = compiled_block(graph, 7)
    circuit, x = scheduled(lowered), inputs(graph, 3, 0, low=-2)
    fed = encode(circuit, x)
    trace = Emulator().open(circuit).run(fed)
    expected = evaluate(quantized, encode_input(quantized.input, x), 7, ["mean", "out"])
    assert expected["mean"].min() < 0 < expected["mean"].max()
    np.testing.assert_allclose(
        decode(circuit, trace).reshape(3, 2, 3, 1), expected["out"], rtol=1e-12
    )
    for name, values in emulate_cycles(circuit, fed).items():
        np.testing.assert_array_equal(values, trace[name], err_msg=name)


def test_a_softmax_of_many_values_takes_digits_and_is_exact_on_the_chip():
    """Counts of a row would leave their fields: 150 scores at T = 64 had 53 levels."""
    graph, T = attention_block(150, 2, 2, 1.5, 0), 64
    quantized, lowered = compiled_block(graph, T)
    kinds = {type(n) for n in quantized.nodes}
    assert s.DigitMatMul in kinds and s.RateSoftmax not in kinds
    x = encode_input(quantized.input, inputs(graph, 2, 0))
    found = evaluate(quantized, x, T, ["out"])["out"]
    assert np.abs(found - float_attention(graph, quantized, x, T)).max() < 0.005
    few, lowered = compiled_block(
        replace(graph, nodes=attention_block(6, 2, 2, 1.5, 0).nodes), 2000
    )
    assert s.DigitMatMul in {type(n) for n in few.nodes}
    given = inputs(few, 1, 0)
    trace = Emulator().open(lowered).run(encode(lowered, given))
    expected = evaluate(few, encode_input(few.input, given), 2000, ["out"])["out"]
    np.testing.assert_allclose(decode(lowered, trace).reshape(1, 6, 2), expected, rtol=1e-12)
