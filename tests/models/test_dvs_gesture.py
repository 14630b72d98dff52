"""A network of the size of DVS128 Gesture, from an AEDAT file to spikes on cores: 16 frames of 2 x 128 x 128,
eleven classes, random weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.events import frames_from_events, load_events

torch = pytest.importorskip("torch")
neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
AEDAT = Path(__file__).parents[1] / "data" / "events.aedat4"


class Gesture(torch.nn.Module):
    """(B, T, 2, 128, 128) to (B, 11)."""

    def __init__(self) -> None:
        super().__init__()
        layer = pytest.importorskip("spikingjelly.activation_based.layer")
        sizes, parts = (2, 8, 16, 16), []
        for before, after in zip(sizes, sizes[1:], strict=False):
            parts.append(layer.Conv2d(before, after, 3, 2, 1, bias=False, step_mode="m"))
            torch.nn.init.normal_(parts[-1].weight, std=1.5)  # few events make every layer fire
            parts.append(neuron.LIFNode(v_reset=0.0, step_mode="m"))
        self.body = torch.nn.Sequential(*parts)
        self.head = layer.Linear(16 * 16 * 16, 11, step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mean over the frames."""
        return self.head(self.body(x.transpose(0, 1)).flatten(2)).mean(0)


@pytest.mark.slow
def test_a_recording_runs_through_a_network_of_that_size(tmp_path: Path) -> None:
    pytest.importorskip("lz4", reason="needs the extra events")
    torch.manual_seed(0)
    frames = frames_from_events(load_events(AEDAT), 16, (2, 128, 128))
    x = np.stack([frames, frames[::-1]])
    program = neurocompile.compile(Gesture().eval(), torch.from_numpy(x), calibration=x)
    report = program.parity(x, against=("emulator", "cores"))
    assert report.exact and program.circuit.steps == 16
    found = program.run(x)
    assert found.logits.shape == (2, 11) and min(found.spikes.values()) > 0
