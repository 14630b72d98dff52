"""An axis of size 1 keeps its role: a file with a batch of 1 gives the graph, and the integers, of
the same file with a batch of 2 or an open one.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.ir.spiking import SpikingGraph  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402

torch.set_num_threads(1)
T = 4


class Neuron(nn.Module):
    """tau 2, hard reset to 0, over the first axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for t in range(len(x)):
            v = v + (x[t] - v) / 2.0
            spikes.append((v >= 1.0).float())
            v = v * (1 - spikes[-1])
        return torch.stack(spikes)


class Net(nn.Module):
    """``form``: where the head is, how time lies, and which axes have one element."""

    def __init__(self, form: str, channels: int = 3, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.neuron = form, Neuron()
        linear = form in ("linear", "linear behind", "squeezed")
        self.first = nn.Linear(12, width) if linear else nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 1 if form == "squeezed" else classes)
        with torch.no_grad():
            for layer in (self.first, self.second, self.query, self.key):
                layer.weight.mul_(4)

    def over_time(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = layer(x.flatten(0, 1))
        return y.reshape(x.shape[0], x.shape[1], *y.shape[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.form == "loop":
            return self.loop(x)
        x = x.unsqueeze(0).repeat(T, *[1] * x.dim())
        y = self.neuron(self.over_time(self.first, x))
        if self.form == "linear":
            return self.head(y).mean(0)
        if self.form == "linear behind":
            return self.head(y.mean(0))
        if self.form == "squeezed":
            return self.head(y.mean(0)).squeeze(-1)
        if self.form == "keepdims":
            y = y.mean((3, 4), keepdim=True)
            return self.head(y.flatten(2)).mean(0, keepdim=True).squeeze(0)
        if self.form == "attention":
            return self.attention(y.flatten(3).transpose(2, 3))
        if self.form == "map behind":
            return self.second(y.mean(0))
        y = y.flatten(3).mean(3)
        return self.head(y.mean(0)) if self.form == "conv behind" else self.head(y).mean(0)

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        """One head, query and key as spikes."""
        steps, batch, tokens, width = x.shape
        q = self.neuron(self.query(x)).reshape(steps, batch, tokens, 1, width).transpose(2, 3)
        k = self.neuron(self.key(x)).reshape(steps, batch, tokens, 1, width).transpose(2, 3)
        y = (q @ k.transpose(-2, -1)) @ k
        y = self.neuron(y.transpose(2, 3).reshape(steps, batch, tokens, width) * 0.25)
        return self.head(y.mean(2)).mean(0)

    def loop(self, x: torch.Tensor) -> torch.Tensor:
        x, out = self.first(x), []
        v = torch.zeros_like(x)
        for _ in range(T):
            v = v + (x - v) / 2.0
            spikes = (v >= 1.0).float()
            v = v * (1 - spikes)
            out.append(self.head(spikes.mean((2, 3))))
        return torch.stack(out).mean(0)


CASES = {
    "conv": (Net("conv"), (3, 4, 4)),
    "conv behind": (Net("conv behind"), (3, 4, 4)),
    "linear": (Net("linear"), (12,)),
    "linear behind": (Net("linear behind"), (12,)),
    "loop": (Net("loop"), (3, 4, 4)),
    "keepdims": (Net("keepdims"), (3, 4, 4)),
    "one channel": (Net("conv", channels=1), (1, 4, 4)),
    "one feature": (Net("conv behind", width=1), (3, 4, 4)),
    "one class": (Net("conv", classes=1), (3, 4, 4)),
    "one number": (Net("squeezed"), (12,)),
    "one position": (Net("conv"), (3, 1, 1)),
    "one head": (Net("attention"), (3, 2, 2)),
    "one head, one token": (Net("attention"), (3, 1, 1)),
    "map": (Net("map behind"), (3, 4, 4)),
    "map of one position": (Net("map behind"), (3, 1, 1)),
}
DYNAMIC = ("linear behind", "conv", "loop")


def export(model: nn.Module, path: Path, x: np.ndarray, dynamo: bool, batch: int | None) -> Path:
    options = {"opset_version": 18, "dynamo": dynamo, "verbose": False}
    if batch is None:
        options["dynamic_shapes"] = {"x": {0: torch.export.Dim("batch", min=2, max=64)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model.eval(), (torch.as_tensor(x[: batch or 3]),), str(path), **options
            )
        except Exception as error:  # of the exporter, with this torch
            pytest.skip(f"this torch cannot write the file: {type(error).__name__}")
    return path


def form_of(graph: SpikingGraph) -> list[tuple]:
    """What a graph computes, without the names that an exporter chose."""
    number = {n.name: k for k, n in enumerate(graph.nodes)}
    forms = []
    for node in graph.nodes:
        fields = {
            k: v
            for k, v in vars(node).items()
            if k != "name" and k not in ("weight", "bias", "scale", "shift", "mean", "var")
        }
        fields = {k: number.get(v, v) for k, v in fields.items()}
        forms.append((type(node).__name__, *sorted(fields.items(), key=lambda item: item[0])))
    return forms


ROUTES = [
    pytest.param(
        name, dynamo, marks=[pytest.mark.slow] if dynamo and name != "linear behind" else []
    )
    for name in CASES
    for dynamo in (False, True)
    if name != "one head, one token"  # views of one element are written in two ways
]


@pytest.mark.parametrize(("name", "dynamo"), ROUTES)
def test_a_batch_of_one_imports_as_a_batch_of_two(name: str, dynamo: bool, tmp_path) -> None:
    model, shape = CASES[name]
    x = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype(np.float32)
    graphs = {}
    for batch in (1, 2, None) if dynamo and name in DYNAMIC else (1, 2):
        path = export(model, tmp_path / f"b{batch}.onnx", x, dynamo, batch)
        graphs[batch] = import_model(path)[1].graph
    one, *others = graphs.values()
    for other in others:
        assert form_of(one) == form_of(other)


@pytest.mark.parametrize("name", ["one channel", "one head, one token", "one number"])
def test_a_batch_of_one_gives_the_integers_of_two(name: str, tmp_path) -> None:
    model, shape = CASES[name]
    x = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype(np.float32)
    found = []
    for batch in (1, 2):
        path = export(model, tmp_path / f"b{batch}.onnx", x, False, batch)
        program = neurocompile.compile(path, T=T, calibration=x)
        assert program.parity(x, against=("emulator",), reference=path).exact
        found.append(program.run(x).logits)
    with torch.no_grad():
        assert found[0].shape == model(torch.as_tensor(x)).shape
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "dynamo"])
def test_a_neuron_over_steps_and_samples_is_exact_alone_and_named_with_others(
    dynamo: bool, tmp_path
) -> None:
    """QKFormer's published attention runs ``proj_lif`` over T * B."""
    pytest.importorskip("spikingjelly")
    import official_forms as forms
    from test_onnx_recover_torch import Heaviside

    torch.manual_seed(0)
    x = torch.randint(0, 256, (4, 3, 8, 8)) / 255
    model = forms.calibrated(forms.QKFormer(True), x)
    for module in model.modules():
        if hasattr(module, "surrogate_function"):
            module.surrogate_function = Heaviside()
            module.train()  # in eval mode SpikingJelly calls kernels of its own
    path = tmp_path / "m.onnx"
    options = {"opset_version": 18, "dynamo": dynamo, "verbose": False}
    if not dynamo:
        options["training"] = torch.onnx.TrainingMode.PRESERVE
    for batch in (1, 2):
        for module in model.modules():
            if hasattr(module, "surrogate_function"):
                module.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x[:batch],), str(path), **options)
        if batch == 1:
            program = neurocompile.compile(path, T=T, calibration=x.numpy())
            assert program.parity(x.numpy(), against=("emulator",), reference=path).exact
            continue
        with pytest.raises(
            neurocompile.NeurocompileError, match="samples of a batch leak"
        ) as found:
            neurocompile.compile(path, T=T, calibration=x.numpy())
        assert found.value.code == "NC1008"
        assert dynamo or "proj_lif" in found.value.message


class Reduced(nn.Module):
    """``form``: reductions over axes that have one element by then."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.neuron = form, Neuron()
        self.first, self.head = nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.neuron(torch.stack([4 * self.first(x)] * T))
        if self.form == "time, then what is left of it":
            return self.head(spikes).mean(0, keepdim=True).mean(0)
        if self.form == "one token":
            return self.head(spikes.unsqueeze(2).mean(2)).mean(0)
        return self.head(spikes.unsqueeze(2).sum(2, keepdim=True).squeeze(2)).mean(0)


@pytest.mark.parametrize("form", ["time, then what is left of it", "one token", "one token, kept"])
def test_a_reduction_of_one_value_is_no_neuron(form: str, tmp_path) -> None:
    path, x = tmp_path / "m.onnx", torch.rand(2, 12)
    torch.onnx.export(Reduced(form).eval(), (x,), path, dynamo=False, opset_version=17)
    graph = neurocompile.open(path, cache=False).canonical().graph
    kinds = [type(n).__name__ for n in graph.nodes]
    assert kinds == ["Input", "Linear", "LIF", "Linear", "TimeMean", "Output"]
