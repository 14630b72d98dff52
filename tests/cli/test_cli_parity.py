"""``parity``: both halves, and exit code 1 for a real difference."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import neurocompile.backends.lava.compat as compat
from neurocompile.errors import NeurocompileError


def test_exact_in_text(cli, artifact: Path, data: Path) -> None:
    found = cli("parity", artifact, "--input", data, "--against", "emulator")
    assert found.code == 0 and found.err == ""
    assert "\nexact: 0 differences in" in found.out and "NOT hardware" in found.out
    assert "first difference" not in found.out and "give --reference" in found.out


def test_default_in_json(cli, artifact: Path, data: Path) -> None:
    pytest.importorskip("lava.magma.compiler", reason="needs the extra lava")
    found = cli("parity", artifact, "--input", data, "--samples", 2, "--json")
    told = found.json
    assert (
        found.code == 0
        and told["exact"]
        and [b["backend"] for b in told["backends"]] == ["emulator", "lava"]
    )
    assert all(
        b["differences"] == 0 and b["values"] > 0 and b["samples"] == 2 for b in told["backends"]
    )
    assert told["reference"] is None


def test_float_half(cli, artifact: Path, data: Path, model: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "neurocompile.parity.reference.find_spec", lambda name: None
    )  # onnxruntime: torch takes seconds
    options = ("parity", artifact, "--input", data, "--against", "emulator", "--reference", model)
    found = cli(*options)
    assert found.code == 0 and "onnxruntime" in found.out
    assert (
        "rate error" in found.out
        and "first to part" in found.out
        and "accuracy       float" in found.out
    )
    told = cli(*options, "--json").json["reference"]
    layer = told["layers"][0]
    assert layer["rate_error"] == layer["rate_quantized"] - layer["rate_reference"]
    assert told["accuracy_quantized"] == 1.0


def test_a_difference_is_exit_code_1(cli, altered: Path, data: Path) -> None:
    found = cli("parity", altered, "--input", data, "--against", "emulator")
    assert found.code == 1 and "NOT EXACT" in found.out and "first difference" in found.out
    assert found.err.startswith("error: NC4006 ") and found.err.count("\n") == 1
    for word in (
        "layer 'patch_embed1.proj_lif'",
        "neuron [",
        "sample ",
        "step ",
        "expected 1, found 0",
    ):
        assert word in found.err


def test_a_difference_in_json(cli, altered: Path, data: Path) -> None:
    found = cli("parity", altered, "--input", data, "--against", "emulator", "--json")
    told = found.json
    assert found.code == 1 and not told["exact"] and told["backends"][0]["differences"] > 0
    first = told["backends"][0]["first"]
    assert first["layer"] == "patch_embed1.proj_lif" and (first["expected"], first["found"]) == (
        1,
        0,
    )


def test_without_lava_the_emulator_alone(cli, artifact: Path, data: Path, monkeypatch) -> None:
    def absent() -> None:
        raise NeurocompileError(
            "NC4001", "backend 'lava' needs lava-nc 0.10.0, which is not installed"
        )

    monkeypatch.setattr(compat, "require_lava", absent)
    found = cli("parity", artifact, "--input", data, "--json")
    assert found.code == 0 and [b["backend"] for b in found.json["backends"]] == ["emulator"]
    assert found.err.startswith("note: compared with the emulator only: NC4001 ")


def test_errors(cli, artifact: Path, data: Path, model: Path, tmp_path: Path) -> None:
    found = cli("parity", artifact, "--input", data, "--against", "emulator,spinnaker", "--json")
    assert found.code == 2 and found.json["error"]["code"] == "NC4005"
    assert cli("parity", artifact, "--input", data, "--against", ",").code == 2
    assert cli("parity", artifact, "--input", data, "--device", "tpu").code == 2
    renamed = tmp_path / "other.onnx"
    renamed.write_bytes(
        model.read_bytes() + b"\x32\x00"
    )  # an empty doc_string: another file of the same model
    options = ("parity", artifact, "--input", data, "--against", "emulator", "--reference")
    assert cli(*options, renamed).code == 0
    other = onnx.load(model)
    weight = max(other.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = bytes(len(weight.raw_data))
    onnx.save(other, tmp_path / "changed.onnx")
    found = cli(*options, tmp_path / "changed.onnx")
    assert found.code == 2 and found.err.startswith("error: NC1006 ") and found.out == ""
