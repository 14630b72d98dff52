"""Inputs that bring their own steps, such as frames of events: (B, T, ...) and (T, B, ...), from
torch and from ONNX.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import imported, ints, lif, model, normal, op

import neurocompile
from neurocompile.check import check_model
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.importer import ImportedModel
from neurocompile.frontends.onnx.load import LoadedModel
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir.evaluate import evaluate
from neurocompile.pipeline import import_model

ADVICE = (
    r"nothing makes the axis of time.*x\.unsqueeze\(0\)\.repeat\(T, \.\.\.\).*x\.transpose\(0, 1\)"
)
T = 5


def network(batch_first: bool, loop: bool = False):
    """A network on frames (T, B, 2, 4, 4), or (B, T, 2, 4, 4); ``loop``: it calls its neurons once
    a step.
    """
    torch = pytest.importorskip("torch")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    torch.manual_seed(0)
    mode = "s" if loop else "m"

    class Frames(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Linear(64, 3)
            self.lif, self.out = neuron.LIFNode(step_mode=mode), neuron.LIFNode(step_mode=mode)

        def over_steps(self, cell, x):
            return torch.stack([cell(current) for current in x]) if loop else cell(x)

        def forward(self, x):
            x = x.transpose(0, 1) if batch_first else x
            x = self.over_steps(self.lif, 2 * self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            return self.over_steps(self.out, 4 * self.head(x.flatten(2))).mean(0)

    return Frames().eval()


def events(samples: int = 12) -> np.ndarray:
    """Counts, float32 (samples, T, 2, 4, 4)."""
    return np.random.default_rng(0).poisson(0.7, (samples, T, 2, 4, 4)).astype(np.float32)


def agreement(found: tuple[LoadedModel, ImportedModel], x: np.ndarray) -> float:
    """Share of equal spikes of a file in onnxruntime and its graph."""
    loaded, read = found
    theirs = run_onnx(loaded, read, x).layers
    ours = evaluate(read.graph, x, read.graph.exported_T, list(theirs))
    return float(np.mean([np.mean(ours[name] == spikes) for name, spikes in theirs.items()]))


@pytest.mark.parametrize("batch_first, loop", [(True, False), (True, True), (False, False)])
def test_a_module_on_frames_is_exact_and_close_to_itself(
    batch_first: bool, loop: bool, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    from spikingjelly.activation_based import functional

    module, x = network(batch_first, loop), events()
    own = torch.from_numpy(x if batch_first else x.swapaxes(0, 1).copy())
    program = neurocompile.compile(module, own, T=T, calibration=x)
    assert program.input_shape == (T, 2, 4, 4) and program.manifest.exported_T == T
    program.save(tmp_path / "frames.nca")
    program = neurocompile.load(tmp_path / "frames.nca")
    neurocompile.export_onnx(module, own, tmp_path / "frames.onnx", calibration=x)
    report = program.parity(x, against=("emulator", "lava"), reference=tmp_path / "frames.onnx")
    assert report.exact and report.reference is not None
    assert all(layer.agreement > 0.99 for layer in report.reference.layers)
    assert min(layer.rate_reference for layer in report.reference.layers) > 0
    with torch.no_grad():
        functional.reset_net(module)
        expected = module(own).numpy()
    assert np.abs(program.run(x).logits - expected).max() <= 1 / T + 1e-6, "a spike or none"
    assert program.run(x[:, ::-1]).spikes != program.run(x).spikes, "the order of frames matters"


@pytest.mark.parametrize("batch_first", [True, False])
def test_files_on_frames(batch_first: bool, tmp_path: Path) -> None:
    first = (
        [op("Transpose", "x", "t", perm=[1, 0, 2])] if batch_first else [op("Identity", "x", "t")]
    )
    nodes = [
        *first,
        op("MatMul", "t w", "f"),
        lif("f", "l"),
        op("ReduceMean", "l zero", "out", keepdims=0),
    ]
    shape = ("batch", 5, 6) if batch_first else (5, "batch", 6)
    found = imported(model(nodes, {"w": normal(6, 3), "zero": ints(0)}, shape), tmp_path)
    source = found[1].graph.input
    assert (source.shape, source.steps, source.sample_shape) == ((6,), 5, (5, 6)) and found[
        1
    ].graph.exported_T == 5
    assert found[1].time_first is not batch_first
    assert agreement(found, normal(7, 5, 6, seed=1)) == 1.0


def test_frames_unrolled_by_another_exporter(tmp_path: Path) -> None:
    from recover_files import unrolled

    onnx.save(unrolled(), tmp_path / "frames.onnx")
    found = import_model(tmp_path / "frames.onnx")
    assert found[1].graph.input.steps == 3 and agreement(found, normal(7, 3, 6, seed=1)) == 1.0
    program = neurocompile.compile(
        tmp_path / "frames.onnx", T=3, calibration=normal(7, 3, 6, seed=1)
    )
    assert program.input_shape == (3, 6) and program.manifest.import_agreement == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
def test_frames_as_torch_exports_them(dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from test_onnx_recover_torch import export

    path = tmp_path / "frames.onnx"
    options = (
        {
            "opset_version": 18,
            "dynamic_shapes": ({0: torch.export.Dim("batch")},),
            "external_data": False,
        }
        if dynamo
        else {"opset_version": 17}
    )
    export(network(batch_first=True), torch.from_numpy(events(3)), path, dynamo=dynamo, **options)
    found = import_model(path)
    assert found[1].graph.input.steps == T and agreement(found, events(6)) == 1.0


def test_the_steps_are_those_that_samples_bring(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module, x = network(True), torch.from_numpy(events())
    with pytest.raises(
        NeurocompileError,
        match=r"^NC1021 T is 4, and a sample of input 'x' brings 5 steps of its own, \[5, 2, 4, 4\]",
    ):
        neurocompile.compile(module, x, T=4)
    found = check_model(module, x)
    assert found.compiles and not found.reasons
    with pytest.raises(
        NeurocompileError, match=r"NC1006 x has shape \[12, 2, 4, 4\]; \[samples, 5, 2, 4, 4\]"
    ):
        neurocompile.compile(module, x, T=5, calibration=x.numpy()).run(x[:, 0].numpy())
    with pytest.raises(NeurocompileError, match="^NC1006 calibration"):
        neurocompile.export_onnx(module, x, tmp_path / "x.onnx", calibration=x[:, :3].numpy())


def test_a_loop_over_the_leading_axis_is_refused_with_advice() -> None:
    """Its trip count is the batch, as far as torch.export can tell."""
    torch = pytest.importorskip("torch")
    frames = torch.from_numpy(events().swapaxes(0, 1).copy())
    with pytest.raises(
        NeurocompileError, match="^NC1013 .* The leading axis of the input must be the batch"
    ):
        neurocompile.compile(network(batch_first=False, loop=True), frames, T=T)


def test_neurons_that_run_over_samples_are_refused_with_advice(tmp_path: Path) -> None:
    """Nothing moves the time of (batch, 5, 6) to the front."""
    nodes = [op("MatMul", "x w", "f"), lif("f", "l"), op("ReduceMean", "l zero", "out", keepdims=0)]
    with pytest.raises(NeurocompileError, match=f"^NC1020 input 'x'.*{ADVICE}"):
        imported(model(nodes, {"w": normal(6, 3), "zero": ints(0)}, ("batch", 5, 6)), tmp_path)


def test_what_is_repeated_stays_what_it_was(tmp_path: Path) -> None:
    nodes = [
        op("Unsqueeze", "x zero", "x1"),
        op("Tile", "x1 n", "t"),
        op("MatMul", "t w", "f"),
        lif("f", "l"),
        op("ReduceMean", "l zero", "out", keepdims=0),
    ]
    constants = {"w": normal(6, 3), "zero": ints(0), "n": ints(5, 1, 1)}
    graph = imported(model(nodes, constants, ("batch", 6)), tmp_path)[1].graph
    assert graph.exported_T == 5 and graph.input.steps == 0
