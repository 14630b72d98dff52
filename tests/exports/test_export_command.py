"""``export`` on a program of the user's: its files and what it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.cli import main

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """A perceptron of events for Loihi 1."""
    from spikingjelly.activation_based import neuron

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.l1 = torch.nn.Linear(30, 40, bias=False), neuron.LIFNode(step_mode="m")
            self.b, self.l2 = torch.nn.Linear(40, 24), neuron.LIFNode(step_mode="m")
            self.c = torch.nn.Linear(24, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, T, 30)
            return self.c(self.l2(self.b(self.l1(self.a(x.transpose(0, 1)))))).mean(0)

    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        net.a.weight *= 5
        net.b.weight *= 6
    x = (np.random.default_rng(0).random((8, 8, 30)) < 0.4).astype(np.float32)
    folder = tmp_path_factory.mktemp("events")
    found = neurocompile.compile(net, x[:2], calibration=x, target="loihi1", fold="none")
    found.save(folder / "net.nca")
    np.savez(folder / "x.npz", x=x)
    return folder


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


@pytest.mark.slow
def test_export_writes_what_it_says(program: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(program)
    assert exit_code(["export", "lava", "net.nca", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["output"] == "net.py" and Path(said["weights"]).stat().st_size == said["bytes"]
    compile(Path("net.py").read_text(), "net.py", "exec")
    assert exit_code(["export", "sanafe", "net.nca", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NC6002"
    command = ["export", "sanafe", "net.nca", "--input", "x.npz", "--json"]
    assert exit_code([*command, "--sample", "8"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NC1006"
    assert exit_code([*command, "--sample", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["output"] == "net-sanafe" and said["synapses"] == 30 * 40 + 40 * 24 + 24 * 5
    pytest.importorskip("sanafe", reason="needs the extra oracle (Python 3.10 and 3.11)")
    script = runpy.run_path("net-sanafe/run.py")
    names, _, spikes, read = script["simulate"]("net-sanafe")
    x = np.load("x.npz")["x"]
    expected = neurocompile.load("net.nca").trace(x[2:3])
    for group in names["groups"]:
        values = expected[group["population"]][0].reshape(8, -1)
        if group["read"]:
            np.testing.assert_array_equal(read[group["group"]], values)
        else:
            where = set(zip(*(a.tolist() for a in np.nonzero(values)), strict=True))
            assert set(spikes[group["group"]]) == where and where
