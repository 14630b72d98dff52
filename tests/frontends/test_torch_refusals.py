"""What is said of torch modules, objects and files that do not compile; and precision and forms of
input that do.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

import neurocompile
from neurocompile.check import check_model
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import open_model
from neurocompile.options import BuildOptions

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

import torch.nn.functional as F  # noqa: E402
from spikingjelly.activation_based import encoding, layer, neuron  # noqa: E402
from torch import nn  # noqa: E402

T = 4
X = np.random.default_rng(0).random((4, 1, 4, 4)).astype("float32")


class Small(nn.Module):
    """One LIF of several steps."""

    def __init__(self, steps: int = T, mode: str = "m") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.steps_inside = steps
        self.fc, self.head = nn.Linear(16, 8), nn.Linear(8, 4)
        self.lif = neuron.LIFNode(step_mode=mode)

    def forward(self, x):
        x = 4 * self.fc(x)
        if self.lif.step_mode == "s":
            return self.head(self.lif(x))
        return self.head(self.lif(x.unsqueeze(0).repeat(self.steps_inside, 1, 1)).mean(0))


class Net(nn.Module):
    """Holds every module, and calls those of its ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.encoder = kind, encoding.PoissonEncoder(step_mode="m")
        self.conv, self.attention = nn.Conv2d(1, 8, 3, padding=1), nn.MultiheadAttention(8, 2)
        self.lif = neuron.LIFNode(step_mode="m", v_threshold=0.3)
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.ql, self.kl, self.vl = (neuron.LIFNode(step_mode="m", v_threshold=0.3) for _ in "qkv")
        self.delay = layer.Delay(1, step_mode="m")
        self.head = nn.Linear({"adaptive pool": 120, "max over time": 128}.get(kind, 8), 10)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        x = self.encoder(x) if self.kind == "encoder" else x
        s = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, (T, -1)))
        s = self.delay(s) if self.kind == "delay" else s
        if self.kind == "adaptive pool":
            s = F.adaptive_avg_pool2d(s.flatten(0, 1), (5, 3)).flatten(1)
            return self.head(s.unflatten(0, (T, -1)).mean(0))
        if self.kind == "max over time":
            return self.head(s.flatten(2)).max(0)[0]
        tokens = s.flatten(3).transpose(2, 3)
        if self.kind in ("encoder", "delay"):
            return self.head(tokens.mean(2)).mean(0)
        if self.kind == "attention":
            rate = tokens.mean(0).transpose(0, 1)
            return self.head(self.attention(rate, rate, rate)[0].mean(0))
        q, k, v = self.ql(self.q(tokens)), self.kl(self.k(tokens)), self.vl(self.v(tokens))
        if self.kind == "sdpa":
            return self.head(
                F.scaled_dot_product_attention(q.mean(0), k.mean(0), v.mean(0)).mean(1)
            )
        score = (q @ k.transpose(2, 3)).mean(0) * 0.3
        if self.kind == "mask":
            score = score + torch.full((16, 16), -torch.inf).triu(1)
        if self.kind == "bias":
            score = score + torch.arange(256.0).reshape(16, 16) / 256
        return self.head((score.softmax(-1) @ v.mean(0)).mean(1))


