"""E-SpikeFormer (Spike-Driven Transformer V3), small: numbers of spikes 0..4 and their products, T = 1,
exact on Lava.
"""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
from neurocompile.models.registry import build  # noqa: E402
from torch import nn  # noqa: E402


@pytest.mark.slow
def test_e_spikeformer_is_exact_on_lava():
    pytest.importorskip("lava.magma")
    torch.manual_seed(0)
    model = build("e-spikeformer-tiny")
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (16, 3, 32, 32), generator=generator) / 255
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.6)
            nn.init.uniform_(module.bias, 0.2, 0.8)
    with torch.no_grad():
        for _ in range(20):
            model(images)
        theirs = model.eval()(images).numpy()
    program = neurocompile.compile(model, images[:2], calibration=images.numpy())
    assert program.manifest.import_agreement == 1.0
    report = program.parity(images[:2].numpy(), against=("emulator", "lava"))
    assert report.exact
    ours = program.run(images.numpy()).logits
    agreement = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    print(
        f"{[b.values for b in report.backends]} values, 0 differences; logits correlate {agreement:.3f}"
    )
    assert agreement > 0.9
