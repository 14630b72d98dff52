"""``budget`` on a model with a softmax attention, as a file and as an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from softmax_files import write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with attention.onnx, attention.nca and x.npz."""
    folder = tmp_path_factory.mktemp("softmax")
    write(folder)
    return folder


def few_samples_alone(said: str) -> bool:
    """Whether nothing else is said than that 12 samples are few."""
    return all("samples limit the effective dimension" in line for line in said.splitlines())


@pytest.mark.parametrize(
    "options", [[], ["--epsilon", 0.5], ["--data", "x.npz", "--accuracy", 0.1]]
)
def test_budget_of_an_artifact_with_a_softmax(cli, files: Path, options: list) -> None:
    options = [files / o if o == "x.npz" else o for o in options]
    found = cli("budget", files / "attention.nca", *options)
    assert found.code == 0 and few_samples_alone(found.err), found.err
    assert "left out: the sweep of T" in found.out and "left out: L_f's upper bound" in found.out
    told = cli("budget", files / "attention.nca", *options, "--json").json
    assert (
        len(told["left_out"]) == 2
        and told["sweep"] == []
        and told["lipschitz"]["bound_status"] == "unknown"
    )
    gains = {k["kind"]: (k["gain"], k["to_here"]) for k in told["lipschitz"]["layers"]}
    assert (
        gains["RateSoftmax"] == (None, None)
        and gains["Output"][0] > 0
        and gains["Output"][1] is None
    )
    assert len(told["lipschitz"]["layers"]) > 10


def test_budget_of_a_file_with_a_softmax(cli, files: Path) -> None:
    found = cli("budget", files / "attention.onnx", "--data", files / "x.npz", "--json")
    assert found.code == 0 and few_samples_alone(found.err)
    assert found.json["left_out"] == [
        "T = 1, 2, 3 of the sweep: the model's softmax has phases and needs more steps"
    ]
    assert found.json["lipschitz"]["bound"] > found.json["lipschitz"]["local_largest"]
    few = cli("budget", files / "attention.onnx", "--data", files / "x.npz", "--T", 2)
    assert few.code == 2 and few.err.splitlines()[-1].startswith("error: NC2012 ")
