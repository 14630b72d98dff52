"""Pools whose windows are rounded up, or leave their border out, and the largest value of features."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

T = 4
SAMPLES = np.random.default_rng(0).random((8, 1, 6, 6)).astype("float32")


class Pooled(nn.Module):
    """A pool of real values, a pool of spikes, a head over the largest of each channel."""

    def __init__(self, currents: nn.Module, spikes: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.c2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.l1, self.l2 = (neuron.LIFNode(step_mode="m", v_threshold=0.3) for _ in range(2))
        self.currents, self.spikes, self.head = currents, spikes, nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.currents(2 * self.c1(x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)))
        x = self.spikes(self.l1(x.unflatten(0, (T, -1))).flatten(0, 1))
        x = self.l2(2 * self.c2(x).unflatten(0, (T, -1)))
        return self.head(x.flatten(3).amax(3)).mean(0)


OLD_RUNTIME = tuple(int(n) for n in version("onnxruntime").split(".")[:2]) < (1, 24)


@pytest.mark.parametrize(
    ("currents", "spikes"),
    [
        (nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True)),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), nn.MaxPool2d(2, 2, 1)),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.MaxPool2d(4, 4, ceil_mode=True)),
    ],
)
def test_pools_compile_exactly(currents, spikes):
    if OLD_RUNTIME and isinstance(spikes, nn.AvgPool2d) and spikes.ceil_mode:
        pytest.skip("this onnxruntime divides the last windows of ceil_mode by another count")
    program = neurocompile.compile(Pooled(currents, spikes).eval(), SAMPLES, T=T)
    assert program.summary().import_agreement == 1
    assert program.parity(SAMPLES, against=("emulator",)).exact


class LargestStep(Pooled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.l1(
            self.c1(x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)).unflatten(0, (T, -1))
        )
        return self.head(x.mean((3, 4)).amax(0))


def test_the_largest_step_is_taken_on_the_host():
    net = LargestStep(nn.Identity(), nn.Identity()).eval()
    program = neurocompile.compile(net, SAMPLES, T=T)
    assert program.host is not None
    assert program.parity(SAMPLES, against=["emulator"]).exact
    with torch.no_grad():
        expected = net(torch.as_tensor(SAMPLES)).numpy()
    found = program.run(SAMPLES).logits
    assert found.shape == expected.shape and np.abs(found - expected).max() < 0.1 * np.ptp(expected)
