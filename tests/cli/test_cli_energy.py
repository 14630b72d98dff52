"""``energy``: text and JSON, every figure with its basis."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import pytest

from neurocompile.program import Program
from neurocompile.targets.schema import Energy, Number, Time


def test_text_names_what_is_measured_modelled_and_bound(cli, artifact: Path, data: Path) -> None:
    found = cli("energy", artifact, "--input", data)
    assert (
        found.code == 0
        and "NOT hardware" in found.out
        and "counts measured: emulator, 3 samples" in found.out
    )
    for word in ("modelled", "bound", "Corollary 9", "static", "ANN", "Effective_ACs", "samples/s"):
        assert word in found.out
    assert found.err.startswith("note: davies2018 has the constants of Loihi, not of loihi2")
    assert "modelled from stored rates" in cli("energy", artifact, "--profile", "horowitz45").out


def test_json(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    power = {
        "schema": 1,
        "device": "chip",
        "source": "lab",
        "static_w": 1.0,
        "dynamic_w": 2.0,
        "seconds_per_inference": 1e-3,
    }
    (tmp_path / "power.json").write_text(json.dumps(power))
    times = [
        {
            "core_operations": a,
            "core_updates": b,
            "link_packets": 0,
            "step_ns": 100 + max(2 * a, 3 * b),
        }
        for a, b in ((10, 0), (100, 0), (0, 10), (0, 100))
    ]
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
    assert set(told["neurobench"]["SynapticOperations"]) == {
        "Effective_MACs",
        "Effective_ACs",
        "Dense",
    }
    assert len(told["cores"]) > 1 and sum(c["packets"] for c in told["cores"]) > 0
    energy = told["energies"][0]
    assert energy["profile"] == "davies2018" and energy["foreign"] and energy["barriers_pj"] is None
    assert told["fitted"]["relative_rms"] < 1e-6 and told["fitted_times"]["step_ns"] > 100
    assert cli(*arguments).json == told


OWN = {
    "energy": {
        "synaptic_operation": 2,
        "neuron_update_active": 3,
        "neuron_update_inactive": 1,
        "packet": 5,
        "hop_east_west": 1,
        "hop_north_south": 1,
    },
    "time": {
        "synaptic_operation": 1,
        "neuron_update_active": 1,
        "neuron_update_inactive": 1,
        "hop_east_west": 1,
        "hop_north_south": 1,
        "barrier_1_tile": 100,
        "barrier_32_tiles": 400,
    },
}


def with_constants(program: Program, constants: dict, path: Path) -> Path:
    """The program, on a target like its own with energy and time constants."""

    def number(value: float) -> Number:
        return Number(value=value, source="our board", status="derived")

    energy = Energy(**{k: number(v) for k, v in constants.get("energy", {}).items()})
    time = Time(**{k: number(v) for k, v in constants.get("time", {}).items()})
    power = number(constants["static_power"]) if "static_power" in constants else None
    target = msgspec.structs.replace(program.target, energy=energy, time=time, static_power=power)
    dataclasses.replace(program, target=target).save(path)
    return path


def test_a_target_with_constants_of_its_own_is_priced_with_them(
    cli, program: Program, tmp_path: Path
) -> None:
    """By default, with their source; incomplete ones only when asked for, and davies2018 otherwise,
    which a note says.
    """
    full = with_constants(program, {**OWN, "static_power": 50}, tmp_path / "own.nca")
    found = cli("energy", full, "--json")
    told = found.json["energies"][0]
    assert (
        told["profile"] == "target:loihi2"
        and not told["foreign"]
        and told["sources"] == ["our board (derived)"]
    )
    assert told["items"]["synapses"] > 0 and told["static_pj"] > 0 and found.err == ""
    assert "our board (derived)" in cli("energy", full).out
    assert (
        cli("energy", full, "--profile", "davies2018", "--json").json["energies"][0]["profile"]
        == "davies2018"
    )
    part = with_constants(program, {"energy": {"synaptic_operation": 2}}, tmp_path / "part.nca")
    found = cli("energy", part, "--json")
    assert (
        found.json["energies"][0]["profile"] == "davies2018"
        and "loihi2's own energy constants do not price" in found.err
    )
    told = cli("energy", part, "--profile", "target", "--json").json["energies"][0]
    assert told["profile"] == "target:loihi2" and {
        "packets",
        "barriers",
        "active neuron updates",
    } <= set(told["not_priced"])


def test_static_energy_takes_the_fitted_time_of_a_step(
    cli, program: Program, tmp_path: Path
) -> None:
    """Static power of the chips in use times the period: with a time from constants, or measured."""
    path = with_constants(
        program, {"energy": OWN["energy"], "static_power": 50}, tmp_path / "own.nca"
    )
    without = cli("energy", path, "--json").json["energies"][0]
    assert without["static_pj"] is None and "no time a step" in without["static_time"]
    times = [
        {
            "core_operations": a,
            "core_updates": b,
            "link_packets": 0,
            "step_ns": 100 + max(2 * a, 3 * b),
        }
        for a, b in ((10, 0), (100, 0), (0, 10), (0, 100))
    ]
    (tmp_path / "t.json").write_text(json.dumps(times))
    told = cli("energy", path, "--timings", tmp_path / "t.json", "--json").json
    assert told["energies"][0]["static_pj"] == pytest.approx(
        50 * told["fitted_times"]["step_ns"] * 4 * told["chips"]
    )
    assert "fitted to 4 measurements" in cli("energy", path, "--timings", tmp_path / "t.json").out


def test_what_has_no_price_is_listed_with_its_count(cli, artifact: Path, tmp_path: Path) -> None:
    told = cli("energy", artifact, "--json").json
    listed = told["energies"][0]["not_priced"]
    names = {
        "spikes sent": "spikes",
        "graded messages sent": "graded_messages",
        "barriers": "barriers",
    }
    assert listed == {name: told["counts"][count] for name, count in names.items()}
    text = "Not priced: " + ", ".join(f"{listed[name]:,.0f} {name}" for name in names)
    assert text in cli("energy", artifact).out
    told = cli("energy", artifact, "--profile", "horowitz45", "--json").json
    assert {"inactive neuron updates", "hops east-west", "packets"} <= set(
        told["energies"][0]["not_priced"]
    )
    (tmp_path / "none.yaml").write_text("name: none\ndescription: d\nhardware: h\nenergy: {}\n")
    found = cli("energy", artifact, "--profile", tmp_path / "none.yaml")
    assert "prices nothing" in found.out and "0.0 pJ" not in found.out and found.code == 0
    energy = cli("energy", artifact, "--profile", tmp_path / "none.yaml", "--json").json[
        "energies"
    ][0]
    assert energy["dynamic_pj"] is None and set(energy["layers"].values()) == {None}
    page = cli("report", artifact, "--profile", tmp_path / "none.yaml", "-o", tmp_path / "r.html")
    assert page.code == 2 and page.err.startswith("error: NC7002 ")


def test_wrong_input_is_one_line(cli, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for options, code in (
        (["--profile", "nothing"], "NC7001"),
        (["--measured", tmp_path / "bad.json"], "NC7003"),
        (["--timings", tmp_path / "bad.json"], "NC7004"),
        (["--samples", 2], "NC1015"),
    ):
        found = cli("energy", artifact, *options)
        assert (
            found.code == 2
            and found.err.startswith(f"error: {code} ")
            and found.err.count("\n") == 1
        )


def test_power_is_measured_on_hardware_or_not_at_all(cli, artifact: Path, data: Path) -> None:
    found = cli("energy", artifact, "--input", data, "--measured", "loihi", "--json")
    assert found.code == 2 and found.json["error"]["code"] in {"NC4001", "NC4002"}
    assert found.err.startswith("error: NC400") and found.err.count("\n") == 1
    without = cli("energy", artifact, "--measured", "loihi")
    assert (
        without.code == 2
        and without.err.startswith("error: NC1015 ")
        and without.err.endswith("give --input\n")
    )
