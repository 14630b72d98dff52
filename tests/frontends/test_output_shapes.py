"""Outputs of any shape come back in torch's: tokens, maps, one number, spikes; and what is no
classification predicts no class.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402

torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self, form: str, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.lif = form, neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.conv, self.token = nn.Conv2d(1, 4, 1), nn.Linear(4, classes)
        self.map = nn.Conv2d(4, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        y = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, (4, -1)))
        if self.form == "tokens":
            return self.token(y.flatten(3).transpose(2, 3)).mean(0)
        if self.form == "spikes":
            return y.mean(0)
        if self.form == "map behind the mean":
            return self.map(y.mean(0))
        if self.form == "pooled behind the mean":
            return nn.functional.avg_pool2d(self.map(y.mean(0)), 2)
        if self.form == "one number":
            return self.token(y.mean((0, 3, 4))).squeeze(-1)
        return self.map(y.flatten(0, 1)).unflatten(0, (4, -1)).mean(0)


CASES = [
    ("tokens", 3, (4, 1, 4, 4)),
    ("tokens", 1, (5, 1, 4, 4)),
    ("tokens", 1, (1, 1, 4, 4)),
    ("map", 3, (4, 1, 4, 4)),
    ("map", 3, (4, 1, 1, 1)),
    ("map", 2, (4, 1, 1, 4)),
    ("map behind the mean", 2, (4, 1, 4, 4)),
    ("pooled behind the mean", 2, (4, 1, 4, 4)),
    ("one number", 1, (4, 1, 2, 2)),
    ("spikes", 3, (4, 1, 4, 4)),
]


@pytest.mark.parametrize(("form", "classes", "shape"), CASES)
def test_run_returns_what_torch_returns(
    form: str, classes: int, shape: tuple[int, ...], tmp_path
) -> None:
    torch.manual_seed(1)
    x, model = torch.rand(shape), Net(form, classes).eval()
    with torch.no_grad():
        want = model(x).numpy()
    model.lif.reset()
    path = tmp_path / "m.onnx"
    neurocompile.export_onnx(model, x, path, calibration=x.numpy())
    program = neurocompile.compile(path, T=4, calibration=x.numpy())
    result = program.run(x.numpy())
    assert result.logits.shape == want.shape
    # 4 steps: one spike more or less is a quarter of a weight
    assert np.abs(result.logits - want).mean() < 0.1 * max(np.abs(want).max(), 0.1)
    report = program.parity(x.numpy(), against=("emulator",), reference=path)
    assert report.exact and report.reference.same_predictions is None
    assert report.reference.output_error < 0.2
    assert not len(result.predictions)
    with pytest.raises(NeurocompileError, match=r"^NC1006 outputs are .*two classes or more"):
        result.accuracy(np.zeros(len(x), np.int64))
    program.save(tmp_path / "m.nca")
    again = neurocompile.load(tmp_path / "m.nca").run(x.numpy())
    np.testing.assert_array_equal(again.logits, result.logits)
