"""Inputs with a time axis of their own, such as frames of events: refused by one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx_cases import imported, ints, lif, model, normal, op

from neurocompile.errors import NeurocompileError

ADVICE = r"brings a time axis of its own.*repeat it, x\.unsqueeze\(0\)\.repeat\(T, \.\.\.\)"


def frames(batch_first: bool):
    """A network on frames of events (T, B, 2, 4, 4), or (B, T, 2, 4, 4)."""
    torch = pytest.importorskip("torch")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")

    class Frames(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Linear(64, 3)
            self.lif, self.out = neuron.LIFNode(step_mode="m"), neuron.LIFNode(step_mode="m")

        def forward(self, x):
            x = x.transpose(0, 1) if batch_first else x
            x = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            return self.out(self.head(x.flatten(2))).mean(0)

    return Frames(), torch.rand(*((3, 5) if batch_first else (5, 3)), 2, 4, 4)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_module_that_takes_frames_is_refused_with_advice(batch_first: bool) -> None:
    import neurocompile
    from neurocompile.frontends.check import check_model

    module, x = frames(batch_first)
    place = "neuron 'lif' and 1 more get the input's leading axis for time"
    if batch_first:
        place = r"input 'x' is \(batch, 5, 2, 4, 4\): "
    with pytest.raises(NeurocompileError, match=f"^NC1020 {place}.*{ADVICE}") as caught:
        neurocompile.compile(module, x, T=5)
    assert "NC1008" not in str(caught.value)
    assert [r.code for r in check_model(module, x, T=5).reasons] == ["NC1020"]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_file_that_takes_frames_is_refused_with_advice(batch_first: bool, tmp_path: Path) -> None:
    first = [op("Transpose", "x", "t", perm=[1, 0, 2])] if batch_first else [op("Identity", "x", "t")]
    nodes = [*first, op("MatMul", "t w", "f"), lif("f", "l"), op("ReduceMean", "l zero", "out", keepdims=0)]
    with pytest.raises(NeurocompileError, match=f"^NC1020 input 'x'.*{ADVICE}"):
        imported(model(nodes, {"w": normal(6, 3), "zero": ints(0)}, ("batch", 5, 6)), tmp_path)


def test_frames_unrolled_by_another_exporter_are_refused_with_advice(tmp_path: Path) -> None:
    import onnx
    from recover_files import unrolled

    from neurocompile.pipeline import import_model

    onnx.save(unrolled(), tmp_path / "frames.onnx")
    with pytest.raises(NeurocompileError, match=ADVICE) as caught:
        import_model(tmp_path / "frames.onnx")
    assert caught.value.code == "NC1020"


def test_what_is_repeated_stays_what_it_was(tmp_path: Path) -> None:
    nodes = [op("Unsqueeze", "x zero", "x1"), op("Tile", "x1 n", "t"), op("MatMul", "t w", "f"), lif("f", "l"),
             op("ReduceMean", "l zero", "out", keepdims=0)]  # fmt: skip
    constants = {"w": normal(6, 3), "zero": ints(0), "n": ints(5, 1, 1)}
    assert imported(model(nodes, constants, ("batch", 6)), tmp_path)[1].graph.exported_T == 5
