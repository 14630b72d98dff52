"""What others' files read behind their last neurons, step by step: weighted sums, membranes, one
step alone. Both exporters write their loops out; the host computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from plain_export import exported  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.frontends.agreement import check_import  # noqa: E402
from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402

T = 4
X = np.random.default_rng(0).random((4, 12)).astype("float32")
Tensor = torch.Tensor
WEIGHTS = [0.9, 0.4, 0.25, 0.1]


def weighted(net: Net, steps: list[Tensor]) -> Tensor:
    out = 0
    for t, spikes in enumerate(steps):
        out = out + net.w[t] * net.head(spikes)
    return out


def weighted_classes(net: Net, steps: list[Tensor]) -> Tensor:
    return sum(net.v[t] * net.head(spikes) / 2 for t, spikes in enumerate(steps))


def two_heads(net: Net, steps: list[Tensor]) -> Tensor:
    """Two summands a step, of which one counts half."""
    out = torch.zeros_like(net.head(steps[0]))
    for spikes in steps:
        out = out + net.head(spikes) + 0.5 * net.other(spikes)
    return out


def discounted(net: Net, steps: list[Tensor]) -> Tensor:
    out = torch.zeros_like(net.head(steps[0]))
    for spikes in steps:
        out = 0.5 * out + net.head(spikes)
    return out


def last_membrane(net: Net, steps: list[Tensor]) -> Tensor:
    v = torch.zeros_like(net.head(steps[0]))
    for spikes in steps:
        v = v + (net.head(spikes) - v) / 2
    return v


def membranes(net: Net, steps: list[Tensor], spiking: bool = True) -> tuple[list, list]:
    v, fired, kept = torch.zeros_like(net.head(steps[0])), [], []
    for spikes in steps:
        v = 0.8 * v + net.head(spikes)
        one = (v > 0.2).float()
        fired.append(one)
        kept.append(v)
        v = v - 0.2 * one if spiking else v
    return fired, kept


def last_step(net: Net, steps: list[Tensor]) -> Tensor:
    return net.head(steps[-1])


def last_two(net: Net, steps: list[Tensor]) -> Tensor:
    return (net.head(steps[-1]) + net.head(steps[-2])) / 2


READOUTS: dict[str, Callable] = {
    "a learned weight a step": weighted,
    "learned weights a step and class": weighted_classes,
    "two heads a step": two_heads,
    "a discounted sum": discounted,
    "the last membrane": last_membrane,
    "the mean of membranes": lambda net, x: torch.stack(membranes(net, x, False)[1]).mean(0),
    "the largest membrane": lambda net, x: torch.stack(membranes(net, x, False)[1]).amax(0),
    "membranes that spikes reset": lambda net, x: torch.stack(membranes(net, x)[1]).mean(0),
    "spikes and membranes": lambda net, x: tuple(map(torch.stack, membranes(net, x))),
    "the last step alone": last_step,
    "the last two steps": last_two,
}


class Net(nn.Module):
    def __init__(self, readout: Callable) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.head, self.other = nn.Linear(12, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.w, self.v = nn.Parameter(torch.tensor(WEIGHTS)), nn.Parameter(torch.rand(T, 3))
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        current, v, steps = 2 * self.fc(x), torch.zeros(len(x), 8), []
        for _ in range(T):
            v = v + (current - v) / 2
            spikes = (v >= 0.4).float()
            v = v * (1 - spikes)
            steps.append(spikes)
        return self.readout(self, steps)


@pytest.mark.parametrize(
    "dynamo",
    [
        pytest.param(False, id="torchscript"),
        pytest.param(True, id="dynamo", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("form", list(READOUTS))
def test_what_is_read_of_the_steps(form: str, dynamo: bool, tmp_path: Path) -> None:
    path = exported(Net(READOUTS[form]), tmp_path / "net.onnx", dynamo, X[:2])
    model = open_model(path, calibration=X)
    assert check_import(model) == 1  # spikes equal onnxruntime's, outputs within 1e-3
    layers = [n for n in model.graph.nodes if isinstance(n, s.Linear)]
    assert len(layers) <= 2 + (form == "two heads a step")  # done once for all steps


@pytest.mark.slow
def test_a_weighted_sum_compiles_to_what_torch_computes(tmp_path: Path) -> None:
    net = Net(weighted)
    path = exported(net, tmp_path / "net.onnx", True, X[:2])
    program = neurocompile.compile(path, calibration=X)
    assert program.parity(X, against=("emulator",)).exact
    with torch.no_grad():
        want = net(torch.from_numpy(X)).numpy()
    assert np.abs(program.run(X).logits - want).max() < 0.05 * np.abs(want).max()
