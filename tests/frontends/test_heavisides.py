"""A step that an exporter writes at a number and beside it, torch.heaviside, is one comparison."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import neurocompile
from neurocompile.frontends.recover.heavisides import settle_heavisides

FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
X = np.asarray([-2, np.nextafter(np.float32(0.5), np.float32(0)), 0.5, 0.50001, 3], np.float32)


def step(at: float, below: float = 0.0, level: float = 0.5) -> onnx.ModelProto:
    """As torch's exporter writes ``heaviside``, of ``x`` (5,) at ``level``."""
    nodes = [
        helper.make_node("Equal", ["level", "x"], ["meets"]),
        helper.make_node("Less", ["x", "level"], ["less"]),
        helper.make_node("IsNaN", ["x"], ["nan"]),
        helper.make_node("Or", ["less", "nan"], ["out"]),
        helper.make_node("Where", ["out", "below", "one"], ["beside"]),
        helper.make_node("Where", ["meets", "at", "beside"], ["y"]),
    ]
    numbers = {"level": level, "below": below, "one": 1.0, "at": at}
    ends = [[helper.make_tensor_value_info(name, FLOAT, [5])] for name in ("x", "y")]
    values = [numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items()]
    graph = helper.make_graph(nodes, "step", *ends, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(("at", "kind"), [(1.0, "GreaterOrEqual"), (0.0, "Greater")])
def test_a_step_is_one_comparison(at: float, kind: str) -> None:
    from onnx.reference import ReferenceEvaluator

    proto = step(at)
    settled = settle_heavisides(proto)
    assert [n.op_type for n in settled.graph.node] == [kind, "Cast"]
    assert len(proto.graph.node) == 6  # left as it was
    onnx.checker.check_model(settled)
    results = [ReferenceEvaluator(m).run(None, {"x": X})[0] for m in (proto, settled)]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(results[0], [0, 0, at, 1, 1])


@pytest.mark.parametrize("proto", [step(0.5), step(1.0, below=-1.0), step(1.0, level=np.inf)])
def test_other_steps_stay(proto: onnx.ModelProto) -> None:
    assert settle_heavisides(proto) is proto


@pytest.mark.slow
def test_neurons_that_fire_by_heaviside_are_exact() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.head = torch.nn.Linear(6, 16), torch.nn.Linear(16, 3)
            self.first.weight.data = torch.randint(-12, 13, (16, 6)) / 16.0
            self.first.bias.data.zero_()

        def forward(self, x):
            x, v, sent = self.first(x), torch.zeros(len(x), 16, dtype=x.dtype), []
            for _ in range(3):
                v = 0.5 * v + x
                s = torch.heaviside(v - 0.75, torch.tensor(1.0, dtype=x.dtype))
                v = v - 0.75 * s
                sent.append(s)
            return self.head(torch.stack(sent).mean(0))

    net = Net().eval()
    x = np.random.default_rng(0).integers(0, 17, (16, 6)).astype(np.float32) / 16
    program = neurocompile.compile(net, torch.from_numpy(x[:2]), T=3, calibration=x)
    with torch.no_grad():
        want = net.double()(torch.from_numpy(x).double()).numpy()
    assert program.parity(x, against=("emulator",)).exact
    np.testing.assert_allclose(program.run(x).logits, want, atol=0.02)  # the head's 8 bits
