"""A vision transformer with softmax attention, from torch to Lava: exact in integers, and its
attention approaches the float one.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import neurocompile
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly.activation_based")

from neurocompile.models.spiking_vit import SpikingViT, SpikingViTConfig  # noqa: E402


def lively(config: SpikingViTConfig) -> torch.nn.Module:
    """A model whose normalizations let its neurons fire."""
    torch.manual_seed(0)
    module = SpikingViT(config).eval()
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_var.fill_(0.05)
            norm.running_mean.uniform_(-0.3, 0.1)
    return module


def test_a_module_compiles_and_attends(tmp_path):
    module, x = (
        lively(SpikingViTConfig(T=6, image_size=4, dim=8, mlp_hidden=8)),
        2 * torch.rand(4, 1, 4, 4),
    )
    neurocompile.export_onnx(module, x, tmp_path / "vit.onnx", calibration=x.numpy())
    program = neurocompile.compile(tmp_path / "vit.onnx", T=6, calibration=x.numpy())
    assert program.manifest.import_agreement == 1.0
    report = program.parity(x.numpy(), against=("emulator",), reference=tmp_path / "vit.onnx")
    assert [(b.backend, b.differences) for b in report.backends] == [("emulator", 0)]
    assert program.run(x.numpy()).spikes["attention.0.proj_lif"] > 0
    assert [layer.layer for layer in report.reference.layers][-1] == "mlp.0.fc2_lif"


@pytest.mark.slow
def test_lava_finds_no_difference_in_a_model_that_the_command_built(tmp_path):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    module, x = lively(SpikingViTConfig(T=16)), 2 * torch.rand(4, 1, 8, 8)
    neurocompile.export_onnx(module, x, tmp_path / "vit.onnx", calibration=x.numpy())
    command = [sys.executable, "-m", "neurocompile", "build", "vit.onnx", "--T", "16", "--json"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    program = (
        neurocompile.load(tmp_path / json.loads(built.stdout)["out"])
        if "out" in json.loads(built.stdout)
        else neurocompile.load(tmp_path / "vit.nca")
    )
    report = program.parity(
        x[:2].numpy(), against=("emulator", "lava"), reference=tmp_path / "vit.onnx"
    )
    for backend in report.backends:
        assert backend.differences == 0, backend.first
    agreement = {layer.layer: layer.agreement for layer in report.reference.layers}
    print(
        f"SpikingViT, T = 16: {[b.values for b in report.backends]} values, 0 differences; spikes equal to float {agreement}"
    )
    assert min(agreement.values()) > 0.85


@pytest.mark.slow
def test_its_attention_approaches_the_float_softmax_as_one_over_t(tmp_path):
    module, x, errors, T = (
        lively(SpikingViTConfig(T=8)),
        2 * torch.rand(30, 1, 8, 8).numpy(),
        [],
        (8, 16, 32, 64, 128),
    )
    neurocompile.export_onnx(module, x, tmp_path / "vit.onnx", calibration=x)
    for steps in T:
        graph = neurocompile.compile(tmp_path / "vit.onnx", T=steps, calibration=x).quantized
        softmax = next(n for n in graph.nodes if isinstance(n, s.RateSoftmax))
        product = graph.users[softmax.name][0]
        total = graph.users[product.name][0]
        found = evaluate(
            graph, encode_input(graph.input, x), steps, [softmax.x, product.b, total.name]
        )
        scores, value, y = (
            found[i][:, 0].astype(np.float64) / steps for i in (softmax.x, product.b, total.name)
        )
        p = np.exp(8**-0.5 * (scores - scores.max(axis=-1, keepdims=True)))
        expected = p / p.sum(axis=-1, keepdims=True) @ value
        errors.append(np.sqrt(((y / steps - expected) ** 2).mean()))
    slope = np.polyfit(np.log(T), np.log(errors), 1)[0]
    print("error of attention by T:", dict(zip(T, np.round(errors, 5))), f"slope {slope:.2f}")
    assert -1.15 < slope < -0.85
