"""The training script of models/zoo/cifar10 on images of noise, and its neuron against SpikingJelly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("spikingjelly", reason="the extra 'torch' is not installed")

from neurocompile.models.layers import lif  # noqa: E402
from neurocompile.models.registry import build  # noqa: E402
from neurocompile.models.zoo.cifar10 import augment, evaluate, train, weights  # noqa: E402
from neurocompile.models.zoo.cifar10.fused_lif import FusedLIF, fuse, fused_lif  # noqa: E402
from neurocompile.models.zoo.cifar10.schedule import Progress, learning_rate, parse_phases, steps_of  # noqa: E402
from neurocompile.models.zoo.cifar10.teacher import distillation_loss  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def currents(T: int, layout: str) -> torch.Tensor:
    """(T, 3, 8, 4, 4), many on the threshold itself; float32."""
    drawn = torch.randn(T * 3, 8, 4, 4, generator=torch.Generator().manual_seed(T))
    x = (drawn * 8).round() / 4
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    x = x.unflatten(0, (T, 3))
    return x.transpose(3, 4) if layout == "strided" else x


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "strided"])
@pytest.mark.parametrize("threshold", [1.0, 0.5])
@pytest.mark.parametrize("T", [1, 2, 4, 7])
def test_fused_lif_is_spikingjellys(T: int, threshold: float, layout: str) -> None:
    x = currents(T, layout)
    given, mine = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, found = lif(threshold)(given), fused_lif(mine, threshold)
    assert torch.equal(expected, found) and 0.02 < float(found.detach().mean()) < 0.98
    back = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    expected.backward(back)
    found.backward(back)
    torch.testing.assert_close(mine.grad, given.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Triton's kernels need a GPU")
@pytest.mark.parametrize("T", [1, 2, 4, 7])
def test_kernels_are_the_plain_neuron(T: int) -> None:
    x = currents(T, "channels last").cuda()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain, kernel = fused_lif(a, kernels=False), fused_lif(b, kernels=True)
    assert torch.equal(plain, kernel)
    back = torch.randn_like(plain)
    plain.backward(back)
    kernel.backward(back)
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6)


def test_a_fused_model_is_the_model() -> None:
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    plain, fused = build("qkformer-tiny").train(), fuse(build("qkformer-tiny")).train()
    fused.load_state_dict(plain.state_dict())
    assert sum(isinstance(m, FusedLIF) for m in fused.modules()) == 28
    x = torch.rand(2, 3, 16, 16)
    for _ in range(2):  # a fused neuron has no state to reset
        torch.testing.assert_close(plain(x), fused(x))
        functional.reset_net(plain)


def test_another_neuron_is_refused() -> None:
    model = build("qkformer-tiny-digits")
    model.stage1[0].mlp.fc1_lif.tau = 3.0
    with pytest.raises(ValueError, match="stage1.0.mlp.fc1_lif"):
        fuse(model)


def test_phases_and_rates() -> None:
    phases = parse_phases("1:0.25,2:0.25,4:0.5")
    assert [steps_of(phases, s) for s in (0, 0.24, 0.25, 0.5, 0.99, 1.0)] == [1, 1, 2, 4, 4, 4]
    for wrong in ("4:0.5", "0:1", "x", "4", "1:0.5,4:0.6"):
        with pytest.raises(ValueError):
            parse_phases(wrong)
    rates = [learning_rate(1.0, share) for share in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < rates[1] and max(rates) == rates[2] == 1.0
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] == pytest.approx(0)


def test_the_clock_decides_with_minutes() -> None:
    progress = Progress(steps=None, seconds=100.0, before=40.0)
    assert 0.4 <= progress.share < 0.5
    assert Progress(steps=None, seconds=10.0, before=40.0).share == 1.0
    assert Progress(steps=8, seconds=None, step=2).share == 0.25


def test_augmentation() -> None:
    images = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    wide = augment.padded(images)
    assert wide.shape == (6, 3, 40, 40) and torch.equal(wide[:, :, 4:-4, 4:-4], images)
    index = torch.arange(6).repeat(40)
    x = augment.augmented(wide, index, torch.Generator().manual_seed(1))
    again = augment.augmented(wide, index, torch.Generator().manual_seed(1))
    assert torch.equal(x, again) and x.shape == (240, 3, 32, 32)
    assert 0.0 <= float(x.min()) and float(x.max()) <= 1.0
    cropped = augment.cropped(wide, index, torch.Generator().manual_seed(1))
    windows = {
        wide[k, :, r : r + 32, c : c + 32].numpy().tobytes()
        for k in range(6)
        for r in range(9)
        for c in range(9)
    }
    pixels = (cropped * 255).round().to(torch.uint8)
    for one in pixels:
        assert windows & {one.numpy().tobytes(), one.flip(2).contiguous().numpy().tobytes()}


def test_mixing_keeps_the_share_of_each_image() -> None:
    """Images of one grey each: the mean of a mixture is that of its targets."""
    grey = torch.linspace(0, 1, 64)
    x, y = grey[:, None, None, None].expand(-1, 3, 32, 32), torch.stack([1 - grey, grey], 1)
    mixture, target = augment.mixed(x, y, torch.Generator().manual_seed(3))
    torch.testing.assert_close(mixture.mean((1, 2, 3)), target[:, 1])
    torch.testing.assert_close(target.sum(1), torch.ones(64))
    changed = ((mixture - x).abs().amax((1, 2, 3)) > 1e-6).float().mean()
    assert 0.25 < float(changed) < 0.7


def test_distillation_loss_is_zero_where_the_student_agrees() -> None:
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    assert float(distillation_loss(logits + 3.0, logits, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(distillation_loss(-logits, logits, 2.0)) > 0.1


def test_calibration_takes_the_statistics_of_the_images(monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "_BATCH", 10)
    model = fuse(build("qkformer-tiny"))
    images = torch.randint(0, 256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    evaluate.calibrate(model, images)
    first = model.patch_embed1.proj
    with torch.no_grad():
        seen = torch.stack(
            [first.conv(part.float() / 255).mean((0, 2, 3)) for part in images.split(10)]
        )
    torch.testing.assert_close(first.bn.running_mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    assert first.bn.momentum == 0.1 and not model.training
    rates = evaluate.spike_rates(model, images)
    assert len(rates) == 28 and all(0 <= rate <= 1 for rate in rates.values())


def test_what_a_file_holds_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = weights.build_model("spikformer-tiny", T=2).eval()
    weights.round_weights(model)
    weights.save(model, tmp_path / "m.safetensors", {"model": "spikformer-tiny"})
    back = weights.load(tmp_path / "m.safetensors", T=2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters()))
    weights.save(model, tmp_path / "n.safetensors", {})
    with pytest.raises(ValueError, match="does not say which model"):
        weights.load(tmp_path / "n.safetensors")


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for part, count in (("train", 48), ("test", 20)):
        np.savez(
            folder / f"{part}.npz",
            x=draw.integers(0, 256, (count, 3, 32, 32), np.uint8),
            y=draw.integers(0, 10, count),
        )
    return folder


def run(noise: Path, out: Path, name: str, *options: str) -> None:
    data = ("--train", str(noise / "train.npz"), "--test", str(noise / "test.npz"))
    train.main([name, *data, "--batch", "16", "--device", "cpu", "--out", str(out), *options])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["spikformer-tiny", "spike-driven-transformer-tiny", "spiking-resformer-tiny"]
)
def test_the_whole_script(noise: Path, tmp_path: Path, name: str) -> None:
    run(noise, tmp_path, name, "--minutes", "0.05", "--phases", "1:0.5,2:0.5", "--watch", "1")
    facts = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["total"] == 20 and facts["T"] == 2 and facts["seconds"] < 60
    assert facts["rates"] and weights.load(tmp_path / f"{name}.safetensors", 2) is not None


@pytest.mark.slow
def test_a_resumed_run_ends_at_the_same_bytes(noise: Path, tmp_path: Path) -> None:
    run(noise, tmp_path, "resnet-tiny", "--epochs", "1")
    teacher = ("--teacher", str(tmp_path / "resnet-tiny.safetensors"))
    options = ("--epochs", "4", "--phases", "1:0.5,2:0.5", *teacher)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(noise, whole, "qkformer-tiny", *options)
    run(noise, parts, "qkformer-tiny", *options, "--stop-after", "1")
    assert not (parts / "qkformer-tiny.safetensors").exists()
    run(noise, parts, "qkformer-tiny", *options, "--stop-after", "3", "--resume")
    run(noise, parts, "qkformer-tiny", *options, "--resume")
    name = "qkformer-tiny.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()
    with pytest.raises(SystemExit, match="is of a training with"):
        run(noise, parts, "qkformer-tiny", *options, "--seed", "1", "--resume")


def test_calibration_images_are_drawn_from_all_classes(tmp_path: Path) -> None:
    """Files hold images class by class; statistics of one class cost 3 points of accuracy."""
    x = np.repeat(np.arange(10, dtype=np.uint8), 8)[:, None, None, None]
    x = np.broadcast_to(x, (80, 3, 32, 32))
    np.savez(tmp_path / "train.npz", x=x, y=x[:, 0, 0, 0].astype(np.int64))
    options = train.parser().parse_args(
        ["resnet-tiny", "--train", str(tmp_path / "train.npz"), "--test", "-", "--epochs", "1"]
        + ["--device", "cpu"]
    )
    drawn = train.Run(options)._calibration_images()
    assert len(drawn) == 80 and len(set(drawn[:20, 0, 0, 0].tolist())) >= 6


@pytest.mark.slow
def test_kernels_in_tritons_interpreter() -> None:
    """Without a GPU: Triton's interpreter must be chosen before it is imported."""
    pytest.importorskip("triton", reason="this torch brings no Triton")
    program = """
import torch
from neurocompile.models.zoo.cifar10.fused_lif import fused_lif
for T in (1, 2, 4):
    x = (torch.randn(T, 2, 3, 5, generator=torch.Generator().manual_seed(T)) * 8).round() / 4
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain, kernel = fused_lif(a, 1.0, False), fused_lif(b, 1.0, True)
    assert torch.equal(plain, kernel)
    plain.backward(x)
    kernel.backward(x)
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=300)


def test_wrong_data_is_refused(noise: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((2, 3, 8, 8), np.uint8), y=np.zeros(2, np.int64))
    (tmp_path / "test.npz").write_bytes((noise / "test.npz").read_bytes())
    with pytest.raises(SystemExit, match="expected uint8"):
        run(tmp_path, tmp_path, "qkformer-tiny", "--epochs", "1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("resnet-5", "--epochs", "1"), "no model 'resnet-5'"),
        (("qkformer-tiny", "--minutes", "0"), "--minutes is 0.0, it must be above 0"),
        (("qkformer-tiny", "--epochs", "1", "--teacher", "absent"), "cannot read 'absent'"),
        (("qkformer-tiny", "--epochs", "1", "--phases", "4:2"), "--phases"),
        (("qkformer-tiny", "--epochs", "1", "--resume"), "qkformer-tiny.checkpoint"),
        (("qkformer-tiny",), "--minutes --epochs"),
    ],
)
def test_wrong_usage(noise: Path, tmp_path: Path, capsys, options, said: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run(noise, tmp_path, *options)
    assert stop.value.code == 2 and said in capsys.readouterr().err
