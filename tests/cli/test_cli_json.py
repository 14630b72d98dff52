"""What the text of a command says, its --json says too."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocompile.cli.flags import as_flags
from neurocompile.error_codes import CATALOGUE


def test_an_estimate_says_whether_it_fits(cli, model: Path) -> None:
    assert cli("build", model, "--estimate-only", "--json").json["fits"] is True
    assert cli("build", model, "--estimate-only", "--max-cores", 3, "--json").json["fits"] is False


@pytest.mark.slow
def test_a_build_with_a_budget_says_which_layers_exceed_their_share(
    cli, model: Path, tmp_path: Path
) -> None:
    arguments = ("build", model, "--budget", "spikes=6000", "-o", tmp_path / "a.nca")
    told, text = cli(*arguments, "--json").json, cli(*arguments).out
    assert f"first answer after {told['first_answer_steps']} steps" in text
    budget = told["budget"]
    assert (
        f"{len(budget['exceeding'])} of {len(budget['layers'])} layers exceed their share" in text
    )
    assert f"{budget['expected']:,.0f}" in text
    assert all(f"{share['excess']:+,.1f}" in text for share in budget["exceeding"])


def test_parity_has_its_totals(cli, artifact: Path, data: Path) -> None:
    arguments = ("parity", artifact, "--input", data, "--against", "emulator")
    told = cli(*arguments, "--json").json
    assert (
        f"{told['differences']:,} differences in {told['values']:,} values" in cli(*arguments).out
    )


def test_notes_are_in_it(cli, artifact: Path) -> None:
    found = cli("energy", artifact, "--json")
    assert [f"{m['kind']}: {m['text']}\n" for m in found.json["messages"]] == [found.err]
    assert "messages" not in cli("verify", artifact, "--json").json


def test_every_violation_is_an_entry(cli, model: Path, tmp_path: Path) -> None:
    found = cli("build", model, "--target", "sim_small", "-o", tmp_path / "a.nca", "--json")
    listed = found.json["error"]["violations"]
    assert len(listed) > 1
    assert [f"error: {v['code']} {v['message']}" for v in listed] == found.err.splitlines()


def test_files_are_named(cli, artifact: Path, tmp_path: Path) -> None:
    assert cli("verify", artifact, "--json").json["artifact"] == str(artifact)
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    told = cli("plot", artifact, "--kind", "cores", "-o", tmp_path / "a.png", "--json").json
    assert (told["model"], told["sample"]) == ("qkformer", None)


def test_explain_has_json(cli) -> None:
    assert cli("explain", "--json").json["codes"] == [
        {"code": code, "title": as_flags(title)} for code, (title, _) in sorted(CATALOGUE.items())
    ]
    told = cli("explain", "nc1003", "--json").json
    assert (told["title"], told["text"]) == CATALOGUE["NC1003"]
