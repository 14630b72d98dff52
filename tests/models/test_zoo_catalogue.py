"""``neurocompile zoo`` and its Python twin: every model has its file, its card and true facts."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest

from neurocompile.cli import main
from neurocompile.errors import NeurocompileError
from neurocompile.zoo import find_model, list_models

ROOT = Path(__file__).parents[2]
MODELS = list_models()


def cli(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


def test_every_model_file_is_listed() -> None:
    files = {p.name for p in (ROOT / "models" / "zoo").glob("*/*") if p.suffix in (".onnx",)}
    files |= {p.name for p in (ROOT / "models" / "zoo").glob("*/*.safetensors")}
    assert {m.path.name for m in MODELS} == files
    assert len({m.name for m in MODELS}) == len(MODELS) == 16


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_card_and_list_say_the_same(model) -> None:
    if not model.installed:
        pytest.skip("a plain install has no large weights")
    assert model.installed and model.path.stat().st_size <= 10_000_000
    card = model.card.read_text(encoding="utf-8")
    assert f"{model.parameters:,}" in card and f"{model.accuracy:.2%}" in card


def test_large_weights_stay_out_of_the_wheel() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["neurocompile.models"]
    for model in MODELS:
        inside = [fnmatch.fnmatch(f"zoo/{model.name}{model.path.suffix}", p) for p in patterns]
        kept = model.path.suffix == ".onnx" and model.installed
        assert any(inside) == (kept and model.path.stat().st_size < 2e6)
        assert any(fnmatch.fnmatch(f"zoo/{model.name}.json", p) for p in patterns)


def test_the_command_line(capfd) -> None:
    code, out, _ = cli(capfd, "zoo", "list")
    assert code == 0 and all(m.name in out for m in MODELS)
    listed = json.loads(cli(capfd, "zoo", "list", "--json")[1])["models"]
    assert [m["name"] for m in listed] == [m.name for m in MODELS]
    large = find_model("cifar10/qkformer-4-256")
    code, out, _ = cli(capfd, "zoo", "path", "qkformer-4-256")
    assert code == (0 if large.installed else 2)
    assert not large.installed or Path(out.strip()) == large.path
    told = json.loads(cli(capfd, "zoo", "path", "digits/spikformer", "--json")[1])
    assert told["source"] == told["path"] and told["correct"] == 355
    assert "Apache-2.0" in cli(capfd, "zoo", "card", "qkformer-4-256")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "spikformer"), "takes no name"),
        (("path",), "needs a NAME"),
        (("path", "resnet"), "no model of the name 'resnet'"),
        (("show",), "show"),
    ],
)
def test_wrong_usage(capfd, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = cli(capfd, "zoo", *arguments)
    assert code == 2 and said in err


def test_weights_that_the_wheel_leaves_out(tmp_path, monkeypatch, capfd) -> None:
    facts = find_model("qkformer-4-256").path.with_suffix(".json").read_bytes()
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "qkformer-4-256.json").write_bytes(facts)
    monkeypatch.setattr("neurocompile.zoo._root", lambda: tmp_path)
    assert not find_model("qkformer-4-256").installed
    assert "not in the wheel" in cli(capfd, "zoo", "list")[1]
    code, _, err = cli(capfd, "zoo", "path", "qkformer-4-256")
    assert code == 2 and "NC1001" in err and "not part of the wheel" in err


def test_a_name_of_two_models_is_refused(tmp_path, monkeypatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        facts = {"data": "d", "T": 4, "parameters": 1, "correct": 1, "total": 1}
        (tmp_path / folder / "m.json").write_text(json.dumps(facts), encoding="utf-8")
    monkeypatch.setattr("neurocompile.zoo._root", lambda: tmp_path)
    assert find_model("a/m").name == "a/m"
    with pytest.raises(NeurocompileError, match="2 models"):
        find_model("m")
