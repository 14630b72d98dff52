"""A file that plain torch.onnx.export wrote, neurons unrolled, compiles like one of ours."""

from __future__ import annotations

import warnings
from importlib.metadata import version

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402


class Net(torch.nn.Module):
    """conv, LIF, conv, LIF, mean over tokens and time, head."""

    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = T
        self.conv1, self.conv2 = (
            torch.nn.Conv2d(1, 4, 3, padding=1),
            torch.nn.Conv2d(4, 6, 3, stride=2),
        )
        self.lif1 = neuron.LIFNode(tau=2.0, v_reset=0.0, step_mode="m")
        self.lif2 = neuron.LIFNode(tau=2.0, v_reset=0.0, v_threshold=0.5, step_mode="m")
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        x = self.lif1(x)
        x = self.conv2(x.flatten(0, 1)).unflatten(0, (self.T, -1))
        return self.head(self.lif2(x).flatten(3).mean(3).mean(0))


def test_an_unrolled_file_compiles_and_is_exact(tmp_path):
    torch.manual_seed(3)
    net, x = Net(3).eval(), torch.rand(4, 1, 7, 7)
    path = tmp_path / "unrolled.onnx"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old = version("spikingjelly").startswith(
                "0."
            )  # whose loop dynamo writes as a chain of scatters: NC1003
            torch.onnx.export(net, (x,), path, dynamo=not old, opset_version=17 if old else 18)
    except (
        Exception
    ) as error:  # which exporter takes which neuron depends on both libraries' versions
        pytest.skip(f"torch cannot export it here: {type(error).__name__}")
    program = neurocompile.compile(path, T=3, calibration=x.numpy())
    assert len(program.circuit.views) == 2
    assert program.manifest.exported_T == 3 and program.manifest.import_agreement > 0.999
    report = program.parity(x.numpy(), against=("emulator",), reference=path)
    assert report.exact
    for neurons in (net.lif1, net.lif2):
        neurons.reset()
    with torch.no_grad():
        np.testing.assert_allclose(program.run(x.numpy()).logits, net(x).numpy(), atol=0.15)
