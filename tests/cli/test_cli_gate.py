"""``neurocompile gate``: exit code 0, 1 or 2, and a line for each limit."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def files(digits_program, digits_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    digits_program.save(folder / "p.nca")
    np.savez(folder / "x.npz", x=digits_data.x[:12], y=digits_data.y[:12])
    np.savez(folder / "plain.npz", x=digits_data.x[:2])
    return folder


def test_limits_that_are_kept(cli, files) -> None:
    found = cli(
        *("gate", files / "p.nca", "--input", files / "x.npz", "--max-cores", "120"),
        *("--max-spikes", "1e6", "--min-accuracy", "0.9", "--against", "emulator", "--json"),
    )
    assert found.code == 0 and found.json["passed"] is True
    kinds = {c["name"]: c["kind"] for c in found.json["checks"]}
    assert kinds == {
        "cores": "modelled",
        "spikes per inference": "measured",
        "accuracy": "measured",
        "differences of emulator": "counted",
    }


@pytest.mark.parametrize(
    ("limits", "broken"),
    [
        (["--max-cores", "1"], "cores"),
        (["--max-spikes", "5"], "spikes per inference"),
        (["--input", "x.npz", "--max-spikes", "5"], "spikes per inference"),
        (["--input", "x.npz", "--min-accuracy", "1", "--max-cores", "1"], "cores"),
    ],
)
def test_a_broken_limit_is_exit_code_1(cli, files, limits, broken, monkeypatch) -> None:
    monkeypatch.chdir(files)
    found = cli("gate", "p.nca", *limits, "--json")
    assert found.code == 1 and found.json["passed"] is False
    assert [c["name"] for c in found.json["checks"] if not c["kept"]] == [broken]


@pytest.mark.parametrize(
    "limits",
    [
        [],
        ["--min-accuracy", "0.5"],
        ["--min-accuracy", "0.5", "--input", "plain.npz"],
        ["--against", "emulator"],
    ],
)
def test_limits_without_what_they_need_are_an_error(cli, files, limits, monkeypatch) -> None:
    monkeypatch.chdir(files)
    found = cli("gate", "p.nca", *limits, "--json")
    assert found.code == 2 and found.json["error"]["code"] == "NC1015"
