"""Neurons in files that torch's exporters wrote, without our marker, over versions of SpikingJelly
and of ONNX.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.qkformer import QKFormer, QKFormerConfig  # noqa: E402
from recover_checks import PLAIN, check, imported_layers, lifs  # noqa: E402
from recover_export import export  # noqa: E402
from spikingjelly.activation_based import functional, neuron  # noqa: E402
from torch import nn  # noqa: E402

from neurocompile.frontends.onnx.lif import DOMAIN  # noqa: E402

torch.set_num_threads(1)


class Heaviside(nn.Module):
    """A surrogate that any exporter can write."""

    spiking = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x >= 0).to(x)


class Net(nn.Module):
    """Two neurons over time at once ("m"), or the network called once a step ("s")."""

    def __init__(self, make, mode: str, steps: int) -> None:
        super().__init__()
        self.mode, self.steps = mode, steps
        self.fc, self.n1, self.fc2, self.n2 = (
            nn.Linear(6, 8),
            make(mode),
            nn.Linear(8, 5, bias=False),
            make(mode),
        )
        for layer in (self.fc, self.fc2):
            nn.init.normal_(layer.weight, 0.4, 0.8, generator=torch.Generator().manual_seed(3))

    def one(self, x: torch.Tensor) -> torch.Tensor:
        return self.n2(self.fc2(self.n1(self.fc(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "m":
            return self.one(x.unsqueeze(0).repeat(self.steps, 1, 1)).mean(0)
        return sum(self.one(x) for _ in range(self.steps)) / self.steps


class ConvNet(nn.Module):
    """Single-step layers with a residual of spikes, stacked over time at the end."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.c1, self.b1, self.c2, self.fc = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1),
            nn.Linear(64, 5),
        )
        self.n1, self.n2, self.n3 = (
            neuron.LIFNode(surrogate_function=Heaviside(), v_threshold=0.3) for _ in range(3)
        )
        for layer in (self.c1, self.c2, self.fc):
            nn.init.normal_(layer.weight, 0.2, 0.5, generator=torch.Generator().manual_seed(3))

    def one(self, x: torch.Tensor) -> torch.Tensor:
        y = self.n1(self.b1(self.c1(x)))
        y = nn.functional.max_pool2d(y + self.n2(self.c2(y)), 2)
        return self.n3(self.fc(y.flatten(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.one(x) for _ in range(self.steps)]).mean(0)


def made(kind: type, **fields):
    return lambda mode: kind(step_mode=mode, surrogate_function=Heaviside(), **fields)


def attributes(
    tau: float, decay: int, v_reset: float = 0.0, soft: int = 0, v_threshold: float = 1.0
) -> dict[str, float]:
    return {
        "tau": tau,
        "v_threshold": v_threshold,
        "v_reset": v_reset,
        "decay_input": decay,
        "soft_reset": soft,
    }


LIF, PLIF, IF, INF = neuron.LIFNode, neuron.ParametricLIFNode, neuron.IFNode, float("inf")
NEURONS = {
    "lif": (made(LIF, tau=2.0), attributes(2.0, 1)),
    "lif_reset": (made(LIF, tau=3.0, v_reset=-0.25), attributes(3.0, 1, -0.25)),
    "lif_soft": (made(LIF, tau=3.0, v_reset=None), attributes(3.0, 1, 0.0, 1)),
    "lif_plain": (
        made(LIF, tau=1.7, decay_input=False, v_threshold=0.5),
        attributes(1.7, 0, v_threshold=0.5),
    ),
    "lif_plain_reset": (
        made(LIF, tau=1.7, decay_input=False, v_reset=0.2),
        attributes(1.7, 0, 0.2),
    ),
    "lif_plain_soft": (
        made(LIF, tau=1.7, decay_input=False, v_reset=None),
        attributes(1.7, 0, 0.0, 1),
    ),
    "if": (made(IF), attributes(INF, 0)),
    "if_reset": (made(IF, v_reset=0.1), attributes(INF, 0, 0.1)),
    "if_soft": (made(IF, v_reset=None), attributes(INF, 0, 0.0, 1)),
    "plif": (made(PLIF, init_tau=2.5), attributes(2.5, 1)),
    "plif_reset": (
        made(PLIF, init_tau=2.5, decay_input=False, v_reset=0.2),
        attributes(2.5, 0, 0.2),
    ),
}


CASES = [
    "lif",
    "lif_reset",
    "lif_soft",
    "lif_plain",
    "lif_plain_reset",
    "lif_plain_soft",
    "if",
    "if_reset",
    "if_soft",
    "plif",
    "plif_reset",
]


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("case", CASES)
def test_torchscript_exporter(case: str, mode: str, tmp_path: Path) -> None:
    make, expected = NEURONS[case]
    opset, steps = 13 + CASES.index(case) % 6, 2 + CASES.index(case) % 4
    network = Net(make, mode, steps).train()
    proto = export(
        network,
        torch.ones(2, 6),
        tmp_path / "x.onnx",
        dynamo=False,
        opset_version=opset,
        dynamic_axes={"x": {0: "batch"}},
    )
    recovered = check(
        proto, 2, 6
    )  # SpikingJelly 0.0.0.0.14 writes the batch of its first membrane as a constant
    assert lifs(recovered) == [expected, expected]
    assert [n.name for n in recovered.graph.node if n.domain == DOMAIN] == ["n1", "n2"]
    assert imported_layers(recovered, tmp_path) == 2


@pytest.mark.parametrize(
    ("case", "mode"), [("lif_reset", "m"), ("plif_reset", "m"), ("lif_soft", "s"), ("if", "s")]
)
def test_dynamo_exporter(case: str, mode: str, tmp_path: Path) -> None:
    make, expected = NEURONS[case]
    recovered = check(
        export(
            Net(make, mode, 3).eval(),
            torch.ones(2, 6),
            tmp_path / "x.onnx",
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
        ),
        3,
        6,
    )
    assert lifs(recovered) == [expected, expected]
    assert [n.name for n in recovered.graph.node if n.domain == DOMAIN] == ["n1", "n2"]
    assert imported_layers(recovered, tmp_path) == 2


@pytest.mark.parametrize(("mode", "steps"), [("m", 1), ("m", 4), ("s", 1), ("s", 4)])
def test_scripted_neurons_of_older_spikingjelly(mode: str, steps: int, tmp_path: Path) -> None:
    """In eval mode its LIF is a scripted loop, which becomes a Loop for each neuron."""
    network = Net(lambda m: LIF(step_mode=m, tau=1.5), mode, steps).eval()
    proto = export(network, torch.ones(2, 6), tmp_path / "x.onnx", dynamo=False, opset_version=17)
    recovered = check(proto, 2, 6)
    assert len(lifs(recovered)) == 2 and imported_layers(recovered, tmp_path) == 2


@pytest.mark.parametrize("dynamo", [False, True])
def test_single_step_convolutions(dynamo: bool, tmp_path: Path) -> None:
    proto = export(
        ConvNet(3).eval(),
        torch.ones(2, 1, 8, 8),
        tmp_path / "x.onnx",
        dynamo=dynamo,
        opset_version=18 if dynamo else 15,
    )
    recovered = check(proto, 2, 1, 8, 8)
    assert lifs(recovered) == [{**PLAIN, "v_threshold": 0.3}] * 3
    assert sum(n.op_type == "Conv" for n in recovered.graph.node) == 2
    assert imported_layers(recovered, tmp_path) == 3


def test_qkformer(tmp_path: Path) -> None:
    model = QKFormer(QKFormerConfig(T=2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 2.5)
    for _ in range(4):  # statistics of the normalizations
        functional.reset_net(model)
        with torch.no_grad():
            model.train()(torch.rand(4, 1, 8, 8))
    sample = torch.rand(2, 1, 8, 8)
    old = hasattr(LIF, "jit_eval_multi_step_forward_hard_reset_decay_input")
    proto = export(model.eval(), sample, tmp_path / "x.onnx", dynamo=not old, opset_version=18)
    start = time.perf_counter()
    recovered = check(proto, 2, 1, 8, 8)
    assert time.perf_counter() - start < 5
    assert len(lifs(recovered)) == 19 and imported_layers(recovered, tmp_path) == 19
