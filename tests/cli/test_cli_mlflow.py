"""``--log mlflow:WHERE``: each call a run of MLflow, in a folder and by what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.tracking import Tracker, metrics_of


def test_numbers_go_by_their_path() -> None:
    told = {
        "exact": True,
        "model": "m",
        "seconds": 2,
        "backends": [{"backend": "lava", "differences": 0}, {"differences": 1.5}],
        "cores": list(range(100)),
        "none": None,
        "a,b": {"c": 3},
    }
    assert metrics_of(told) == {
        "seconds": 2.0,
        "backends.lava.differences": 0.0,
        "backends.1.differences": 1.5,
        "a_b.c": 3.0,
    }


def test_a_place_is_needed(cli, artifact: Path, data: Path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = cli("run", artifact, "--input", data, "--log", "mlflow:")
    assert found.code == 2 and "NC1015" in found.err and "accuracy" not in found.out


def test_without_mlflow_its_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr("neurocompile.tracking.find_spec", lambda name: None)
    with pytest.raises(NeurocompileError, match=r"NC4001 .*neurocompile\[mlflow\]"):
        Tracker("mlflow:runs")


@pytest.mark.slow
def test_calls_are_runs_of_a_folder(
    cli, artifact: Path, data: Path, tmp_path: Path, monkeypatch
) -> None:
    """MLflow's own client reads back what each call was given and found."""
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "study")
    given = ("run", artifact, "--input", data, "--log", "mlflow:runs")
    told = cli(*given, "--json").json
    wrong = cli("run", artifact, "--input", artifact, "--log", "mlflow:runs")
    assert wrong.code == 2 and "NC1012" in wrong.err
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    experiment = client.get_experiment_by_name("study")
    found = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    first, second = found
    assert first.info.status == "FINISHED" and first.info.run_name == "run qkformer"
    assert first.data.metrics["accuracy"] == told["accuracy"]
    assert first.data.params["artifact"] == str(artifact)
    assert first.data.tags["neurocompile.command"] == "run"
    assert second.info.status == "FAILED" and second.data.tags["neurocompile.error"] == "NC1012"
    kept = client.download_artifacts(first.info.run_id, "record.json", str(tmp_path))
    assert json.loads(Path(kept).read_text())["result"] == told


@pytest.mark.slow
def test_what_does_not_answer_stops_before_the_work(
    cli, artifact: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", "http://127.0.0.1:9"):
        found = cli("run", artifact, "--input", data, "--log", f"mlflow:{where}")
        assert found.code == 2 and "NC5005 cannot write to MLflow at" in found.err
        assert "accuracy" not in found.out and len(found.err.strip().splitlines()) == 1