@pytest.mark.parametrize(
    ("kind", "named", "misleading"),
    [
        ("adaptive pool", "adaptive pool", "index_select"),
        ("max over time", "over time", "MaxPool"),
        ("encoder", "module 'encoder', a PoissonEncoder: draws random", "depends on values"),
        ("attention", "module 'attention', a MultiheadAttention", "mixes time or batch"),
        ("mask", "a mask of attention scores", "NaN or infinite"),
        ("bias", "a bias or mask of attention scores", "embedding of positions"),
        ("sdpa", "operator aten.scaled_dot_product_attention", "Next steps"),
        ("delay", "module 'delay', a Delay: delays spikes", "report"),
    ],
)
def test_a_refusal_names_what_the_user_wrote(kind, named, misleading, monkeypatch):
    """Or it compiles, where a front end learnt it since."""
    monkeypatch.setattr(logging.root, "disabled", True)
    found = check_model(Net(kind).eval(), X, calibration=X)
    told = " ".join(f"module '{r.module}', a {r.kind}: {r.why}" for r in found.reasons)
    if not found.compiles:
        assert named in told and misleading not in told, told
        assert not any(other in told for other in ("encoder", "Delay") if other not in named)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_compile_as_float_of_theirs(kind):
    x = torch.from_numpy(X).flatten(1)
    expected = open_model(Small().to(kind).float().eval(), x)
    for example in (x, x.to(kind)):
        model = Small().to(kind).eval()
        with pytest.warns(UserWarning, match=r"as model\.float\(\)"):
            found = open_model(model, example)
        assert found.sha256 == expected.sha256 or example is not x
        assert found.graph.text() == expected.graph.text()
        assert model.fc.weight.dtype == kind


def test_a_tuple_of_one_is_the_one_and_two_inputs_are_refused():
    x = torch.from_numpy(X).flatten(1)
    assert check_model(Small().eval(), (x,)).compiles
    assert check_model(Small().eval(), [x, None]).compiles
    for several in ((x, x), {"x": x, "y": x}):
        (reason,) = check_model(Small().eval(), several).reasons
        assert reason.code == "NC1009" and "2 inputs, one is supported" in reason.why


def test_wrappers_of_training_are_taken_off():
    x = torch.from_numpy(X).flatten(1)
    assert check_model(nn.DataParallel(Small().eval()), x).compiles
    assert check_model(torch.compile(Small().eval()), x).compiles


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Small().state_dict(), "a state_dict: weights without a network"),
        (lambda: {"state_dict": {}, "epoch": 3}, "a checkpoint: weights without a network"),
        (lambda: Small, "the class Small; give an instance"),
        (lambda: torch.jit.script(nn.Linear(2, 2)), "TorchScript"),
        (lambda: torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)), "TorchScript"),
        (lambda: torch.export.export(nn.Linear(2, 2), (torch.rand(1, 2),)), "torch.export"),
        (lambda: onnx.ModelProto(), "onnx.save"),
        (lambda: torch.rand(2, 2), "an array"),
        (lambda: nn.Linear(2, 2).forward, "a function (forward)"),
        (lambda: None, "None"),
    ],
)
def test_objects_that_are_no_model_are_told_apart(make, said):
    with pytest.raises(NeurocompileError) as error:
        neurocompile.compile(make(), X)
    assert error.value.code == "NC1014" and said in error.value.message
    if said != "None":
        with pytest.raises(NeurocompileError, match="NC1014"):
            neurocompile.export_onnx(make(), X, "absent.onnx")


@pytest.mark.parametrize(
    ("example", "code"),
    [
        (torch.rand(2, 16, device="meta"), "NC1006"),
        (torch.rand(2, 16).to_sparse(), "NC1006"),
        (torch.nested.nested_tensor([torch.rand(16), torch.rand(8)]), "NC1006"),
        (torch.rand(2, 16).to(torch.complex64), "NC1006"),
        (torch.ones(2, 16, dtype=torch.bool), "NC1006"),
        (torch.full((2, 16), 1e300, dtype=torch.float64), "NC1012"),
        ("x", "NC1006"),
        (object(), "NC1006"),
        (None, "NC1014"),
    ],
)
def test_examples_that_are_no_samples(example, code):
    with pytest.raises(NeurocompileError) as error:
        neurocompile.compile(Small().eval(), example)
    assert error.value.code == code


