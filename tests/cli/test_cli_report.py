"""``report``: writes one page, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="needs the extra report")


def test_page_with_parity(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    told = cli("parity", artifact, "--input", data, "--against", "emulator", "--json")
    (tmp_path / "parity.json").write_text(told.out)
    path = tmp_path / "r.html"
    found = cli("report", artifact, "--input", data, "--parity", tmp_path / "parity.json", "-o", path, "--json")
    assert found.json == {"output": str(path), "bytes": path.stat().st_size} and found.err == ""
    text = path.read_text()
    assert "<b>Exact</b>" in text and "emulator, 3 samples" in text
    assert cli("report", artifact, "--profile", "davies2018", "-o", tmp_path / "b.html").out == f"wrote {tmp_path / 'b.html'}\n"
    assert "nothing was run" in (tmp_path / "b.html").read_text()


def test_wrong_input_leaves_nothing(cli, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    for options, code in (
        (["--parity", tmp_path / "bad.json", "-o", tmp_path / "a.html"], "NC7005"),
        (["-o", tmp_path / "none" / "a.html"], "NC5005"), (["--profile", "x", "-o", tmp_path / "a.html"], "NC7001"),
    ):  # fmt: skip
        found = cli("report", artifact, *options)
        assert found.code == 2 and found.err.startswith(f"error: {code} ")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.json"]
