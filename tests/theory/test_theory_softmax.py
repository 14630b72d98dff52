"""The theory's commands on a network with a softmax, whose values are real and whose steps are
phases.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from softmax_files import T, write

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.theory.bounds.lipschitz import lipschitz_bound
from neurocompile.theory.bounds.magnitude import magnitudes
from neurocompile.theory.bounds.ramp import ramp_of, ramp_values
from neurocompile.theory.measure.examine import examine
from neurocompile.theory.measure.sensitivity import layer_sensitivity, local_lipschitz
from neurocompile.theory.measure.subject import open_subject
from neurocompile.theory.measure.sweep import sweep


def test_a_softmax_of_linear_scores_has_half_their_gain() -> None:
    weight = np.diag([3.0, 1.0, 2.0])
    nodes = (
        s.Input(name="x", shape=(3,)),
        s.Linear(name="w", x=Ref("x"), weight=TensorRef("w")),
        s.Softmax(name="p", x=Ref("w"), gain=4.0),
        s.TimeMean(name="m", x=Ref("p")),
        s.Output(name="o", x=Ref("m")),
    )
    graph = s.SpikingGraph("g", "canonical", nodes, {"w": weight})
    bound = lipschitz_bound(graph).value
    assert np.isclose(bound, 3.0 * 4.0 / 2)
    rng = np.random.default_rng(0)

    def value(x: np.ndarray) -> np.ndarray:
        e = np.exp(4.0 * (weight @ x))
        return e / e.sum()

    for _ in range(200):
        x, step = rng.normal(0, 0.3, 3), 1e-4 * rng.normal(size=3)
        assert np.linalg.norm(value(x + step) - value(x)) <= bound * np.linalg.norm(step) * (
            1 + 1e-3
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with attention.onnx, attention.nca and x.npz."""
    folder = tmp_path_factory.mktemp("softmax")
    write(folder)
    return folder


def test_an_artifact_with_a_softmax_runs_at_its_own_steps_only(files: Path) -> None:
    subject = open_subject(files / "attention.nca")
    with np.load(files / "x.npz") as archive:
        x = archive["x"]
    with pytest.raises(NeurocompileError, match=r"NC8011 .* T = 6"):
        subject.at(8)
    found = examine(subject, x, origin="12 samples", eps=0.5)
    assert found.sweep == () and found.reached is None and found.run.T == T
    assert any("the sweep of T" in text for text in found.left_out)
    assert found.beside[0].measured == found.run.total > 0
    assert len(found.layers) == 4 and sum(k.share for k in found.layers) == pytest.approx(1)
    assert next(s for s in found.steps if s.rule == "measured").T is None
    with pytest.raises(NeurocompileError, match="NC8011"):
        examine(subject, x, origin="", eps=0.5, calibrate=True)
    chosen = examine(subject, x, origin="12 samples")
    assert (
        chosen.eps == pytest.approx(0.1 * np.sqrt((chosen.run.logits**2).sum(axis=1).mean()))
        and "a choice" in chosen.eps_basis
    )


def test_what_has_no_samples_steps_or_layers_is_one_line(files: Path) -> None:
    subject, x = open_subject(files / "attention.onnx"), np.ones((2, 3, 4), np.float32)
    quantized, circuit = subject.at(T)
    layer = [quantized.spiking_layers[0].name]
    for call in (
        lambda: subject.at(0),
        lambda: subject.at(-1),
        lambda: sweep(subject, x, None, ()),
        lambda: local_lipschitz(circuit, x, 0),
        lambda: local_lipschitz(circuit, x, float("nan")),
        lambda: local_lipschitz(circuit, x, 0.1, 0),
        lambda: local_lipschitz(circuit, x[:0]),
        lambda: layer_sensitivity(quantized, x, T, ["nothing"]),
        lambda: layer_sensitivity(quantized, x, T, layer, float("nan")),
        lambda: layer_sensitivity(quantized, x, 0, layer),
        lambda: layer_sensitivity(quantized, x[:0], T, layer),
        lambda: examine(subject, x[:0], origin="", eps=1),
        lambda: examine(subject, x, origin="", T=0),
    ):
        with pytest.raises(NeurocompileError, match="NC8003") as error:
            call()
        assert "\n" not in str(error.value)


def attention_graph(rng: np.random.Generator) -> s.SpikingGraph:
    """Q, K and V by neurons, a softmax of their mean products, in tokens of 3 channels."""
    tensors = {k: rng.normal(0, 2, (3, 3)) for k in "qkvo"}
    nodes: list[s.Node] = [s.Input(name="x", shape=(4, 3))]
    for k in "qkv":
        nodes += [
            s.Linear(name=f"f{k}", x=Ref("x"), weight=TensorRef(k)),
            s.LIF(name=k, x=Ref(f"f{k}"), tau=2.0, v_threshold=1.0, decay_input=False),
        ]
    nodes += [
        s.Rearrange(name="t", x=Ref("k"), shape=(3, 4), sizes=(3, 4), strides=(1, 3)),
        s.MatMul(name="s", a=Ref("q"), b=Ref("t")),
        s.TimeMean(name="m", x=Ref("s")),
        s.Softmax(name="p", x=Ref("m"), gain=1.5),
        s.TimeMean(name="vm", x=Ref("v")),
        s.MatMul(name="y", a=Ref("p"), b=Ref("vm")),
        s.Linear(name="o", x=Ref("y"), weight=TensorRef("o")),
        s.MatMul(name="z", a=Ref("o"), b=Ref("t")),  # real values that a softmax and spikes bound
        s.TimeMean(name="l", x=Ref("z")),
        s.Output(name="out", x=Ref("l")),
    ]
    return s.SpikingGraph("a", "imported", tuple(nodes), tensors)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_pair_of_inputs_breaks_the_bound_of_an_attention(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = attention_graph(rng)
    bound, size = lipschitz_bound(graph).value, magnitudes(graph)

    def ramp(node: s.Node, inputs: list[np.ndarray], value: np.ndarray) -> np.ndarray:
        return ramp_values(graph, node, inputs[0]) if isinstance(node, s.LIF) else value

    x = rng.normal(0, 1.5, (40, 4, 3))
    y = x + rng.standard_normal(x.shape) * 10.0 ** rng.uniform(-2, 0, (40, 1, 1))
    names = [n.name for n in graph.nodes]
    seen = evaluate(graph, x, 1, names, ramp)
    for name, most in size.items():
        assert most is None or np.abs(seen[name]).max() <= most * (1 + 1e-6) + 1e-9, name
    assert size["x"] is None and size["fq"] is None and size["z"] is not None
    a, b = seen["out"].reshape(40, -1), evaluate(graph, y, 1, ["out"], ramp)["out"].reshape(40, -1)
    assert (
        np.linalg.norm(a - b, axis=1)
        <= bound * np.linalg.norm((x - y).reshape(40, -1), axis=1) * (1 + 1e-3) + 1e-6
    ).all()


def test_the_ramp_of_a_soft_reset_neuron() -> None:
    node = s.SoftIntegerLIF(
        name="n", x=Ref("x"), threshold=64, reset=32, decay=2048, gain=4, shift=1
    )
    assert ramp_of(node).slope == pytest.approx(2 / 32)
    graph = s.SpikingGraph(
        "n", "quantized", (s.Input(name="x", shape=(4,), unit=1.0, low=0, high=99), node), {}
    )
    rates = evaluate(graph, np.array([[15, 16, 24, 32]]), 64, ["n"])["n"].mean(axis=1)[0]
    assert rates[0] == 0 and rates[3] == 1 and 0 < rates[2] < 1
