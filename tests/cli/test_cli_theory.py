"""``deff``, ``budget``, ``reproduce`` and ``build --budget`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"


def test_deff(cli, tmp_path: Path) -> None:
    found = cli("deff", ZOO / "test.npz", "--dataset", "cifar10")
    assert found.code == 0 and found.err == ""
    assert (
        "effective dimension" in found.out
        and "the paper's" in found.out
        and "its claim" in found.out
    )
    told = cli("deff", ZOO / "test.npz", "--dataset", "cifar10", "--json").json
    assert (
        told["paper"] == 47
        and told["full"] == 27
        and told["exact"]
        and 0.95 < told["paper_holds"] <= 1
    )
    assert len(told["subsamples"]) == 5 and told["mean"] == np.mean(told["subsamples"])
    assert cli("deff", ZOO / "test.npz", "--quantile", 0.5, "--json").json["full"] < 10
    refused = cli("deff", ZOO / "test.npz", "--device", "tpu")
    assert refused.code == 2 and "cuda:N or torch-cpu" in refused.err


def test_deff_draws_the_same_bytes_twice(cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    for name in ("a.svg", "b.svg", "c.png"):
        assert (
            cli("deff", ZOO / "test.npz", "--dataset", "imagenet", "--plot", tmp_path / name).code
            == 0
        )
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("array", "options", "code"),
    [
        (np.full((4, 3), np.nan), [], "NC8001"),
        (np.ones((4, 3)), [], "NC8002"),
        (np.ones((1, 3)), [], "NC8001"),
        (np.ones(3), [], "NC8001"),
        (np.ones((0, 3)), [], "NC8001"),
        (np.eye(4) * 1e200, [], "NC8001"),
        (np.full((4, 3), 1e200), [], "NC8001"),
        (np.eye(4) * 1e-200, [], "NC8002"),
        (np.concatenate([np.eye(5000)[:1], np.zeros((9, 5000))]) * 1e200, [], "NC8001"),
        (np.concatenate([np.eye(5)[:1], np.zeros((9, 5))]), ["--subsamples", 40], "NC8002"),
        (np.eye(4), ["--quantile", 1.5], "NC8003"),
        (np.eye(4), ["--subsamples", 0], "NC8003"),
    ],
)
def test_deff_errors_are_one_line(
    cli, tmp_path: Path, array: np.ndarray, options: list, code: str
) -> None:
    np.savez(tmp_path / "x.npz", x=array)
    found = cli("deff", tmp_path / "x.npz", *options, "--json")
    assert found.code == 2 and found.json["error"]["code"] == code
    assert found.err.startswith(f"error: {code} ") and found.err.count("\n") == 1


def test_budget_of_a_model(cli, model: Path) -> None:
    found = cli(
        "budget", model, "--data", ZOO / "test.npz", "--samples", 20, "--calibrate", "--json"
    )
    assert found.code == 0 and found.err == ""
    told = found.json
    assert {b["statement"] for b in told["beside"]} == {
        "Theorem 8",
        "Theorem 10",
        "pattern count",
        "Corollary 9",
    }
    assert {s["rule"]: s["T"] for s in told["timesteps"]}["fitted"] == 4
    assert told["effective_dimension"]["width"] == 64 and told["effective_dimension"][
        "mean"
    ] == pytest.approx(27)  # of all 360
    assert sum(k["share"] for k in told["layers"]) == pytest.approx(1) and len(told["layers"]) == 19
    assert told["lipschitz"]["bound"] > told["lipschitz"]["local_largest"] > 0
    assert all(
        b["measured_on"] == "emulator" and b["ratio"] == b["measured"] / b["theory"]
        for b in told["beside"]
    )
    assert {(b["statement"], b["ratio_of"]) for b in told["beside"]} == {
        ("Theorem 8", "measured / bound"),
        ("Theorem 10", "measured / bound"),
        ("Corollary 9", "modelled / bound"),
        ("pattern count", "measured / bound"),
    }
    rules = {s["rule"]: (s["kind"], s["status"]) for s in told["timesteps"]}
    assert rules["measured"] == ("measured", None) and rules["fitted"] == ("modelled", "unknown")
    assert (
        told["fit"]["status"] == "fitted"
        and told["sweep_reference_T"] == 128
        and told["lipschitz"]["local_status"] == "measured"
    )
    fit = told["fit"]
    assert fit["low"] <= fit["constant"] <= fit["high"] and fit["r_squared"] == pytest.approx(
        fit["r"] ** 2
    )


def test_budget_text_of_an_artifact_without_data(cli, artifact: Path) -> None:
    found = cli("budget", artifact, "--epsilon", 2, "--samples", 4)
    assert found.code == 0 and found.err == ""
    assert (
        "found / bound" in found.out
        and "measured on the emulator: spikes" in found.out
        and "modelled: " in found.out
    )
    for part in (
        "pseudo-random",
        "NOT hardware",
        "Theorem 8",
        "reconstructed",
        "unknown",
        "measured",
        "threshold circuit",
    ):
        assert part in found.out
    assert "Theorem 10" not in found.out


def test_budget_by_accuracy(cli, model: Path, data: Path, tmp_path: Path) -> None:
    found = cli(
        "budget", model, "--data", ZOO / "test.npz", "--samples", 20, "--accuracy", 0.9, "--json"
    )
    assert found.code == 0 and found.json["epsilon_basis"].startswith(
        "certainly leaves 90.00% of 20"
    )
    with np.load(data) as archive:
        np.savez(tmp_path / "x.npz", x=archive["x"])
    found = cli("budget", model, "--data", tmp_path / "x.npz", "--accuracy", 0.9)
    assert found.code == 2 and found.err.startswith("error: NC8006 ") and found.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--epsilon", -1], "NC8003"),
        (["--epsilon", 1, "--accuracy", 0.5], "NC8003"),
        (["--constant", 0], "NC8003"),
        (["--radius", 0], "NC8003"),
        (["--radius", 1e300], "NC8003"),
        (["--radius", 1e-300], "NC8003"),
        (["--epsilon", 1e-200], "NC8003"),
        (["--epsilon", 1e300], "NC8003"),
        (["--epsilon", "nan"], "NC8003"),
        (["--constant", 1e300], "NC8003"),
        (["--constant", 1e-320], "NC8003"),
        (["--accuracy", 1.5], "NC8003"),
        (["--accuracy", "nan"], "NC8003"),
        (["--data", "absent.npz"], "NC1001"),
    ],
)
def test_budget_errors(cli, artifact: Path, options: list, code: str) -> None:
    found = cli("budget", artifact, "--samples", 2, *options, "--json")
    assert found.code == 2 and found.json["error"]["code"] == code and found.err.count("\n") == 1


def test_budget_of_frames_is_refused(cli, tmp_path: Path) -> None:
    from onnx_cases import ints, lif, model, normal, op

    nodes = [
        op("Transpose", "x", "t", perm=[1, 0, 2]),
        op("MatMul", "t w", "f"),
        lif("f", "l"),
        op("ReduceMean", "l zero", "out", keepdims=0),
    ]
    path = tmp_path / "frames.onnx"
    path.write_bytes(
        model(nodes, {"w": normal(6, 3), "zero": ints(0)}, ("batch", 5, 6)).SerializeToString()
    )
    found = cli("budget", path)
    assert found.code == 2 and found.err.startswith("error: NC8011 ") and found.err.count("\n") == 1
    built = cli(
        "build", path, "--T", 5, "--budget", "spikes=10", "-o", tmp_path / "frames.nca", "--json"
    )
    assert built.code == 0 and cli("verify", tmp_path / "frames.nca").code == 0


def test_budget_data_of_a_wrong_shape(cli, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((5, 3)).astype(np.float32))
    found = cli("budget", model, "--data", tmp_path / "x.npz")
    assert found.code == 2 and found.err.startswith("error: NC1006 ") and found.err.count("\n") == 1


@pytest.mark.parametrize("experiment", ["table2", "table3", "table5", "complexity", "statements"])
def test_reproduce(cli, tmp_path: Path, experiment: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    found = cli("reproduce", experiment, "--seeds", 2, "--out", tmp_path / "out", "--format", "svg")
    assert found.code == 0 and found.err == ""
    assert {"table5": "the paper's claim, NOT measured", "statements": "reconstructed"}.get(
        experiment, "\n- "
    ) in found.out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    drawn = experiment not in ("table5", "statements")
    assert files == {f"{experiment}.json"} | ({f"{experiment}.svg"} if drawn else set())
    json.loads((tmp_path / "out" / f"{experiment}.json").read_text())
    told = cli("reproduce", experiment, "--seeds", 2, "--json").json
    for table in told["tables"]:
        assert table["title"] in found.out and all(
            len(row) == len(table["columns"]) for row in table["rows"]
        )


def test_json_has_no_numbers_that_json_lacks(cli, tmp_path: Path) -> None:
    """A neuron without memory has an infinite slope, and so has the bound: null, and its status
    says infinite.
    """
    from onnx_cases import lif, model, normal, op, timed

    nodes, constants = timed(
        (4,),
        [
            op("MatMul", "t w", "f"),
            lif("f", "l", tau=1.0),
            op("ReduceMean", "l zero", "out", keepdims=0),
        ],
        4,
    )
    (tmp_path / "m.onnx").write_bytes(
        model(nodes, {**constants, "w": normal(4, 4)}, ("batch", 4)).SerializeToString()
    )
    found = cli("budget", tmp_path / "m.onnx", "--samples", 4, "--epsilon", 0.5, "--json")
    told = json.loads(found.out, parse_constant=lambda name: pytest.fail(name))
    assert (
        told["lipschitz"]["bound"] is None
        and told["lipschitz"]["bound_status"] == "infinite"
        and told["lipschitz"]["steps"]
    )


def test_reproduce_circuits_says_which_error_is_which(cli) -> None:
    options = ("reproduce", "circuits", "--inputs", 3, "--longest", 16)
    told = cli(*options, "--json").json
    assert len(told["circuits"]) == 10 and told["T"] == [4, 8, 16]
    for one in told["circuits"].values():
        assert all(
            m <= r + 1e-12 and r <= x + 1e-12
            for m, r, x in zip(one["mean"], one["rms"], one["max"], strict=True)
        )
    assert (
        "error at T = 16 (largest over outputs): root mean square, mean and largest over the 3 inputs"
        in cli(*options).out
    )


def test_reproduce_table2_has_the_slopes(cli) -> None:
    told = cli("reproduce", "table2", "--seeds", 4, "--json").json
    slopes = {
        name: told[f"the values, {name}"]["slope"]
        for name in ("bernoulli", "integrate", "integrate-half", "hard-reset LIF")
    }
    assert slopes["bernoulli"] == pytest.approx(-1, abs=0.1) and abs(slopes["hard-reset LIF"]) < 0.1
    assert slopes["integrate"] == pytest.approx(-2, abs=0.1) == slopes["integrate-half"]
    half = np.array(told["the values, integrate-half"]["mse"])
    assert np.allclose(
        half * 12 * np.array([4, 8, 16, 32, 64]) ** 2, 1, rtol=0.1
    )  # uniform within 1/(2T)


def test_reproduce_table3_beats_the_bound(cli) -> None:
    told = cli("reproduce", "table3", "--seeds", 3, "--json").json
    assert told["exponents"]["the values, bernoulli"] == pytest.approx(-2, abs=0.1)
    assert told["exponents"]["the values, integrate-half"] == pytest.approx(-1, abs=0.1)
    assert told["points"]["the values, integrate-half"][-1]["ratio"] < 0.2
    assert told["points"]["the values, hard-reset LIF"][0]["spikes"] is None


@pytest.mark.slow
def test_reproduce_table6(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocompile.theory.experiments.timestep_task.STEPS", (1, 2, 4))
    told = cli("reproduce", "table6", "--json").json
    assert told["paper_r"] == pytest.approx(0.972, abs=5e-4) and told[
        "paper_r_squared"
    ] == pytest.approx(0.945, abs=5e-4)
    assert len(told["models"]) == 5
    for model in told["models"].values():
        accuracy = {p["T"]: p["accuracy"] for p in model["sweep"]}
        assert accuracy[1] < accuracy[2] and accuracy[4] >= 0.975
        assert model["best"]["0.97"] == min(T for T, reached in accuracy.items() if reached >= 0.97)
    assert told["models"]["QKFormer"]["sweep"][-1]["accuracy"] == pytest.approx(354 / 360)


@pytest.mark.slow
def test_reproduce_ablation_trains_what_it_says(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="needs the extra torch")
    monkeypatch.setattr("neurocompile.theory.experiments.ablation.BETAS", (0.5,))
    monkeypatch.setattr("neurocompile.theory.experiments.ablation.THRESHOLDS", (1.0, 1.5))
    found = cli("reproduce", "ablation", "--no-train", "--json").json
    assert found["heads"] == [] and found["neurons"][0]["accuracy"] == pytest.approx(354 / 360)
    assert found["neurons"][1]["spikes"] < found["neurons"][0]["spikes"]


def test_reproduce_into_a_file_is_refused(cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    (tmp_path / "file").write_text("")
    found = cli("reproduce", "table5", "--out", tmp_path / "file")
    assert found.code == 2 and found.err.startswith("error: NC5005 ")


def test_build_refuses_a_budget_that_cannot_be_read(cli, model: Path, tmp_path: Path) -> None:
    found = cli("build", model, "--budget", "watts=3", "-o", tmp_path / "a.nca", "--json")
    assert (
        found.code == 2 and found.json["error"]["code"] == "NC8008" and not list(tmp_path.iterdir())
    )


@pytest.mark.slow
def test_build_with_a_budget_tells_what_it_moved(cli, model: Path, tmp_path: Path) -> None:
    found = cli("build", model, "--budget", "spikes=5000", "-o", tmp_path / "a.nca")
    assert found.code == 0 and "spike budget spikes=5000" in found.out
    assert "exceed their share" in found.out and "cores that the budget moved" in found.out


def test_budget_text_of_a_plan(program) -> None:
    """The build's section, from a plan that no mapper has seen."""
    import msgspec

    from neurocompile.cli.budget_text import budget_text
    from neurocompile.mapping.budget import CoreLoad, parse_budget
    from neurocompile.theory.measure.budget import plan_budget

    plan = plan_budget(
        parse_budget("spikes=3000"),
        program.quantized,
        program.circuit,
        program.manifest.rates,
        None,
        15,
    )
    moved = msgspec.structs.replace(plan, moved=(CoreLoad(3, ("stage1.0.attn.q_lif",), 12.5),))
    parts = list(budget_text(moved, 4, 16))
    text = "\n".join(part for part in parts if isinstance(part, str))
    assert (
        "layers exceed their share" in text
        and "cores that the budget moved" in text
        and len(parts) == 6
    )
    roomy = plan_budget(
        parse_budget("spikes=1e9"),
        program.quantized,
        program.circuit,
        program.manifest.rates,
        None,
        15,
    )
    assert "every layer keeps its share" in list(budget_text(roomy, 4, 15))
    summary = msgspec.structs.replace(program.summary(), budget=moved)
    assert msgspec.json.decode(msgspec.json.encode(summary))["budget"]["moved"][0]["core"] == 3
