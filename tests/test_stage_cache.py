"""A build with the cache of stages gives the bytes of one without; damage, strangers and full folders
cost time alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx_cases import small

import neurocompile
from neurocompile import stage_cache
from neurocompile.options import BuildOptions
from neurocompile.stages.kept import placed_once
from neurocompile.stages.lowered import Lowered

KEPT = ("check", "import", "map", "quantize")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(stage_cache.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(small(), path)
    return path


def built(model: Path, **given: object) -> tuple[bytes, list[str], list[str]]:
    """Bytes, the stages taken from the cache, and warnings."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        program = neurocompile.compile(model, **{"T": 2, **given})
    path = model.with_name("out.nca")
    program.save(path)
    kept = [name.partition(",")[0] for name in program.seconds if name.endswith("kept")]
    return path.read_bytes(), sorted(kept), [str(w.message) for w in told]


def test_a_second_build_is_the_same_and_takes_its_stages(folder: Path, model: Path) -> None:
    without = built(model, cache=False)
    assert not folder.exists() and "weights alone" in without[2][1]
    first, second = built(model), built(model)
    assert first == without
    assert second == (without[0], sorted(KEPT), without[2])
    assert sorted(entry.stage for entry in neurocompile.list_cache()) == sorted(KEPT)
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as archive:
            kinds = {name.rpartition(".")[2] for name in archive.namelist()}
        assert kinds <= {"txt", "json", "safetensors", "onnx"}  # nothing that runs
    assert folder.stat().st_mode & 0o077 == 0


def test_other_targets_options_and_data_take_what_they_share(folder: Path, model: Path) -> None:
    built(model)
    shape = neurocompile.open(model, cache=False, T=2).graph.input.sample_shape
    x = np.random.default_rng(1).random((4, *shape), np.float32)
    for given, kept in (
        ({"target": "hala_point"}, ["check", "import", "quantize"]),
        ({"seed": 1}, ["check", "import", "quantize"]),
        ({"weight_bits": 5}, ["check", "import"]),
        ({"calibration": x}, ["import"]),
        ({"calibration": x, "optimize": "packets"}, list(KEPT)),
        ({"calibration": x, "rounding": "compensated"}, ["check", "import"]),
    ):
        found = built(model, **given)
        assert found[1] == kept, given
        assert found == (built(model, cache=False, **given)[0], kept, found[2])


@pytest.mark.parametrize("name", BuildOptions().of_model("target"))
def test_every_option_of_the_model_is_in_the_key_of_its_integers(name: str) -> None:
    before = BuildOptions(T=2, weight_bits=8)
    other = msgspec.structs.replace(before)
    msgspec.structs.force_setattr(other, name, "something else")
    keys = [stage_cache.key_of("quantize", o.of_model("target")) for o in (before, other)]
    assert keys[0] != keys[1]


