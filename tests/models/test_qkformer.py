"""The QKFormer module, and the trained one in the zoo."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"


@pytest.fixture(scope="module")
def zoo_model() -> onnx.ModelProto:
    return onnx.load(ZOO / "qkformer.onnx")


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    with np.load(ZOO / "test.npz", allow_pickle=False) as archive:
        return archive["x"], archive["y"]


def test_zoo_file_is_valid(zoo_model: onnx.ModelProto) -> None:
    onnx.checker.check_model(zoo_model, full_check=True)
    metadata = {entry.key: entry.value for entry in zoo_model.metadata_props}
    calibration = json.loads(metadata["neurocompile.calibration"])
    neurons = [node.name for node in zoo_model.graph.node if node.op_type == "LIF"]
    assert metadata["neurocompile.T"] == "4"
    assert len(neurons) == 19 and sorted(neurons) == sorted(calibration["layers"])
    assert calibration["input"] == {"min": 0.0, "max": 1.0, "grid": 0.0625}
    assert all(0 < layer["rate"] < 1 for layer in calibration["layers"].values())


def test_zoo_file_reaches_its_accuracy(held_out: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = held_out
    assert (
        x.shape == (360, 1, 8, 8)
        and x.dtype == np.float32
        and y.shape == (360,)
        and y.dtype == np.int64
    )
    session = onnxruntime.InferenceSession(ZOO / "qkformer.onnx")
    logits = session.run(None, {session.get_inputs()[0].name: x})[0]
    correct = int((logits.argmax(1) == y).sum())
    assert correct / len(y) >= 0.975
    assert f"{correct} of 360" in (ZOO / "card.md").read_text(encoding="utf-8")


def test_zoo_weights_are_eight_bit_integers(zoo_model: onnx.ModelProto) -> None:
    weights = [
        onnx.numpy_helper.to_array(t)
        for t in zoo_model.graph.initializer
        if t.name.endswith("conv.weight")
    ]
    assert len(weights) == 17
    for weight in weights:
        levels = weight / (np.abs(weight).max() / 127)
        assert np.abs(levels - np.round(levels)).max() < 1e-3


@pytest.mark.parametrize("name", ["qkformer.onnx", "card.md"])
def test_zoo_files_name_no_machine(name: str) -> None:
    content = (ZOO / name).read_bytes()
    for trace in (
        b"/home/",
        b"/root",
        b"/tmp/",
        str(Path(__file__).parents[2]).encode(),
        b"site-packages",
        b'.py"',
        b"stack_trace",
    ):
        assert trace not in content


def test_zoo_images_are_stored_reproducibly() -> None:
    with zipfile.ZipFile(ZOO / "test.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert all(
            np.lib.format.read_magic(io.BytesIO(archive.read(m))) for m in archive.namelist()
        )


@pytest.fixture
def model():
    torch = pytest.importorskip("torch")
    pytest.importorskip("spikingjelly")
    from neurocompile.models.qkformer import QKFormer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return QKFormer().eval()


def spikes_of(model, x) -> dict[str, np.ndarray]:
    """Output of every neuron by module path, for x (B, 1, 8, 8)."""
    import torch
    from spikingjelly.activation_based import functional, neuron

    spikes: dict[str, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, path=path: spikes.__setitem__(path, out.numpy())
        )
        for path, module in model.named_modules()
        if isinstance(module, neuron.BaseNode)
    ]
    with torch.no_grad():
        model(x)
    functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    return spikes


def test_no_weight_depends_on_the_number_of_steps(model) -> None:
    import torch
    from neurocompile.models.qkformer import QKFormer, QKFormerConfig

    longer = QKFormer(QKFormerConfig(T=6)).eval()
    longer.load_state_dict(model.state_dict())
    x = torch.rand(2, 1, 8, 8)
    short, long = spikes_of(model, x), spikes_of(longer, x)
    for path, spikes in short.items():
        np.testing.assert_array_equal(spikes, long[path][:4], err_msg=path)


def test_samples_do_not_see_each_other(model) -> None:
    import torch

    x = torch.rand(3, 1, 8, 8)
    together = spikes_of(model, x)
    for path, spikes in spikes_of(model, x[1:2]).items():
        assert spikes.shape[:2] == (4, 1), path
        np.testing.assert_array_equal(spikes[:, 0], together[path][:, 1], err_msg=path)


def test_token_attention_is_an_or_over_channels(model) -> None:
    """Threshold 0.5 on an integer sum halved by tau: one spike of Q is enough, in the same step."""
    import torch

    attention = model.stage1[0].attn
    torch.nn.init.constant_(attention.q.bn.bias, 1.5)
    spikes = spikes_of(model, torch.rand(2, 1, 8, 8))
    q = spikes["stage1.0.attn.q_lif"]
    any_channel = q.reshape(*q.shape[:2], attention.num_heads, -1, 8, 8).any(3, keepdims=True)
    assert any_channel.any() and not any_channel.all()
    np.testing.assert_array_equal(spikes["stage1.0.attn.attn_lif"], any_channel)
