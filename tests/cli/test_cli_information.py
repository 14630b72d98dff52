"""``targets``, ``doctor``, ``explain`` and ``--version``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

import neurocompile.doctor as doctor
from neurocompile.cli.flags import as_flags
from neurocompile.error_codes import CATALOGUE
from neurocompile.targets import list_targets


def test_version(cli) -> None:
    assert cli("--version").out == f"neurocompile {version('neurocompile')}\n"


def test_targets(cli) -> None:
    found = cli("targets")
    assert found.code == 0 and all(name in found.out for name in list_targets())
    told = cli("targets", "--json").json
    assert [t["name"] for t in told["targets"]] == list_targets()
    assert next(t for t in told["targets"] if t["name"] == "loihi2")["cores"] == 120


def test_one_target_has_sources(cli) -> None:
    found = cli("targets", "--show", "loihi2").out
    assert (
        "core.synaptic_memory_words" in found
        and "16,000" in found
        and "lava-utilization-tables" in found
    )
    assert "energy.synaptic_operation" in found and "unknown" in found
    assert cli("targets", "--show", "loihi2", "--json").json["core"]["neurons"]["value"] == 4096
    assert "NC3001" in cli("targets", "--show", "loihi9").err


def test_doctor(cli) -> None:
    told = cli("doctor", "--json")
    checks = {check["name"]: check for check in told.json["checks"]}
    assert told.code == (0 if told.json["ok"] else 1)
    for name in (
        "python",
        "neurocompile",
        "numpy",
        "extra torch",
        "lava imports",
        "loihi 2",
        "gpu",
        "open files",
    ):
        assert checks[name]["status"] in ("OK", "absent", "problem")
        assert checks[name]["status"] == "OK" or checks[name]["advice"]
    assert checks["numpy"]["status"] == checks["python"]["status"] == "OK"
    text = cli("doctor").out
    assert all(name in text for name in checks)


def test_doctor_finds_problems(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_FIRST", (3, 99))
    monkeypatch.setattr(doctor, "CORE", ("numpy", "a-library-that-is-not-there"))
    found = {check.name: check for check in doctor.diagnose()}
    assert found["python"].status == "problem" and "3.10 to 3.12" in found["python"].advice
    assert (
        found["a-library-that-is-not-there"].status == "problem" and found["numpy"].status == "OK"
    )


def test_doctor_and_too_few_files(monkeypatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    check = next(check for check in doctor.diagnose() if check.name == "open files")
    assert (
        check.status == "problem" and "1,024" in check.found and "the backend lava" in check.advice
    )


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_explain(cli, code: str) -> None:
    found = cli("explain", code.lower())
    assert found.code == 0 and found.out.startswith(f"{code}: {as_flags(CATALOGUE[code][0])}\n")
    assert max(map(len, found.out.splitlines())) <= 100


def test_explain_lists_all(cli) -> None:
    assert [line[:6] for line in cli("explain").out.splitlines()] == sorted(CATALOGUE)
    found = cli("explain", "NC0000")
    assert found.code == 2 and found.err.startswith("error: NC6001 ")


def test_usage(cli, tmp_path: Path) -> None:
    assert cli("--help").code == 0
    assert (
        cli("build").code
        == cli("frobnicate").code
        == cli("build", tmp_path, "--seed", "-1").code
        == 2
    )


def test_the_schema_and_one_target_are_two_questions(cli) -> None:
    found = cli("targets", "--show", "loihi2", "--schema", "--json")
    assert (
        found.code == 2 and found.json["error"]["code"] == "NC1015" and found.err.count("\n") == 1
    )


def test_explain_as_json(cli) -> None:
    told = cli("explain", "nc1003", "--json").json
    assert told == {
        "code": "NC1003",
        "title": CATALOGUE["NC1003"][0],
        "text": CATALOGUE["NC1003"][1],
    }
    assert [entry["code"] for entry in cli("explain", "--json").json["codes"]] == sorted(CATALOGUE)
    assert cli("explain", "NC9999", "--json").json["error"]["code"] == "NC6001"


def test_a_value_out_of_range_is_the_options_own_error(cli) -> None:
    told = cli("check", "--json", "a.onnx", "--T", "0").json["error"]
    assert told["code"] == "NC1007" and "T is 0; an integer from 1" in told["message"]


@pytest.mark.parametrize(
    ("arguments", "why", "where"),
    [
        (["build", "--json"], "Missing argument 'MODEL'", "build --help"),
        (["build", "a.onnx", "--t", "4", "--json"], "No such option: --t", "build --help"),
        (["check", "a.onnx", "--T", "many", "--json"], "'--T'", "check --help"),
        (["frobnicate", "--json"], "No such command 'frobnicate'", "neurocompile --help"),
        (["--json"], "No such option: --json", "neurocompile --help"),
    ],
)
def test_wrong_usage_with_json_is_an_object(
    cli, arguments: list[str], why: str, where: str
) -> None:
    found = cli(*arguments)
    told = found.json["error"]
    assert (
        found.code == 2
        and told["code"] == "NC6002"
        and why in told["message"]
        and where in told["message"]
    )
    assert found.err == f"error: NC6002 {told['message']}\n"


def test_wrong_usage_without_json_is_text(cli) -> None:
    found = cli("build")
    assert found.code == 2 and found.out == "" and "Missing argument 'MODEL'" in found.err


def test_every_command_takes_json() -> None:
    import typer

    from neurocompile.cli import app

    for name, command in typer.main.get_command(app).commands.items():
        assert any("--json" in parameter.opts for parameter in command.params), name
