"""``plot``: files of both kinds and formats, the same bytes each time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the extra plot")


@pytest.mark.parametrize("suffix, head", [("png", b"\x89PNG"), ("svg", b"<?xml")])
@pytest.mark.parametrize("kind", ["raster", "cores"])
def test_files_are_deterministic(
    cli, artifact: Path, data: Path, tmp_path: Path, kind: str, suffix: str, head
) -> None:
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    for path in (first, second):
        found = cli("plot", artifact, "--kind", kind, "--input", data, "--sample", 1, "-o", path)
        assert found.code == 0 and found.err == "" and found.out == f"wrote {path}\n"
    content = first.read_bytes()
    assert content.startswith(head) and len(content) > 10_000 and content == second.read_bytes()
    assert b"<dc:date>" not in content
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_json(cli, artifact: Path, tmp_path: Path) -> None:
    told = cli("plot", artifact, "--kind", "cores", "-o", tmp_path / "a.png", "--json").json
    assert told == {
        "output": str(tmp_path / "a.png"),
        "kind": "cores",
        "model": "qkformer",
        "sample": None,
    }


def test_wrong_usage(cli, artifact: Path, data: Path, tmp_path: Path) -> None:
    for options in (
        ["--kind", "raster", "-o", tmp_path / "a.png"],
        ["--kind", "raster", "--input", data, "--sample", 3, "-o", tmp_path / "a.png"],
        ["--kind", "cores", "-o", tmp_path / "a.jpeg"],
        ["--kind", "chart", "-o", tmp_path / "a.png"],
    ):
        found = cli("plot", artifact, *options)
        assert found.code == 2 and found.out == "" and found.err
    assert not list(tmp_path.iterdir())


def test_missing_folder(cli, artifact: Path, tmp_path: Path) -> None:
    found = cli("plot", artifact, "--kind", "cores", "-o", tmp_path / "none" / "a.png", "--json")
    assert (
        found.code == 2 and found.json["error"]["code"] == "NC5005" and not list(tmp_path.iterdir())
    )


def test_without_matplotlib_the_extra_is_named(
    cli, artifact: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("neurocompile.report.pictures.find_spec", lambda name: None)
    found = cli("plot", artifact, "--kind", "cores", "-o", tmp_path / "a.png")
    assert (
        found.code == 2
        and found.err.startswith("error: NC4001 ")
        and "neurocompile[plot]" in found.err
    )
    assert importlib.util.find_spec("matplotlib") is not None
