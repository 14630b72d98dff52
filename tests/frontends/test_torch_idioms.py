"""Ways to write a module that many authors share: names, a fused query, key and value, layers over one axis."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402
from neurocompile.reference.onnx import run_onnx  # noqa: E402

torch.set_num_threads(1)
T = 4


def lif(v_threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(v_threshold=v_threshold, step_mode="m")


def same(module: nn.Module, x: torch.Tensor, folder) -> dict[str, np.ndarray]:
    """Spikes of each layer, equal in the module's file and the imported graph."""
    neurocompile.export_onnx(module, x, folder / "m.onnx")
    loaded, got = import_model(folder / "m.onnx", T)
    reference = run_onnx(loaded, got, x.numpy())
    ours = evaluate(got.graph, x.numpy(), T, list(reference.layers))
    for name, spikes in reference.layers.items():
        assert 0.02 < spikes.mean() < 0.98, name
        np.testing.assert_array_equal(ours[name], spikes)
    return reference.layers


# ---- names -----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, n: int, m: int, act: nn.Module) -> None:
        super().__init__()
        self.fc, self.neuron = nn.Linear(n, m), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(self.fc(x))


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(x)


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.second, self.head = Block(8, 12, Wrapped()), Block(12, 9, lif(0.2)), nn.Linear(9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.neuron(x.unsqueeze(0).repeat(T, 1, 1)))).mean(0)


def test_a_neuron_may_be_called_neuron(tmp_path) -> None:
    torch.manual_seed(0)
    assert same(Blocks(), 4 * torch.rand(5, 8), tmp_path).keys() == {"neuron.neuron.neuron", "second.neuron"}
