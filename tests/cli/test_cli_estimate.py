"""``build --estimate-only``: bounds and violations, nothing mapped or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocompile.mapping import lower_bound_cores

MODEL = Path(__file__).resolve().parents[2] / "models" / "zoo" / "qkformer_digits" / "qkformer.onnx"


def test_a_model_that_fits(cli, tmp_path: Path, monkeypatch) -> None:
    import neurocompile

    monkeypatch.chdir(tmp_path)
    found = cli("build", MODEL, "--estimate-only", "--json")
    data = json.loads(found.out)
    assert found.code == 0 and not list(tmp_path.iterdir())
    program = neurocompile.compile(MODEL)
    assert (
        data["cores_at_least"]
        == lower_bound_cores(program.circuit, program.target)
        == program.mapping.lower_bound
    )
    assert data["violations"] == [] and data["cores_available"] == 120
    for need in data["needs"]:
        used = [getattr(core.used, need["resource"]) for core in program.mapping.cores]
        assert need["needed"] <= sum(used) and need["cores"] <= len(used)
    text = cli("build", MODEL, "--estimate-only")
    assert "at least 13 of 120 cores" in text.out and "nothing rules it out" in text.out


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [(("--target", "sim_small"), {"NC3101", "NC3102"}), (("--max-cores", 3), {"NC3101"})],
)
def test_all_that_rules_a_model_out_comes_at_once(
    cli, tmp_path: Path, monkeypatch, arguments: tuple, codes: set[str]
) -> None:
    """With a layer, what it needs, the limit and two ways out on each line; a build says the same."""
    monkeypatch.chdir(tmp_path)
    found = cli("build", MODEL, "--estimate-only", "--json", *arguments)
    violations = json.loads(found.out)["violations"]
    assert found.code == 2 and not list(tmp_path.iterdir())
    assert {code for code, _ in violations} <= codes and len(violations) > 1
    for _, text in violations:
        assert (
            ("layer '" in text and ", or " in text or "no fold fits" in text)
            and any(c.isdigit() for c in text)
            and "\n" not in text
        )
    build = cli("build", MODEL, "-o", tmp_path / "a.nca", *arguments)
    assert build.code == 2 and not list(tmp_path.iterdir())
    assert [line.removeprefix("error: ") for line in build.err.splitlines() if "NC3" in line] == [
        f"{c} {t}" for c, t in violations
    ]


def test_an_estimate_knows_no_budget(cli) -> None:
    found = cli("build", MODEL, "--estimate-only", "--budget", "spikes=10")
    assert found.code == 2 and found.err.startswith("error: NC3112 ")
