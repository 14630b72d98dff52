"""A softplus that an exporter guards against large inputs is no neuron's comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from neurocompile.frontends.recover.guarded import settle_guarded

FLOAT = onnx.TensorProto.FLOAT


def guarded(beta: float, level: float, large: str = "x") -> onnx.ModelProto:
    """As torch's exporter writes ``softplus(x, beta, level)``, over ``x`` (3, 4)."""
    scaled, small = ("x", "soft") if beta == 1 else ("u", "y")
    nodes = [helper.make_node("Mul", ["x", "beta"], ["u"])] if beta != 1 else []
    nodes.append(helper.make_node("Softplus", [scaled], ["soft"]))
    if beta != 1:
        nodes.append(helper.make_node("Div", ["soft", "beta"], ["y"]))
    nodes += [
        helper.make_node("Greater", [scaled, "level"], ["above"]),
        helper.make_node("Where", ["above", large, small], ["z"]),
    ]
    numbers = {"beta": beta, "level": level}
    ends = [[helper.make_tensor_value_info(name, FLOAT, [3, 4])] for name in ("x", "z")]
    graph = helper.make_graph(
        nodes,
        "guarded",
        *ends,
        [numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize("beta", [1.0, 0.5, 3.0])
def test_both_branches_say_the_same(beta: float) -> None:
    from onnx.reference import ReferenceEvaluator

    proto = guarded(beta, 20.0)
    settled = settle_guarded(proto)
    assert "Where" not in [n.op_type for n in settled.graph.node]
    assert "Where" in [n.op_type for n in proto.graph.node]  # left as it was
    x = np.linspace(-30, 60, 12, dtype=np.float32).reshape(3, 4) / np.float32(beta)
    with np.errstate(over="ignore"):
        results = [ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (proto, settled)]
    meant = np.logaddexp(0, beta * x.astype(np.float64)) / beta
    for found in results:
        near = np.isfinite(found)  # the reference's own exponential overflows
        np.testing.assert_allclose(found[near], meant[near], rtol=1e-6, atol=1e-6)
        assert near.sum() >= 9


@pytest.mark.parametrize(("beta", "level", "large"), [(1.0, 3.0, "x"), (1.0, 20.0, "beta")])
def test_other_branches_stay(beta: float, level: float, large: str) -> None:
    proto = guarded(beta, level, large)
    assert settle_guarded(proto) is proto


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_torch_with_a_softplus_in_front_of_a_neuron(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from neurocompile.frontends.door import open_model
    from neurocompile.ir import spiking as s
    from neurocompile.ir.evaluate import evaluate

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.nn.functional.softplus(x, beta=2.0)
            u, total = torch.zeros_like(y), torch.zeros_like(y)
            for _ in range(3):
                u = u + y
                spikes = (u >= 1.0).to(u.dtype)
                u, total = u - spikes, total + spikes
            return total / 3

    x = torch.randn(4, 8)
    path = tmp_path / "softplus.onnx"
    torch.onnx.export(Network(), (x,), str(path), dynamo=True, verbose=False)
    graph = open_model(path, x.numpy()).graph
    neuron = next(n for n in graph.nodes if isinstance(n, s.LIF))
    found = evaluate(graph, x.numpy(), 3)[neuron.x]
    meant = torch.nn.functional.softplus(x, beta=2.0).numpy()
    np.testing.assert_allclose(found.reshape(4, -1, 8)[:, 0], meant, atol=1e-5)
