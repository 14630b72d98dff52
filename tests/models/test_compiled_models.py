"""The tiny reference models compile as their authors wrote them, and run on Lava without one different spike."""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from neurocompile.models.registry import MODELS, build  # noqa: E402

COMPILED = [
    "spikformer-tiny",
    "qkformer-tiny",
    "spike-driven-transformer-tiny",
    "meta-spikeformer-tiny",
    "spiking-resformer-tiny",
    pytest.param("spikformer-tiny-imagenet", marks=pytest.mark.slow),
    pytest.param("qkformer-tiny-hst", marks=pytest.mark.slow),
    pytest.param("spike-driven-transformer-tiny-imagenet", marks=pytest.mark.slow),
    pytest.param("spiking-resformer-tiny-imagenet", marks=pytest.mark.slow),
]


def calibrated(name: str, images: torch.Tensor) -> torch.nn.Module:
    """Random weights, normalizations with the statistics of ``images``, biases that make neurons fire."""
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    model = build(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.bias, 0.2, 1.0)
            module.momentum = None  # the mean over all batches seen
    with torch.no_grad():
        for _ in range(2):
            model(images)
            functional.reset_net(model)
    return model.eval()


@pytest.mark.parametrize("convolutions", ["merge", "factor"])
def test_rep_convolutions_are_exact_merged_and_in_factors(convolutions, tmp_path):
    pytest.importorskip("lava")
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1)) / 255
    path = tmp_path / "model.onnx"
    neurocompile.export_onnx(calibrated("meta-spikeformer-tiny", images), images, path, calibration=images.numpy())
    program = neurocompile.compile(path, calibration=images.numpy(), convolutions=convolutions)
    report = program.parity(images[:2].numpy(), against=("emulator", "lava"), reference=path)
    assert report.exact and report.reference is not None
    assert np.mean([layer.agreement for layer in report.reference.layers]) > 0.75


@pytest.mark.parametrize("name", COMPILED)
def test_a_family_compiles_and_is_exact_on_lava(name, tmp_path):
    pytest.importorskip("lava")
    config = MODELS[name].config
    shape = (16, config.in_channels, config.image_size, config.image_size)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)) / 255
    path = tmp_path / "model.onnx"
    neurocompile.export_onnx(calibrated(name, images), images, path, calibration=images.numpy())
    program = neurocompile.compile(path, T=config.T, calibration=images.numpy())
    assert program.manifest.import_agreement > 0.999
    report = program.parity(images[:3].numpy(), against=("emulator", "lava"), reference=path)
    for backend in report.backends:
        assert backend.differences == 0, backend.first
    assert report.reference is not None
    # the first layer differs by the rounding of its own weights and inputs; noise through random layers drifts apart
    assert report.reference.layers[0].agreement > 0.94
    assert np.mean([layer.agreement for layer in report.reference.layers]) > 0.75
