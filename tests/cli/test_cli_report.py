"""``report``: writes one page, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")


def test_page_with_parity(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    told = cli("parity", artifact, "--input", data, "--against", "emulator", "--json")
    (tmp_path / "parity.json").write_text(told.out)
    path = tmp_path / "r.html"
    found = cli(
        "report",
        artifact,
        "--input",
        data,
        "--parity",
        tmp_path / "parity.json",
        "-o",
        path,
        "--json",
    )
    assert found.json == {"output": str(path), "bytes": path.stat().st_size} and found.err == ""
    text = path.read_text()
    assert "<b>Exact</b>" in text and "emulator, 3 samples" in text
    assert (
        cli("report", artifact, "--profile", "davies2018", "-o", tmp_path / "b.html").out
        == f"wrote {tmp_path / 'b.html'}\n"
    )
    assert "nothing was run" in (tmp_path / "b.html").read_text()


def test_parity_of_another_program_is_refused(
    cli, artifact: Path, altered: Path, data: Path, tmp_path: Path
) -> None:
    told = cli("parity", altered, "--input", data, "--against", "emulator", "--json")
    (tmp_path / "foreign.json").write_text(told.out)
    (tmp_path / "old.json").write_text(
        json.dumps({k: v for k, v in told.json.items() if k != "program"})
    )
    (tmp_path / "empty.json").write_text(json.dumps(told.json | {"backends": []}))
    for name, code in (("foreign", "NC7008"), ("old", "NC7008"), ("empty", "NC7005")):
        found = cli(
            "report", artifact, "--parity", tmp_path / f"{name}.json", "-o", tmp_path / "r.html"
        )
        assert (
            found.code == 2
            and found.err.startswith(f"error: {code} ")
            and found.err.count("\n") == 1
        )
        assert not (tmp_path / "r.html").exists()
    assert (
        cli(
            "report", altered, "--parity", tmp_path / "foreign.json", "-o", tmp_path / "r.html"
        ).code
        == 0
    )
    assert "NOT EXACT" in (tmp_path / "r.html").read_text()


def test_a_program_is_the_same_before_and_after_its_file(program, artifact: Path) -> None:
    from neurocompile.artifact.store import load_program

    assert load_program(artifact).fingerprint == program.fingerprint


def test_wrong_input_leaves_nothing(cli, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    for options, code in (
        (["--parity", tmp_path / "bad.json", "-o", tmp_path / "a.html"], "NC7005"),
        (["-o", tmp_path / "none" / "a.html"], "NC5005"),
        (["--profile", "x", "-o", tmp_path / "a.html"], "NC7001"),
    ):
        found = cli("report", artifact, *options)
        assert found.code == 2 and found.err.startswith(f"error: {code} ")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.json"]
