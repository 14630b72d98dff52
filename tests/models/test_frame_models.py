"""The families on frames of events, as on DVS128 Gesture or CIFAR10-DVS: another input in every
step, exact on Lava.
"""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from neurocompile.models.random_weights import calibrated  # noqa: E402
from neurocompile.models.registry import MODELS  # noqa: E402


def events(name: str, samples: int):
    """Counts of two polarities, 0 to 3, that differ from frame to frame: float32 (samples, T, 2, H,
    W).
    """
    config = MODELS[name].config
    shape = (samples, config.T, 2, config.image_size, config.image_size)
    return torch.poisson(torch.full(shape, 0.4), generator=torch.Generator().manual_seed(2)).clamp(
        max=3
    )


@pytest.mark.parametrize(
    "name",
    [
        "spikformer-tiny",
        pytest.param("qkformer-tiny", marks=pytest.mark.slow),
        pytest.param("spike-driven-transformer-tiny", marks=pytest.mark.slow),
        pytest.param("meta-spikeformer-tiny", marks=pytest.mark.slow),
        pytest.param("spiking-resformer-tiny", marks=pytest.mark.slow),
    ],
)
def test_a_family_on_frames_is_exact_on_lava(name, tmp_path):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    x, T = events(name, 16), MODELS[name].config.T
    path = tmp_path / "model.onnx"
    neurocompile.export_onnx(calibrated(name, x, in_channels=2), x, path, calibration=x.numpy())
    program = neurocompile.compile(path, T=T, calibration=x.numpy())
    assert program.input_shape == tuple(x.shape[1:]) and program.manifest.import_agreement > 0.999
    report = program.parity(x[:3].numpy(), against=("emulator", "lava"), reference=path)
    for backend in report.backends:
        assert backend.differences == 0, backend.first
    assert report.reference is not None
    agreement = [layer.agreement for layer in report.reference.layers]
    assert agreement[0] > 0.94 and np.mean(agreement) > 0.75
    forwards, backwards = (program.run(frames.numpy()).spikes for frames in (x[:3], x[:3].flip(1)))
    assert forwards != backwards, "the order of frames matters"


def test_frames_of_another_number_are_refused():
    with pytest.raises(ValueError, match="samples have 3 frames, the model runs for 4 steps"):
        MODELS["spikformer-tiny"].constructor(MODELS["spikformer-tiny"].config)(
            torch.zeros(1, 3, 1, 32, 32)
        )
