"""``energy``: text and JSON, every figure with its basis."""

from __future__ import annotations

import json
from pathlib import Path


def test_text_names_what_is_measured_modelled_and_bound(cli, artifact: Path, data: Path) -> None:
    found = cli("energy", artifact, "--input", data)
    assert found.code == 0 and "NOT hardware" in found.out and "counts measured: emulator, 3 samples" in found.out
    for word in ("modelled", "bound", "Corollary 9", "static", "ANN", "Effective_ACs", "samples/s"):
        assert word in found.out
    assert found.err.startswith("note: davies2018 has the constants of Loihi, not of loihi2")
    assert "modelled from stored rates" in cli("energy", artifact, "--profile", "horowitz45").out


def test_json(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    power = {"schema": 1, "device": "chip", "source": "lab", "static_w": 1.0, "dynamic_w": 2.0, "seconds_per_inference": 1e-3}
    (tmp_path / "power.json").write_text(json.dumps(power))
    times = [{"core_operations": a, "core_updates": b, "link_packets": 0, "step_ns": 100 + max(2 * a, 3 * b)}
             for a, b in ((10, 0), (100, 0), (0, 10), (0, 100))]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(times))
    arguments = (
        "energy",
        artifact,
        "--input",
        data,
        "--measured",
        tmp_path / "power.json",
        "--timings",
        tmp_path / "t.json",
        "--json",
    )
    told = cli(*arguments).json
    assert told["basis"] == "measured" and told["samples"] == 3 and told["measured"] == power
    assert set(told["neurobench"]["SynapticOperations"]) == {"Effective_MACs", "Effective_ACs", "Dense"}
    assert len(told["cores"]) > 1 and sum(c["packets"] for c in told["cores"]) > 0
    energy = told["energies"][0]
    assert energy["profile"] == "davies2018" and energy["foreign"] and energy["barriers_pj"] is None
    assert told["fitted"]["relative_rms"] < 1e-6 and told["fitted_times"]["step_ns"] > 100
    assert cli(*arguments).json == told


def test_wrong_input_is_one_line(cli, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for options, code in (
        (["--profile", "nothing"], "NC7001"), (["--measured", tmp_path / "bad.json"], "NC7003"),
        (["--timings", tmp_path / "bad.json"], "NC7004"), (["--samples", 2], "NC1015"),
    ):  # fmt: skip
        found = cli("energy", artifact, *options)
        assert found.code == 2 and found.err.startswith(f"error: {code} ") and found.err.count("\n") == 1


def test_power_is_measured_on_hardware_or_not_at_all(cli, artifact: Path, data: Path) -> None:
    found = cli("energy", artifact, "--input", data, "--measured", "loihi", "--json")
    assert found.code == 2 and found.json["error"]["code"] in {"NC4001", "NC4002"}
    assert found.err.startswith("error: NC400") and found.err.count("\n") == 1
    without = cli("energy", artifact, "--measured", "loihi")
    assert without.code == 2 and without.err.startswith("error: NC1015 ") and without.err.endswith("give --input\n")
