"""The tiny reference models compile as their authors wrote them, and run on Lava without one
different spike.
"""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from neurocompile.models.random_weights import calibrated  # noqa: E402
from neurocompile.models.registry import MODELS  # noqa: E402

COMPILED = [
    "spikformer-tiny",
    "qkformer-tiny",
    "spike-driven-transformer-tiny",
    "meta-spikeformer-tiny",
    "spiking-resformer-tiny",
    "spikformer-v2-tiny",
    pytest.param("spikformer-tiny-imagenet", marks=pytest.mark.slow),
    pytest.param("qkformer-tiny-hst", marks=pytest.mark.slow),
    pytest.param("spike-driven-transformer-tiny-imagenet", marks=pytest.mark.slow),
    pytest.param("spiking-resformer-tiny-imagenet", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("convolutions", ["merge", "factor"])
def test_rep_convolutions_are_exact_merged_and_in_factors(convolutions, tmp_path):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1)) / 255
    path = tmp_path / "model.onnx"
    neurocompile.export_onnx(
        calibrated("meta-spikeformer-tiny", images), images, path, calibration=images.numpy()
    )
    program = neurocompile.compile(path, calibration=images.numpy(), convolutions=convolutions)
    report = program.parity(images[:2].numpy(), against=("emulator", "lava"), reference=path)
    assert report.exact and report.reference is not None
    _assert_rates_are_kept(report.reference.layers)


def _assert_rates_are_kept(layers) -> None:
    """A layer that falls silent would still agree with a sparse one in most steps."""
    assert np.mean([layer.agreement for layer in layers]) > 0.7
    errors = [layer.rate_quantized - layer.rate_reference for layer in layers]
    assert np.mean(np.abs(errors)) <= 0.02, errors
    silent = [layer.layer for layer in layers if layer.rate_quantized < 0.3 * layer.rate_reference]
    assert not silent, layers


@pytest.mark.parametrize("name", COMPILED)
def test_a_family_compiles_and_is_exact_on_lava(name, tmp_path):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
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
    # the first layer differs by the rounding of its own weights and inputs; noise through random
    # layers drifts apart
    assert report.reference.layers[0].agreement > 0.94
    _assert_rates_are_kept(report.reference.layers)