class ByHand(nn.Module):
    """No neuron of a library; goes wrong in one of several ways."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.fc, self.wrong = nn.Linear(16, 4), wrong
        if wrong == "infinite":
            self.fc.weight.data[0, 0] = float("inf")

    def forward(self, x):
        if self.wrong == "raises":
            raise KeyError("labels")
        v, sent = torch.zeros(len(x), 4), []
        for _ in range(2):
            v = 0.5 * v + self.fc(x)
            sent.append((v >= 1.0).float())
            v = v - sent[-1]
        return {"None": None, "number": 0.5}.get(self.wrong, torch.stack(sent).mean(0))


@pytest.mark.parametrize(
    ("wrong", "calibration", "code", "said"),
    [
        ("raises", None, "NC1013", "ByHand itself fails on its example input (2, 16): 'labels'"),
        ("None", None, "NC1009", "the forward returns NoneType without a tensor"),
        ("number", None, "NC1009", "the forward returns float without a tensor"),
        ("infinite", None, "NC1004", "NaN or infinite"),
        ("", np.zeros((3, 8), np.float32), "NC1006", "calibration samples are (8,)"),
    ],
)
def test_a_module_with_neurons_by_hand_is_told_what_is_wrong_with_it(
    wrong, calibration, code, said
):
    with pytest.raises(NeurocompileError) as error:
        open_model(ByHand(wrong).eval(), X.reshape(len(X), -1)[:2], calibration=calibration)
    assert error.value.code == code and said in error.value.message
    assert "holds no neuron" not in error.value.message


def test_weights_without_values_are_named():
    with torch.device("meta"):
        model = Small()
    with pytest.raises(NeurocompileError, match="NC1014 'fc.weight' of Small is on torch's meta"):
        neurocompile.compile(model.eval(), torch.rand(2, 16))


def test_files_of_other_formats_are_named(tmp_path):
    torch.save(nn.Linear(4, 4).state_dict(), tmp_path / "weights.pth")
    torch.save({"a": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(nn.Linear(4, 4)).save(str(tmp_path / "script.pt"))
    program = torch.export.export(nn.Linear(4, 4), (torch.rand(2, 4),))
    torch.export.save(program, tmp_path / "program.pt2")
    for name in ("net.nir", "net.net", "net.h5"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 600)
    (tmp_path / "w.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    np.savez(tmp_path / "x.npz", x=X)
    (tmp_path / "lfs.onnx").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    (tmp_path / "make.py").write_text("def make(): pass\n")
    for name, said in {
        "weights.pth": "a PyTorch checkpoint",
        "old.pt": "a pickle, as torch.save",
        "script.pt": "a TorchScript archive of PyTorch",
        "program.pt2": "a program of torch.export",
        **(
            {"net.nir": "is no NIR file", "net.net": "is no network file of lava-dl"}
            if find_spec("h5py")
            else {}
        ),
        "net.h5": "an HDF5 file",
        "w.safetensors": "a safetensors file, weights alone",
        "x.npz": "arrays of numpy (.npz)",
        "lfs.onnx": "a pointer of Git LFS",
        "make.py": "Python code",
    }.items():
        with pytest.raises(NeurocompileError) as error:
            neurocompile.compile(tmp_path / name)
        assert error.value.code == "NC1002" and said in error.value.message, error.value
        assert "\n" not in error.value.message


def test_T_is_that_of_the_model():
    x = torch.from_numpy(X).flatten(1)

    def steps(model, T=None):
        opened = open_model(model.eval(), x, BuildOptions(T=T), compare=False)
        assert opened.graph.exported_T == (
            T if model.lif.step_mode == "s" and T else opened.own_T or 4
        )
        return opened.options.T

    assert steps(Small(10)) == 10
    with pytest.warns(UserWarning, match="T is 4, and Small itself runs 10 steps"):
        assert steps(Small(10), 4) == 4
    one = Small(mode="s")
    with pytest.warns(UserWarning, match="Small takes one step, and does not say how many"):
        assert steps(one) == 4
    one.T = 6
    assert steps(one) == 6
    with pytest.warns(UserWarning, match="T is 3, and Small itself runs 6 steps"):
        assert steps(one, 3) == 3
    del one.T
    one.lif.num_steps, one.fc.time_steps = 5, 7  # they disagree
    with pytest.warns(UserWarning, match="does not say how many"):
        assert steps(one) == 4
