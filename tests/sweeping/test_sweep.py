"""``neurocompile.sweep``: exact figures, whatever computes them; records that a killed sweep goes on
from; points that no other beats.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import softmax_files

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.sweeping.pareto import draw, front
from neurocompile.sweeping.records import Evaluation, Placement, Settings
from neurocompile.sweeping.space import Integers, Point, points_of
from neurocompile.sweeping.sweep import Found, Sweep

SETTINGS = Settings(2, "0", "m", "a", "b", 8, None, 0, {}, 0, ("davies2018",))


@pytest.fixture(scope="module")
def swept(digits_model, digits_data, tmp_path_factory) -> Sweep:
    return neurocompile.sweep(
        digits_model,
        data=digits_data.x,
        labels=digits_data.y,
        samples=20,
        timesteps=(4, 2),
        place=False,
        jobs=1,
        out=tmp_path_factory.mktemp("sweep"),
    )


def again(swept: Sweep, model: Path, data, **given) -> tuple[Sweep, list[str]]:
    """The same sweep once more, and what it computed."""
    computed: list[str] = []
    found = neurocompile.sweep(
        model,
        **{
            **dict(data=data.x, labels=data.y, samples=20, timesteps=(4, 2), place=False, jobs=1),
            **dict(out=swept.folder),
            **given,
        },
        progress=lambda label, done, total: computed.append(label),
    )
    return found, computed


def test_a_point_is_what_compile_and_run_give(swept, digits_program, digits_data) -> None:
    result = digits_program.run(digits_data.x[:20])
    first = swept.found[0].evaluation
    assert first is not None and swept.found[0].point.integers.T == 4
    assert first.spikes == result.spikes and first.neuron_steps == result.neuron_steps
    assert first.correct == (result.predictions == digits_data.y[:20]).sum()
    assert first.logits_sha256 == hashlib.sha256(result.logits.tobytes()).hexdigest()


def test_finished_records_stay_and_a_missing_one_is_made_again(
    swept, digits_model, digits_data
) -> None:
    records = sorted((swept.folder / "records").glob("evaluation-*.json"))
    before = [path.read_bytes() for path in records]
    assert again(swept, digits_model, digits_data)[1] == []
    records[0].unlink()
    found, computed = again(swept, digits_model, digits_data)
    assert len(computed) == 1 and computed[0].startswith(records[0].stem.split("-", 1)[1])
    assert [path.read_bytes() for path in records] == before and found.found == swept.found


def test_a_folder_of_other_samples_or_with_a_changed_record_is_refused(
    swept, digits_model, digits_data
) -> None:
    with pytest.raises(NeurocompileError, match="NC5010.*other data_sha256, samples"):
        again(swept, digits_model, digits_data, samples=10)
    path = next((swept.folder / "records").glob("evaluation-*.json"))
    kept = path.read_bytes()
    try:
        path.write_bytes(kept.replace(b'"correct"', b'"korrect"'))
        with pytest.raises(NeurocompileError, match="NC5010.*no record of a sweep"):
            again(swept, digits_model, digits_data)
    finally:
        path.write_bytes(kept)


def test_a_fold_that_cannot_be_is_a_record_and_no_error(swept, digits_model, digits_data) -> None:
    found, _ = again(
        swept,
        digits_model,
        digits_data,
        timesteps=4,
        place=True,
        folds="5x5",
        evaluate=False,
        counted=4,
    )
    placement = found.found[0].placement
    assert placement is not None and placement.problem is not None
    assert placement.problem.code == "NC3104" and not front(found)


def test_points_are_checked_distinct_and_named_for_files() -> None:
    points = points_of(["a/b.yaml", "a/b.yaml"], [1, 2, 1], 4, ("none", "1x8"))
    assert [p.name for p in points] == [
        f"a_b.yaml-T{T}-4bit-{f}" for T in (1, 2) for f in ("none", "1x8")
    ]
    for axes, code in (
        (("loihi2", 0, 8, "none"), "NC1007"),
        (("loihi2", 4, 9, "none"), "NC2003"),
        (("loihi2", 4, 8, "wide"), "NC"),
        (("loihi2", [], 8, "none"), "NC1015"),
        (("loihi2", range(1, 60_000), (4, 8), "none"), "NC1015"),
        ((3, 4, 8, "none"), "NC3001"),
    ):
        with pytest.raises(NeurocompileError, match=code):
            points_of(*axes)


def point(bits: int, correct: int, cores: int, energy: float | None) -> Found:
    evaluation = Evaluation(8, correct, {"a": 16}, {"a": 64}, "", "")
    placement = Placement(cores=cores, steps=4, energy_pj={"davies2018": energy})
    return Found(Point(Integers("loihi2", 4, bits), "none"), evaluation, placement)


def test_the_front_holds_what_no_point_beats_and_ties(tmp_path) -> None:
    best, cheap, beaten = point(8, 8, 20, 4e6), point(4, 6, 10, 2e6), point(6, 6, 20, 3e6)
    tie, unknown = point(5, 6, 10, 2e6), point(7, 8, 1, None)
    sweep = Sweep(SETTINGS, (best, cheap, beaten, tie, unknown), None)
    assert front(sweep) == [best, cheap, tie]
    assert front(sweep, ("cores",)) == [unknown]
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    assert len(draw(sweep).axes[0].lines) == 5  # four points with an energy, and their front


def test_a_sweep_is_read_point_by_point_and_as_a_table(swept) -> None:
    pandas = pytest.importorskip("pandas", reason="the extra 'notebook' is not installed")
    assert len(swept) == 2 and list(swept) == list(swept.found)
    assert repr(swept) == f"<Sweep of {swept.settings.model!r}: 2 points>"
    table = swept.to_pandas()
    assert isinstance(table, pandas.DataFrame) and list(table.index) == [
        f.point.name for f in swept
    ]
    for one, row in zip(swept, table.itertuples()):
        assert (row.T, row.bits, row.fold) == (one.point.integers.T, 8, one.point.fold)
        assert row.accuracy == one.evaluation.accuracy
        assert row.spikes == one.evaluation.spikes_a_sample
    placed = Sweep(SETTINGS, (point(8, 8, 20, 4e6),), None).to_pandas()
    assert placed.loc[placed.index[0], ["cores", "steps", "pJ davies2018"]].tolist() == [20, 4, 4e6]


def test_integers_that_cannot_be_are_a_record_of_each_point(tmp_path) -> None:
    """A softmax whose phases need more steps than two."""
    onnx.save(softmax_files.attention(), tmp_path / "attention.onnx")
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    given = dict(data=x, calibration=x, timesteps=2, folds="none", jobs=1)
    (found,) = neurocompile.sweep(tmp_path / "attention.onnx", **given)
    assert found.evaluation.problem == found.placement.problem is not None
    assert found.evaluation.problem.code == "NC2012" and found.evaluation.accuracy is None


@pytest.mark.parametrize(
    "given, code, why",
    [
        ({"data": None}, "NC1006", "samples are needed to sweep over"),
        ({"timesteps": 4.5}, "NC1015", "T is 4.5; a sequence is needed"),
        ({"labels": np.zeros(3, np.int64)}, "NC1006", "integers .2. are needed"),
        ({"out": Path(__file__) / "records"}, "NC5005", "cannot make the folder"),
    ],
)
def test_what_no_sweep_can_be_made_of_is_refused(digits_model, digits_data, given, code, why):
    with pytest.raises(NeurocompileError, match=why) as refused:
        neurocompile.sweep(digits_model, **{"data": digits_data.x[:2], "jobs": 1, **given})
    assert refused.value.code == code


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    from neurocompile.sweeping import cluster

    monkeypatch.setattr(cluster, "_SECONDS", 0.3)
    with pytest.raises(NeurocompileError, match="NC4012 cluster tcp://127.0.0.1:9 cannot be used"):
        list(cluster.Cluster("tcp://127.0.0.1:9", 1).run(iter(())))


def test_wrong_clusters_are_refused_before_any_work(digits_model, digits_data) -> None:
    with pytest.raises(NeurocompileError, match="NC1015.*cluster is 'moon'"):
        neurocompile.sweep(digits_model, data=digits_data.x[:2], cluster="moon")


@pytest.mark.slow
def test_torch_finds_the_same_record(swept, digits_model, digits_data) -> None:
    pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    found, _ = again(swept, digits_model, digits_data, device="torch-cpu", out=None, timesteps=4)
    assert found.found[0] == swept.found[0]


PLACED = dict(timesteps=(1, 2, 4), folds=("none", "1x8"), samples=300, counted=2)


@pytest.fixture(scope="module")
def placed_here(digits_model, digits_data) -> Sweep:
    return neurocompile.sweep(
        digits_model, data=digits_data.x, labels=digits_data.y, jobs=1, **PLACED
    )


@pytest.mark.slow
def test_placements_are_the_programs_of_compile(placed_here, digits_program, digits_data) -> None:
    placement = placed_here.found[4].placement
    assert placement is not None and placement.program_sha256 == digits_program.fingerprint
    energy = digits_program.energy(digits_data.x[:2])
    assert placement.energy_pj == {"davies2018": energy.energies[0].dynamic_pj}
    assert placement.packets == energy.counts["packets"] and placement.basis == "measured"


@pytest.mark.slow
def test_processes_find_the_same(placed_here, digits_model, digits_data) -> None:
    found = neurocompile.sweep(
        digits_model, data=digits_data.x, labels=digits_data.y, jobs=2, **PLACED
    )
    assert found.found == placed_here.found


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_finds_the_same(
    placed_here, digits_model, digits_data, monkeypatch
) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    made: list[object] = []

    class Watched(distributed.LocalCluster):
        def __init__(self, **given: object) -> None:
            super().__init__(**given)
            made.append(self)

    monkeypatch.setattr(distributed, "LocalCluster", Watched)
    killed: list[int] = []

    def kill_one(label: str, done: int, total: int) -> None:
        if not killed:
            worker = next(iter(made[0].workers.values()))  # type: ignore[attr-defined]
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    found = neurocompile.sweep(
        digits_model,
        data=digits_data.x,
        labels=digits_data.y,
        cluster="local",
        jobs=2,
        progress=kill_one,
        **PLACED,
    )
    assert killed and found.found == placed_here.found


@pytest.mark.slow
def test_a_killed_sweep_goes_on(digits_model, digits_data, tmp_path) -> None:
    np.savez(tmp_path / "x.npz", x=digits_data.x[:40], y=digits_data.y[:40])
    command = [
        *(sys.executable, "-m", "neurocompile", "sweep", str(digits_model)),
        *("--data", str(tmp_path / "x.npz"), "--T", "1,2,3,4", "--no-place", "--jobs", "1"),
        *("--out", str(tmp_path / "out"), "--json"),
    ]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "out" / "records"
    for _ in range(1200):
        if len(list(records.glob("evaluation-*.json"))) >= 1:
            break
        time.sleep(0.1)
    first.kill()
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in records.glob("evaluation-*.json")}
    assert 1 <= len(kept) < 4
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [p["T"] for p in found["points"]] == [1, 2, 3, 4]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert all(p["evaluation"]["samples"] == 40 for p in found["points"])
