"""``spike > 0`` of a spike is the spike, and no neuron."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import neurocompile
from neurocompile.frontends.recover.truths import settle_truths

FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL


def compared(kind: str, number: float, swapped: bool = False) -> onnx.ModelProto:
    """``x >= 1`` as a number, compared with ``number``."""
    inputs = ["number", "spike"] if swapped else ["spike", "number"]
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "one"], ["fires"]),
        helper.make_node("Cast", ["fires"], ["spike"], to=FLOAT),
        helper.make_node(kind, inputs, ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(n, t, [4])] for n, t in (("x", FLOAT), ("y", BOOL))]
    values = {"one": 1.0, "number": number}
    graph = helper.make_graph(
        nodes, "g", *ends, [numpy_helper.from_array(np.float32(v), k) for k, v in values.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    ("kind", "number", "swapped", "wanted"),
    [
        ("Greater", 0.0, False, "Identity"),
        ("Greater", 0.5, True, "Not"),
        ("GreaterOrEqual", 1.0, False, "Identity"),
        ("Less", 0.5, False, "Not"),
        ("LessOrEqual", 0.0, True, None),
        ("Equal", 1.0, False, "Identity"),
        ("Equal", 0.0, True, "Not"),
        ("Equal", 2.0, False, None),
        ("Greater", -1.0, False, None),
    ],
)
def test_a_comparison_that_tells_spikes_apart(kind, number, swapped, wanted) -> None:
    from onnx.reference import ReferenceEvaluator

    proto = compared(kind, number, swapped)
    settled = settle_truths(proto)
    if wanted is None:
        assert settled is proto
        return
    assert [n.op_type for n in settled.graph.node][2:] == [wanted]
    assert proto.graph.node[2].op_type == kind  # left as it was
    x = np.asarray([-1, 0.9, 1, 2], np.float32)
    results = [ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (proto, settled)]
    np.testing.assert_array_equal(*results)


@pytest.mark.slow
def test_a_reset_that_compares_the_spike_is_a_reset() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.head = torch.nn.Linear(6, 16), torch.nn.Linear(16, 3)

        def forward(self, x):
            x, v, sent = self.first(x) * 3, torch.zeros(len(x), 16), []
            for _ in range(3):
                v = 0.5 * v + x
                s = (v >= 1.0).float()
                v = torch.where(s > 0, torch.zeros_like(v), v)
                sent.append(s)
            return self.head(torch.stack(sent).mean(0))

    net = Net().eval()
    x = np.random.default_rng(0).uniform(0, 1, (16, 6)).astype(np.float32)
    program = neurocompile.compile(net, torch.from_numpy(x[:2]), T=3, calibration=x)
    assert program.manifest.import_agreement == 1.0
    assert program.parity(x, against=("emulator",)).exact
    assert len(program.quantized.spiking_layers) == 1
