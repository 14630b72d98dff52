"""``build``: the artifact, the summary, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from neurocompile.targets.schema import RESOURCES

FACTS = (
    "layers",
    "neurons",
    "synapses",
    "depth",
    "cores",
    "spikes per inference",
    "packets per step",
    "agreement",
)


def test_text_and_default_name(
    cli, model: Path, tmp_path: Path, monkeypatch, artifact: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli("build", model)
    assert found.code == 0 and found.err == ""
    assert all(fact in found.out for fact in FACTS)
    assert "no mapping can do with fewer than 13 (" in found.out
    assert "quantize" in found.out and "modelled from calibration" in found.out
    assert [p.name for p in tmp_path.iterdir()] == ["qkformer.nca"]
    assert (tmp_path / "qkformer.nca").read_bytes() == artifact.read_bytes()


def test_json_with_calibration(cli, model: Path, data: Path, tmp_path: Path) -> None:
    found = cli(
        "build",
        model,
        "--calibration",
        data,
        "--T",
        2,
        "--weight-bits",
        6,
        "-o",
        tmp_path / "a.nca",
        "--json",
    )
    told = found.json
    assert found.code == 0 and found.err.count("\n") == 1
    assert "T is 2, and" in told["messages"][0]["text"] and "itself runs 4" in found.err
    assert (told["T"], told["weight_bits"], told["output"]) == (2, 6, str(tmp_path / "a.nca"))
    assert told["rates_source"] == "measured on 3 samples"
    assert 1 <= told["cores_at_least"] <= told["cores"] <= told["cores_available"] == 120
    assert told["cores_at_least_for"] in RESOURCES or told["cores_at_least_for"] == "total"
    assert told["seconds"]["map"] > 0


def test_weights_alone_are_one_warning(cli, model: Path, tmp_path: Path) -> None:
    bare = onnx.load(model)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    found = cli("build", tmp_path / "bare.onnx", "-o", tmp_path / "bare.nca", "--json")
    assert found.code == 0 and "weights" in found.json["rates_source"]
    assert found.err.count("\n") == 1 and found.err.startswith("warning: no calibration data")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--T", 0], "NC1007"),
        (["--weight-bits", 9], "NC2003"),
        (["--target", "loihi3"], "NC3001"),
        (["--max-cores", 2], "NC3101"),
        (["--budget", "spikes=300"], "NC3114"),
        (["--calibration", "absent.npz"], "NC1001"),
        (["-o", "absent/folder/a.nca"], "NC5005"),
        (["-o", "."], "NC5005"),
    ],
)
def test_errors_are_one_line_each(
    cli, model: Path, tmp_path: Path, monkeypatch, options: list, code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = cli("build", model, *options, "--json")
    assert found.code == 2 and found.json["error"]["code"] == code
    assert found.err and all(line.startswith(f"error: {code} ") for line in found.err.splitlines())
    assert not list(tmp_path.iterdir())


def test_input_is_not_overwritten(cli, model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(model.read_bytes())
    found = cli("build", copy, "-o", copy)
    assert found.code == 2 and "NC5005" in found.err and found.out == ""
    assert copy.read_bytes() == model.read_bytes()


def test_calibration_of_another_shape(cli, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    found = cli("build", model, "--calibration", tmp_path / "x.npz", "-o", tmp_path / "a.nca")
    assert found.code == 2 and found.err.startswith("error: NC1006 ")


def test_text_that_is_no_model(cli, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("hello")
    found = cli("build", tmp_path / "a.onnx", "-o", tmp_path / "a.nca")
    assert found.code == 2 and found.err.startswith("error: NC1002 ") and found.err.count("\n") == 1
