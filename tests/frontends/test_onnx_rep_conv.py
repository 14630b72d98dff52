"""The border that Meta-SpikeFormer's RepConv writes, as each exporter writes it."""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from plain_export import exported  # noqa: E402

X = np.random.default_rng(0).integers(0, 9, (5, 3, 5, 6)).astype(np.float32) / 8


class RepConv(torch.nn.Module):
    """1x1, its norm with a border of what it makes of zero, depthwise 3x3, neurons, over 3 steps."""

    def __init__(self, sides: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.point, self.bn = torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4)
        self.deep = torch.nn.Conv2d(4, 4, 3, groups=4, bias=False)
        self.head, self.sides = torch.nn.Linear(4, 3), sides
        self.bn.running_mean.uniform_(-1, 1)
        self.bn.bias.data.uniform_(-1, 1)

    def forward(self, x):
        y = torch.nn.functional.pad(self.bn(self.point(x)), [1] * 4)
        bn = self.bn
        scale = bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        value = (bn.bias.detach() - bn.running_mean * scale).view(1, -1, 1, 1)
        y[:, :, 0:1, :] = value
        y[:, :, -1:, :] = value
        y[:, :, :, 0:1] = value
        if self.sides == 4:
            y[:, :, :, -1:] = value
        current, v, out = self.deep(y), 0.0, []
        for _ in range(3):
            h = v + (current - v) / 2
            spikes = (h >= 0.25).to(h)
            v = h * (1 - spikes)
            out.append(self.head(spikes.mean((2, 3))))
        return torch.stack(out).mean(0)


EXPORTERS = pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])


@EXPORTERS
@pytest.mark.parametrize("batch", [1, 2])
def test_the_border_of_a_norm_is_the_convolutions_own(dynamo, batch, tmp_path):
    path = exported(RepConv(), tmp_path / "net.onnx", dynamo, X[:batch])
    program = neurocompile.compile(path, calibration=X)
    assert program.manifest.import_agreement == 1.0
    assert program.parity(X, reference=path).exact


@EXPORTERS
def test_a_border_written_on_three_sides_is_refused(dynamo, tmp_path):
    path = exported(RepConv(sides=3), tmp_path / "net.onnx", dynamo, X[:2])
    with pytest.raises(neurocompile.NeurocompileError, match="NC1009"):
        neurocompile.compile(path, calibration=X)
