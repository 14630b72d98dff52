"""Neurons that read the same value: an exporter may share their first steps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from plain_export import exported  # noqa: E402

from neurocompile.frontends.recover.repeated import merged  # noqa: E402

X = np.random.default_rng(0).integers(0, 9, (6, 8)).astype(np.float32) / 8


class Heaviside(torch.autograd.Function):
    """A comparison that is no arithmetic of the module's own, as surrogate gradients are."""

    @staticmethod
    def forward(ctx, x):
        return (x >= 0).to(x)


class Surrogate(torch.nn.Module):
    def forward(self, x):
        return Heaviside.apply(x)


class LIF(torch.nn.Module):
    """One layer of neurons, its steps written out."""

    def __init__(self, tau: float, soft: bool = False, threshold: float = 1.0) -> None:
        super().__init__()
        self.tau, self.threshold, self.soft, self.surrogate = tau, threshold, soft, Surrogate()

    def forward(self, currents):
        v, spikes = 0.0, []
        for x in currents:
            h = v * (1 - 1 / self.tau) + x  # in the first step the current, whatever tau is
            s = self.surrogate(h - self.threshold)
            spikes.append(s)
            v = h - self.threshold * s if self.soft else h * (1 - s)
        return spikes


class TwoReaders(torch.nn.Module):
    """Two neurons of two modules on one current, and a head on each."""

    def __init__(self, second: LIF) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1 = torch.nn.Linear(8, 6, bias=False)
        self.fc2, self.fc3 = torch.nn.Linear(6, 3), torch.nn.Linear(6, 3)
        self.fc1.weight.data = torch.round(self.fc1.weight.data * 64) / 16
        self.first, self.second = LIF(2.0), second

    def forward(self, x):
        currents = [self.fc1(x)] * 3
        pairs = zip(self.first(currents), self.second(currents))
        return torch.stack([self.fc2(a) + self.fc3(b) for a, b in pairs]).mean(0)


@pytest.mark.parametrize(
    "second",
    [(2.0,), (4.0,), (2.0, True), (2.0, False, 0.5)],
    ids=["alike", "leak", "reset", "threshold"],
)
@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_neurons_of_two_modules_on_one_current(second, dynamo, tmp_path):
    path = exported(TwoReaders(LIF(*second)), tmp_path / "net.onnx", dynamo, X[:1])
    program = neurocompile.compile(path, calibration=X)
    names = [node.name for node in program.quantized.spiking_layers]
    assert names == (["first"] if second == (2.0,) else ["first", "second"])
    report = program.parity(X, reference=path)
    assert report.exact
    assert all(layer.agreement == 1.0 for layer in report.reference.layers)


def graph(nodes: list[onnx.NodeProto], *outputs: str) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(o, TensorProto.FLOAT, [2]) for o in outputs]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [1], [2.0]) for n in ("two", "zwei")]
    model = helper.make_model(helper.make_graph(nodes, "repeated", [x], values, constants))
    onnx.checker.check_model(model)
    return model


def test_what_is_computed_twice_is_computed_once_and_outputs_keep_their_names():
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["a"]),
        helper.make_node("Mul", ["x", "zwei"], ["b"]),
        helper.make_node("Relu", ["a"], ["first"]),
        helper.make_node("Relu", ["b"], ["second"]),
        helper.make_node("Add", ["first", "second"], ["sum"]),
    ]
    once = merged(graph(nodes, "sum", "second"))
    onnx.checker.check_model(once)
    assert [n.op_type for n in once.graph.node] == ["Mul", "Relu", "Identity", "Add"]
    assert list(once.graph.node[-1].input) == ["first", "first"]
    assert list(once.graph.node[2].output) == ["second"]


def test_what_is_drawn_or_differs_stays():
    like = {"dtype": TensorProto.FLOAT}
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["a"], **like),
        helper.make_node("RandomNormalLike", ["x"], ["b"], **like),
        helper.make_node("Elu", ["x"], ["c"], alpha=1.0),
        helper.make_node("Elu", ["x"], ["d"], alpha=0.5),
        helper.make_node("Sub", ["a", "b"], ["e"]),
        helper.make_node("Sub", ["b", "a"], ["f"]),
    ]
    assert merged(graph(nodes, "c", "d", "e", "f")) is None
