"""The check of an import, and of an export, goes layer by layer: a flipped spike is one, and a small
layer that is wrong is found.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.agreement import check_import
from neurocompile.frontends.door import open_model
from neurocompile.frontends.model import FloatModel
from neurocompile.ir import spiking as s
from neurocompile.ir.quick import evaluate_quickly

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

from neurocompile.frontends.torch import export  # noqa: E402

WIDTHS = (64, 64, 64, 64, 64, 64, 8)
X = np.random.default_rng(0).uniform(size=(4, 16)).astype(np.float32)


class Chain(nn.Module):
    """Layers in which one spike changes many behind it, the last of them small."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip((16, *WIDTHS), WIDTHS))
        self.neurons = nn.ModuleList(neuron.LIFNode(step_mode="m") for _ in WIDTHS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1)
        for layer, lif in zip(self.layers, self.neurons):
            x = lif(4 * layer(x))
        return x.mean(0)


@pytest.fixture(scope="module")
def compared() -> dict[str, tuple]:
    """What ``export_onnx`` compared."""
    return {}


@pytest.fixture(scope="module")
def exported(compared: dict[str, tuple], tmp_path_factory: pytest.TempPathFactory) -> Path:
    compare = export._compare

    def kept(*given: object) -> None:
        compared["given"] = given
        compare(*given)

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("chain") / "chain.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_compare", kept)
        export.export_onnx(Chain().eval(), X, path, calibration=X)
    return path


def altered(model: FloatModel, layer: int, by: float) -> FloatModel:
    """``model`` whose graph adds ``by`` to the bias of one layer."""
    node = [n for n in model.graph.nodes if isinstance(n, s.Linear)][layer]
    tensors = {**model.graph.tensors, node.bias: model.graph.tensors[node.bias] + np.float32(by)}
    return replace(model, graph=model.graph.replace(tensors=tensors), samples=X)


def test_a_flipped_spike_is_one(exported: Path) -> None:
    model = altered(open_model(exported), 0, 2e-3)
    reference = model.reference.run(X).layers
    free = evaluate_quickly(model.graph, X, 4, list(reference))
    sizes = sum(v.size for v in reference.values())
    others = {k: int((free[k] != v).sum()) for k, v in reference.items()}
    assert 0 < others["neurons.0"] < sum(others.values())  # what lies behind changes too
    assert check_import(model) == pytest.approx(1 - others["neurons.0"] / sizes)


def test_a_small_layer_that_is_wrong_is_named(exported: Path) -> None:
    last = len(WIDTHS) - 1
    with pytest.raises(NeurocompileError, match=f"'neurons.{last}'") as caught:
        check_import(altered(open_model(exported), last, 1.0))
    assert caught.value.code == "NC1011"


@pytest.mark.parametrize(("layer", "by", "refused"), [(0, 2e-3, False), (2, 0.5, True)])
def test_an_exported_file_is_compared_layer_by_layer(
    exported: Path, compared: dict[str, tuple], layer: int, by: float, refused: bool
) -> None:
    content, *rest = compared["given"]
    proto = onnx.ModelProto.FromString(content)
    (bias,) = (t for t in proto.graph.initializer if t.name.endswith(f"layers.{layer}.bias"))
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(by), bias.name)
    )
    if refused:
        with pytest.raises(NeurocompileError, match="NC1011"):
            export._compare(proto.SerializeToString(), *rest)
    else:
        export._compare(proto.SerializeToString(), *rest)
