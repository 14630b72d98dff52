"""``run`` and ``verify``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest


def test_run_text(cli, artifact: Path, data: Path) -> None:
    found = cli("run", artifact, "--input", data)
    assert found.code == 0 and found.err == ""
    assert (
        found.out.startswith("neurocompile emulator")
        and "NOT hardware" in found.out.splitlines()[0]
    )
    assert "accuracy     100.00%" in found.out and "patch_embed1.proj_lif" in found.out


def test_run_json(cli, artifact: Path, data: Path, program) -> None:
    told = cli("run", artifact, "--input", data, "--samples", 2, "--json").json
    with np.load(data) as archive:
        expected = program.run(archive["x"][:2])
    assert told["predictions"] == expected.predictions.tolist() and told["samples"] == 2
    assert {r["layer"]: r["spikes"] for r in told["layers"]} == expected.spikes
    assert told["layers"][0]["per_inference"] == told["layers"][0]["spikes"] / 2
    assert told["spikes"] == sum(expected.spikes.values())


def test_run_on_lava_prints_json_only(cli, artifact: Path, data: Path) -> None:
    pytest.importorskip("lava.magma.compiler", reason="needs the extra lava")
    emulated = cli("run", artifact, "--input", data, "--samples", 1, "--json").json
    told = cli("run", artifact, "--input", data, "--samples", 1, "--backend", "lava", "--json").json
    assert told["layers"] == emulated["layers"] and "Lava" in told["banner"]


def test_unlabelled_data(cli, artifact: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 1, 8, 8), np.float32))
    assert "the file has no 'y'" in cli("run", artifact, "--input", tmp_path / "x.npz").out
    assert cli("run", artifact, "--input", tmp_path / "x.npz", "--json").json["accuracy"] is None


@pytest.mark.parametrize("backend, codes", [("gpu", {"NC4005"}), ("loihi", {"NC4001", "NC4002"})])
def test_backends_that_are_not_there(
    cli, artifact: Path, data: Path, backend: str, codes: set[str]
) -> None:
    found = cli("run", artifact, "--input", data, "--backend", backend, "--json")
    assert found.code == 2 and found.json["error"]["code"] in codes
    assert found.err.startswith("error: NC400") and found.err.count("\n") == 1


def test_not_a_data_file(cli, artifact: Path) -> None:
    found = cli("run", artifact, "--input", artifact)
    assert found.code == 2 and found.err.startswith("error: NC1012 ") and found.out == ""


def test_verify(cli, artifact: Path) -> None:
    assert "verifies" in cli("verify", artifact).out
    told = cli("verify", artifact, "--json").json
    assert told["verified"] and told["model"] == "qkformer" and told["cores"] > 0


def test_verify_finds_what_was_altered(cli, altered: Path, artifact: Path, tmp_path: Path) -> None:
    found = cli("verify", altered, "--json")
    assert found.code == 2 and found.json["error"]["code"] == "NC5004"
    assert all(line.startswith("error: NC5004 ") for line in found.err.splitlines())
    with zipfile.ZipFile(artifact) as good, zipfile.ZipFile(tmp_path / "bad.nca", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name) + b" " * (name == "circuit.txt"))
    assert "NC5002" in cli("verify", tmp_path / "bad.nca").err
    (tmp_path / "cut.nca").write_bytes(artifact.read_bytes()[:1000])
    assert "NC5001" in cli("verify", tmp_path / "cut.nca").err
    assert "NC1001" in cli("verify", tmp_path / "absent.nca").err


def test_results_are_written(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    found = cli("run", artifact, "--input", data, "-o", out, "--rasters")
    assert found.code == 0 and found.out.endswith(f"wrote {out}\n")
    told = cli("run", artifact, "--input", data, "-o", out, "--json").json
    assert told["output"] == str(out)
    with np.load(out) as kept:
        assert kept["predictions"].tolist() == told["predictions"]
        assert kept["rates"].tolist() == [row["rate"] for row in told["layers"]]
        assert not [name for name in kept.files if name.startswith("raster.")]
    for options in (["--rasters"], ["-o", tmp_path / "out.csv"]):
        assert cli("run", artifact, "--input", data, *options).code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
