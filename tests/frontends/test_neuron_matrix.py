"""Every neuron that both lines of SpikingJelly have: package, class, step mode, reset and
decay_input, from module to emulator.

0.0.0.0.14 has ``activation_based`` and ``clock_driven``, 2.x the former; the cells of what is
installed run.
"""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("spikingjelly", reason="the extra 'torch' is not installed")

from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402

torch.set_num_threads(1)
T = 3
PACKAGES = [
    p for p in ("activation_based", "clock_driven") if importlib.util.find_spec(f"spikingjelly.{p}")
]
RESETS = [0.0, -0.25, None]
NEURONS = [("IFNode", None), *itertools.product(["LIFNode", "ParametricLIFNode"], [True, False])]
CELLS = list(itertools.product(PACKAGES, "ms", RESETS))


def made(
    package: str, mode: str, kind: str, decay_input: bool | None, v_reset: float | None
) -> nn.Module:
    """One neuron as ``package`` writes it."""
    module = importlib.import_module(f"spikingjelly.{package}.neuron")
    fields = {"v_threshold": 0.75, "v_reset": v_reset}
    if decay_input is not None:
        fields |= {
            "decay_input": decay_input,
            "init_tau" if kind == "ParametricLIFNode" else "tau": 2.0,
        }
    if package == "activation_based":
        return getattr(module, kind)(**fields, step_mode=mode)
    return getattr(module, f"MultiStep{kind}" if mode == "m" else kind)(**fields)


class Net(nn.Module):
    """All of ``NEURONS`` side by side, each with a layer and a head; a neuron gets all steps at
    once, or one a call.
    """

    def __init__(self, package: str, mode: str, v_reset: float | None) -> None:
        super().__init__()
        self.mode = mode
        self.fc, self.head = (
            nn.ModuleList(nn.Linear(*size) for _ in NEURONS) for size in ((6, 8), (8, 3))
        )
        self.lif = nn.ModuleList(made(package, mode, *spiking, v_reset) for spiking in NEURONS)
        with torch.no_grad():  # few bits, so that no rounding of float32 flips a spike
            for one in (*self.fc.parameters(), *self.head.parameters()):
                one.copy_(torch.round(one * 32) / 16)

    def spikes(self, x: torch.Tensor) -> list[torch.Tensor]:
        inputs = [fc(x) for fc in self.fc]
        if self.mode == "m":
            return [lif(i.unsqueeze(0).repeat(T, 1, 1)) for lif, i in zip(self.lif, inputs)]
        return [torch.stack([lif(i) for _ in range(T)]) for lif, i in zip(self.lif, inputs)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(head(fired) for head, fired in zip(self.head, self.spikes(x))).mean(0)


@pytest.mark.parametrize(("package", "mode", "v_reset"), CELLS)
def test_every_neuron_imports_as_it_fires_and_compiles_exactly(
    package, mode, v_reset, tmp_path
) -> None:
    torch.manual_seed(3)
    model = Net(package, mode, v_reset).eval()
    x = torch.randint(-16, 33, (8, 6)) / 16
    with torch.no_grad():
        fired = [f.numpy().swapaxes(0, 1) for f in model.spikes(x)]
    for lif in model.lif:
        lif.reset()
    neurocompile.export_onnx(model, x, tmp_path / "m.onnx")
    graph = import_model(tmp_path / "m.onnx")[1].graph
    names = [f"lif.{i}" for i in range(len(NEURONS))]
    assert sorted(n.name for n in graph.nodes if isinstance(n, s.LIF)) == names
    found = evaluate(graph, x.numpy(), T, names)
    for name, spikes, kind in zip(names, fired, NEURONS):
        assert 0.02 < spikes.mean() < 0.98, kind
        np.testing.assert_array_equal(found[name], spikes, err_msg=str(kind))
    program = neurocompile.compile(tmp_path / "m.onnx", T=T)
    assert program.manifest.import_agreement == 1
    assert program.parity(x.numpy(), against=("emulator",)).exact
