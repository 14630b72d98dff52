"""``reproduce table4|table5|table6`` on the user's own models and data, and trainings of the ablation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.theory.experiments import ablation as ablations
from neurocompile.theory.experiments.energy_task import table5_of
from neurocompile.theory.experiments.real_models import Task, given, table4, table6_on
from neurocompile.theory.experiments.sentences import embedded, text_part_of
from neurocompile.theory.experiments.trained_digits import Setting, Trained, spread


@pytest.fixture
def data(digits_data, tmp_path):
    path = tmp_path / "digits.npz"
    np.savez(path, x=digits_data.x, y=digits_data.y)
    return path


def test_table4_counts_what_the_emulator_does(
    digits_model, digits_program, digits_data, data
) -> None:
    result = table4(Task(data, (str(digits_model),), samples=20))
    row = result.data["models"]["qkformer"]
    run = digits_program.run(digits_data.x[:20])
    assert row["spikes"] == sum(run.spikes.values()) / 20
    assert row["accuracy"] == run.accuracy(digits_data.y[:20])
    expected = row["lipschitz"] ** 2 * result.data["d_eff"] / row["epsilon"] ** 2
    assert row["bound"] == pytest.approx(expected) and row["ratio"] == pytest.approx(
        row["spikes"] / expected
    )
    curve = result.data["d_eff_curve"]
    assert curve[-1][0] == 360 and [n for n, _ in curve] == sorted(n for n, _ in curve)
    json.dumps(result.data)


def test_table4_needs_classes(digits_model, digits_data, tmp_path) -> None:
    np.savez(tmp_path / "x.npz", x=digits_data.x[:40])
    with pytest.raises(NeurocompileError, match="NC1012.*no 'y'"):
        table4(Task(tmp_path / "x.npz", (str(digits_model),)))


def test_sentences_are_read_a_line_each(tmp_path) -> None:
    def part(texts):
        return np.array([[[len(t)]] for t in texts], np.float32)

    path = tmp_path / "dev.tsv"
    path.write_text("a\tb\t1\nlong\t0\n", encoding="utf-8")
    found = embedded(path, part)
    assert found.x.ravel().tolist() == [3, 4] and found.y.tolist() == [1, 0]
    assert len(embedded(path, part, 1).y) == 1
    for text in ("good\t1\nno class\n", "good\t-1\n", "good\t1.0\n", "", "x\t" + "9" * 400):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(NeurocompileError, match="NC1012"):
            embedded(path, part)
    path.write_bytes(b"\xff\t1\n")
    with pytest.raises(NeurocompileError, match="NC1012.*UTF-8"):
        embedded(path, part)


def test_sentences_need_one_text_model(digits_model, tmp_path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("fine\t1\n", encoding="utf-8")
    for models in ((str(digits_model),), ("sst2/spiking-bert", "sst2/spiking-bert")):
        with pytest.raises(NeurocompileError, match="NC1012.*one text model"):
            given(Task(path, models))
    with pytest.raises(NeurocompileError, match=r"NC1012.*no text_part"):
        text_part_of("neurocompile.models.zoo.digits:vit")


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_table4_of_a_text_model_is_beside_the_papers(tmp_path) -> None:
    pytest.importorskip("spikingjelly")
    path = tmp_path / "dev.tsv"
    path.write_text("a warm , funny film\t1\nit never comes to life\t0\n" * 2, encoding="utf-8")
    result = table4(Task(path, ("sst2/spiking-bert",), samples=2, device="torch-cpu"))
    row = result.data["models"]["spiking_bert"]
    assert row["accuracy"] == 1 and row["far"] < 64 and row["ratio"] > 0
    assert result.tables[1].rows[-1] == ("SST-2", "SpikingBERT", "87.8%", "", 2.14)


@pytest.mark.slow
def test_table6_finds_its_records_again(digits_model, data, tmp_path) -> None:
    task = Task(data, (str(digits_model),), samples=60, out=tmp_path / "out")
    first, again = table6_on(task), table6_on(task)
    points = first.data["models"]["qkformer"]
    assert [p["T"] for p in points] == [1, 2, 4, 6, 8] and points[2]["accuracy"] > 0.95
    assert all(a["spikes"] < b["spikes"] for a, b in zip(points, points[1:]))
    assert first.data == again.data and first.draw is not None


@pytest.mark.slow
def test_table5_prices_an_architecture_under_every_profile() -> None:
    pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    found = table5_of(("spikformer-tiny",)).data["computed"]["spikformer-tiny"]
    assert 0 < found["rate"] < 1 and found["operations"] > found["spikes"]
    assert all(pj > 0 for pj in found["energy_pj"].values()) and len(found["energy_pj"]) >= 4
    assert found["ann_pj"] == pytest.approx(4.6 * found["ann_macs"])
    with pytest.raises(NeurocompileError, match="NC6002.*no reference model 'vit'"):
        table5_of(("vit",))


def test_trainings_are_told_as_mean_and_deviation_over_seeds(monkeypatch) -> None:
    def train_all(settings, seeds, epochs, jobs, progress):
        return {
            s: [Trained(s, k, 0.9 + 0.01 * k, 1000.0 * s.heads + k) for k in range(seeds)]
            for s in settings
        }

    monkeypatch.setattr(ablations, "train_all", train_all)
    monkeypatch.setattr(ablations, "can_train", lambda: None)
    monkeypatch.setattr(ablations, "BETAS", (0.5, 0.75))
    monkeypatch.setattr(ablations, "THRESHOLDS", (1.0,))
    result = ablations.ablation(heads=(2, 4), seeds=3, retrain=True)
    heads, neurons = result.tables[1:]
    assert heads.rows[0] == (2, "91.00% +- 1.00%", "2,001 +- 1", "1.000")
    assert [row[:2] for row in neurons.rows] == [(0.5, 1.0), (0.75, 1.0)]
    assert len(result.data["heads"]) == 6 and len(result.data["retrained"]) == 6
    assert spread([3.0]) == (3.0, 0.0)


@pytest.mark.slow
def test_a_training_with_another_leak_has_it(tmp_path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from neurocompile.theory.experiments.trained_digits import train_one

    own, other = (train_one(Setting(heads=2, beta=b), 1, 1) for b in (0.5, 0.9))
    assert own.spikes != other.spikes and own.seed == 1
