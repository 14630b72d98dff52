"""``--log``: one line a call, of what it was given and what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_call_adds_a_line(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    log = tmp_path / "runs.jsonl"
    plain = cli("run", artifact, "--input", data, "--log", log)
    told = cli("run", artifact, "--input", data, "--samples", 2, "--json", "--log", log).json
    wrong = cli("run", artifact, "--input", artifact, "--log", log)
    first, second, third = records(log)
    assert plain.code == 0 and "accuracy" in plain.out and first["code"] == 0
    assert second["result"] == told and second["options"]["samples"] == 2
    assert first["command"] == "run" and first["options"]["artifact"] == str(artifact)
    assert first["time"] <= second["time"] and first["version"]
    assert wrong.code == third["code"] == 2 and third["result"]["error"]["code"] == "NC1012"


def test_a_log_that_cannot_be_written_stops_before_the_work(
    cli, artifact: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for log in (tmp_path, tmp_path / "none" / "runs.jsonl", tmp_path / "link"):
        found = cli("run", artifact, "--input", data, "--log", log)
        assert found.code == 2 and "NC5005" in found.err and "accuracy" not in found.out
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("command", ["build", "parity", "run", "sweep"])
def test_commands_of_experiments_take_a_log(cli, command: str) -> None:
    assert "--log RUNS.jsonl" in cli(command, "--help").out
    assert "--log" not in cli("verify", "--help").out
