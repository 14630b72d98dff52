"""Spikformer and QKFormer with soft reset: exact on Lava, close to the float model where no noise
has built up.
"""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly.activation_based")

from neurocompile.models.random_weights import calibrated  # noqa: E402
from neurocompile.models.registry import MODELS  # noqa: E402


def soft(module: torch.nn.Module) -> None:
    """Sets v_reset=None in every neuron of ``module``."""
    from spikingjelly.activation_based import neuron

    for cell in module.modules():
        if isinstance(cell, neuron.BaseNode):
            cell.v_reset = None
            if hasattr(cell, "set_reset_value"):
                cell.set_reset_value("v", 0.0)
            else:
                cell._memories_rv["v"] = 0.0
            cell.v = 0.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spikformer-tiny", "qkformer-tiny"])
def test_a_family_with_soft_reset_is_exact_on_lava(name, tmp_path):
    pytest.importorskip("lava")
    config = MODELS[name].config
    shape = (16, config.in_channels, config.image_size, config.image_size)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)) / 255
    path = tmp_path / "model.onnx"
    neurocompile.export_onnx(
        calibrated(name, images, soft), images, path, calibration=images.numpy()
    )
    program = neurocompile.compile(path, T=config.T, calibration=images.numpy())
    report = program.parity(images[:3].numpy(), against=("emulator", "lava"), reference=path)
    for backend in report.backends:
        assert backend.differences == 0, backend.first
    agreement = [layer.agreement for layer in report.reference.layers]
    figures = program.summary()
    print(
        f"{name}: {[b.values for b in report.backends]} values, 0 differences, spikes equal to the float model "
        f"{agreement[0]:.1%} / {np.mean(agreement):.1%}, {figures.neurons:,} neurons, {figures.cores} cores"
    )
    assert agreement[0] > 0.97 and np.mean(agreement) > 0.8
