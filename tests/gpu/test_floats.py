"""Statistics by torch: what numpy's float evaluation counts, but for membranes at their threshold."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neurocompile.calibration import calibrate_on  # noqa: E402
from neurocompile.gpu.floats import FloatEvaluator  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.ir.text import Ref, TensorRef  # noqa: E402
from neurocompile.passes.canonicalize import canonicalize  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402
from neurocompile.reference.spikingjelly import _Runner  # noqa: E402


def test_rates_of_a_trained_model(digits_model, digits_data) -> None:
    graph = canonicalize(import_model(digits_model)[1].graph)
    x = digits_data.x[:8]
    expected, found = (calibrate_on(graph, x, 4, d) for d in ("cpu", "torch-cpu"))
    assert found.input == expected.input and found.samples == expected.samples
    assert found.layers.keys() == expected.layers.keys()
    for name, layer in expected.layers.items():
        assert found.layers[name].rate == pytest.approx(layer.rate, abs=1e-3), name
        np.testing.assert_allclose(
            found.layers[name].channel_rate, layer.channel_rate, atol=0.02, err_msg=name
        )


def halves(node: s.Node, **tensors: np.ndarray) -> tuple[dict, np.ndarray]:
    """Spikes of ``node`` on halves, whose sums no order changes, and the definition's."""
    x = np.random.default_rng(0).integers(-4, 9, (3, 4, 5, 6)).astype(np.float32) / 2
    nodes = [s.Input(name="x", shape=(4, 5, 6)), node]
    if not isinstance(node, s.LIF):
        nodes.append(s.LIF(name="s", x=Ref("n"), tau=2.0, v_threshold=1.0))
    graph = s.SpikingGraph("g", "imported", tuple(nodes), tensors)
    expected = evaluate(graph, x, 3, [nodes[-1].name])[nodes[-1].name]
    found = FloatEvaluator(graph, 3, "torch-cpu").spikes(x)
    return found, expected.sum(axis=(0, 1, *range(3, expected.ndim)), dtype=np.float64)


LIFS = {
    "soft": {"soft_reset": True, "more": (2.0, 3.0)},
    "subtract": {"soft_reset": True, "subtract": 0.5},
    "rest": {"v_reset": 0.5, "decay_input": False},
    "current": {"current": 0.5, "gain": 2.0},
    "bias": {"bias": TensorRef("b")},
    "tau": {"tau": TensorRef("t"), "decay_input": False},
}


@pytest.mark.parametrize("kind", LIFS)
def test_neurons(kind: str) -> None:
    node = s.LIF(name="n", x=Ref("x"), **{"tau": 2.0, "v_threshold": 1.0, **LIFS[kind]})
    named = {"b": np.full((4, 1, 1), 0.5, np.float32), "t": np.full((4, 1, 1), 4.0, np.float32)}
    found, expected = halves(node, **{k: v for k, v in named.items() if k in node.tensors})
    np.testing.assert_array_equal(found["n"], expected)


NODES = {
    "max": s.MaxPool2d(
        name="n", x=Ref("x"), kernel=(2, 2), stride=(1, 2), padding=(1, 0), more=(0, 1)
    ),
    "sum": s.SumPool2d(name="n", x=Ref("x"), kernel=(2, 2), stride=(2, 2), padding=(1, 0)),
    "integrator": s.Integrator(name="n", x=Ref("x"), decay=0.5),
    "scale": s.Scale(name="n", x=Ref("x"), factor=0.5),
    "rows": s.Sum(name="n", x=Ref("x"), axes=(1,)),
    "turned": s.Rearrange(name="n", x=Ref("x"), shape=(6, 20), sizes=(6, 20), strides=(1, 6)),
    "square": s.Mul(name="n", a=Ref("x"), b=Ref("x")),
}


@pytest.mark.parametrize("kind", NODES)
def test_nodes(kind: str) -> None:
    found, expected = halves(NODES[kind])
    np.testing.assert_array_equal(found["s"], expected)


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("reference", [False, True])
def test_real_operators_are_the_definitions(T: int, reference: bool) -> None:
    nodes = (
        s.Input(name="x", shape=(2, 5), steps=T),
        s.Function(name="f", x=Ref("x"), function="gelu", gain=1.5),
        s.Normalization(name="n", x=Ref("f"), axes=(1,), epsilon=1e-5),
        s.StepSoftmax(name="w", x=Ref("n"), gain=0.5),
        s.Delay(name="d", x=Ref("w")),
        s.LIF(name="l", x=Ref("d"), tau=2.0, v_threshold=0.1),
    )
    x = np.random.default_rng(0).normal(0, 1, (4, T, 2, 5)).astype(np.float32)
    graph = s.SpikingGraph("g", "imported", nodes, {})
    wanted = evaluate(graph, x, T, ["l"])["l"]
    if reference:
        pytest.importorskip("spikingjelly.activation_based")
        runner, value = _Runner(graph, T, "cpu"), torch.from_numpy(x).transpose(0, 1)
        for node in nodes[1:]:
            value = runner.rules[type(node)](node, value)
        assert np.array_equal(value.transpose(0, 1).numpy(), wanted)
    else:
        found = FloatEvaluator(graph, T, "torch-cpu").spikes(x)
        assert np.array_equal(found["l"], wanted.sum(axis=(0, 1, 3)))


def test_every_kind_of_the_float_graph_has_a_rule() -> None:
    graph = s.SpikingGraph("g", "canonical", (s.Input(name="x", shape=(1,)),), {})
    rules = FloatEvaluator(graph, 1, "torch-cpu").rules
    floating = {k for k in s.KINDS.values() if {"imported", "canonical"} & set(k.stages)}
    assert rules.keys() == floating - {s.Input, s.Output, s.Previous}