def test_a_stopped_build_goes_on(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(stage: object) -> None:
        if isinstance(stage, Lowered):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        neurocompile.compile(model, T=2, after=stop)
    data, kept, _ = built(model)
    assert kept == ["check", "import", "quantize"]
    assert data == built(model, cache=False)[0]


@pytest.mark.parametrize("stage", KEPT)
def test_damage_is_found_and_made_good(folder: Path, model: Path, stage: str) -> None:
    wanted = built(model)[0]
    (path,) = folder.glob(f"{stage}-*.ncc")
    sound = path.read_bytes()

    def resealed(change: Callable[[dict[str, bytes]], object]) -> bytes:
        """As somebody who knows the form would forge it."""
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        members.pop(stage_cache._SEAL)
        sums = {name: stage_cache.sha256(data) for name, data in members.items()}
        other = path.with_name("other")
        seal = {stage_cache._SEAL: json.dumps(sums).encode()}
        stage_cache.write_archive(other, {**members, **seal})
        data = other.read_bytes()
        other.unlink()
        return data

    middle = sound.find(b"{") if stage == "check" else len(sound) // 2
    flipped = sound[:middle] + bytes([sound[middle] ^ 4]) + sound[middle + 1 :]
    emptied = resealed(lambda members: members.update(dict.fromkeys(members, b"[]")))
    for damaged in (flipped, sound[: len(sound) // 2], b"", b"hello", emptied):
        path.write_bytes(damaged)
        data, kept, told = built(model)
        assert data == wanted
        assert stage not in kept and any("was damaged" in text for text in told)
        assert path.read_bytes() == sound  # made anew
        assert built(model)[1] == sorted(KEPT)


def test_the_folder_is_bounded_and_the_latest_stay(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(model)
    entries = neurocompile.list_cache()
    for age, entry in enumerate(entries):
        when = entry.used - 100 * age
        os.utime(folder / f"{entry.stage}-{entry.key}.ncc", (when, when))
    entries = neurocompile.list_cache()
    total = sum(entry.bytes for entry in entries)
    monkeypatch.setenv(stage_cache.SIZE, str(total / 1e9))
    cache = stage_cache.opened()
    cache.put("map", "0" * 64, lambda: {"facts.json": b"0"})
    left = neurocompile.list_cache()
    assert left[0].key == "0" * 64 and left[1:] == entries[:-1]  # one came, the oldest went
    assert sum(entry.bytes for entry in left) <= cache.limit
    cache.put("map", "1" * 64, lambda: {"facts.json": bytes(cache.limit)})  # never all of it
    assert len(neurocompile.list_cache()) == len(left)
    assert neurocompile.clear_cache() == len(left) and neurocompile.list_cache() == []


def test_where_nothing_can_be_trusted_or_written_nothing_is_kept(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, wide, read_only = tmp_path / "plain", tmp_path / "wide", tmp_path / "home"
    plain.write_text("a file")
    wide.mkdir(mode=0o777)
    wide.chmod(0o777)

    def refused() -> str:
        found = stage_cache.opened()
        assert found.folder is None and stage_cache.list_cache() == []
        return found.why

    for named, why in (
        ("off", "NEUROCOMPILE_CACHE"),
        (str(plain), "exists"),
        (str(wide), "others"),
    ):
        monkeypatch.setenv(stage_cache.FOLDER, named)
        assert why in refused()
    if hasattr(os, "geteuid"):
        monkeypatch.setenv(stage_cache.FOLDER, str(tmp_path / "theirs"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 12345)
            assert "another user" in refused()
    monkeypatch.delenv(stage_cache.FOLDER)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(read_only))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", _read_only)
        assert "Read-only" in refused()
        data, kept, _ = built(model)
    assert kept == [] and not read_only.exists()
    assert data == built(model, cache=False)[0]


def _read_only(self: Path, *arguments: object, **named: object) -> None:
    raise OSError(30, "Read-only file system", str(self))


def test_a_folder_that_stops_to_take_files_costs_nothing(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise neurocompile.NeurocompileError("NC5005", "no space left on device")

    monkeypatch.setattr(stage_cache, "write_archive", full)
    data, kept, told = built(model)
    assert kept == [] and not any("cache" in text for text in told)
    assert data == built(model, cache=False)[0]


def test_kinds_of_others_are_not_kept(folder: Path, model: Path) -> None:
    lowered = neurocompile.open(model, T=2, cache=False).canonical().quantize().lower()
    node = lowered.quantized.graph.nodes[1]
    theirs = type("Theirs", (type(node),), {"__module__": "their.package"})
    graph = lowered.quantized.graph
    fields = [f.name for f in dataclasses.fields(node) if f.init]
    foreign = theirs(**{name: getattr(node, name) for name in fields})
    graph = graph.replace(nodes=(graph.nodes[0], foreign, *graph.nodes[2:]))
    assert not stage_cache.ours(graph) and stage_cache.ours(lowered.quantized.graph)
    made = object()
    what = graph, lowered.circuit, lowered.options, lowered.target, lowered.quantized.statistics
    found = placed_once(stage_cache.opened(), *what, None, lowered.timer, lambda: made)  # type: ignore[arg-type, return-value]
    assert found is made and neurocompile.list_cache() == []


def test_keys_know_content_and_layout_alone(folder: Path) -> None:
    a = np.arange(6, dtype=np.int8).reshape(2, 3)
    key = stage_cache.key_of
    assert key(a) == key(np.asfortranarray(a)) == key(a.copy())
    others = [
        key(a.reshape(3, 2)),
        key(a.astype(np.int16)),
        key(a + 1),
        key(a, a),
        key("a"),
        key(b"ab"),
    ]
    assert len({key(a), *others}) == 7
    assert key("a", "b") != key("ab")


@pytest.mark.slow
def test_the_command(folder: Path, model: Path, tmp_path: Path) -> None:
    def call(*arguments: object) -> dict[str, object]:
        command = [sys.executable, "-m", "neurocompile", *map(str, arguments), "--json"]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(found.stdout)

    assert call("cache", "path")["folder"] == str(folder)
    call("build", model, "-o", tmp_path / "a.nca", "--no-cache")
    assert call("cache", "list")["entries"] == []
    call("build", model, "-o", tmp_path / "b.nca")
    again = call("build", model, "-o", tmp_path / "c.nca")
    assert {"check, kept", "quantize, kept", "map, kept"} <= set(again["seconds"])  # type: ignore[call-overload]
    made = {(tmp_path / f"{name}.nca").read_bytes() for name in "abc"}
    assert len(made) == 1
    assert len(call("cache", "list")["entries"]) == len(KEPT)  # type: ignore[arg-type]
    assert call("cache", "clear")["removed"] == len(KEPT)
    assert call("cache", "list")["entries"] == []
