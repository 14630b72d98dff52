"""``neurocompile finetune``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("spikingjelly", reason="the extra 'torch' is not installed")

from neurocompile.cli import main  # noqa: E402

DIGITS = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"


def cli(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.mark.slow
def test_a_file_in_a_file_out(capfd, tmp_path: Path) -> None:
    with np.load(DIGITS / "test.npz") as file:
        np.savez(tmp_path / "x.npz", x=file["x"][:24], y=file["y"][:24])
    data, out = str(tmp_path / "x.npz"), str(tmp_path / "q.onnx")
    options = ("--data", data, "--test", data, "--bits", "4", "--epochs", "1", "-o", out)
    code, text, err = cli(capfd, "finetune", str(DIGITS / "qkformer.onnx"), *options, "--json")
    assert code == 0, err
    found = json.loads(text)
    assert found["kept"] and found["bits"] == 4 and len(found["losses"]) == 1
    assert found["correct"]["samples"] == 24 and Path(out).is_file()
    code, text, err = cli(capfd, "check", out, "--weight-bits", "4")
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--data"),
        (("--data", "nowhere.npz"), "NC1001"),
        (("--data", str(DIGITS / "test.npz"), "--bits", "1"), "--bits"),
        (("--data", str(DIGITS / "test.npz"), "--epochs", "0"), "--epochs"),
        (("--data", str(DIGITS / "test.npz"), "--lr", "7"), "NC1015"),
        (("--data", str(DIGITS / "test.npz"), "--device", "nowhere"), "NC4007"),
        (("--data", str(DIGITS / "test.npz"), "-o", "/no/such/folder/q.onnx"), "NC5005"),
    ],
)
def test_wrong_usage(capfd, tmp_path, monkeypatch, options, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(capfd, "finetune", str(DIGITS / "qkformer.onnx"), *options)
    assert code == 2 and said in err
    assert not list(tmp_path.iterdir())
