"""Commands on a model of eight neurons: what each prints, in words and as JSON, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx_cases
import pytest
from onnx_cases import lif, normal, op

import neurocompile
from neurocompile.discretization import EXPORTED
from neurocompile.dumps import read_graph
from neurocompile.stages import STAGES


class Small(NamedTuple):
    """Files of one model, and of labelled samples."""

    model: Path
    data: Path
    artifact: Path
    program: neurocompile.Program


HEAD = [op("ReduceMean", "l zero", "m", keepdims=0), op("MatMul", "m h", "out")]
HIDDEN = [op("MatMul", "t w", "f"), lif("f", "k"), op("MatMul", "k v", "g"), lif("g", "l")]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    nodes, fixed = onnx_cases.timed((4,), [*HIDDEN, *HEAD])
    constants = {"w": 3 * normal(4, 4), "v": 3 * normal(4, 4, seed=1), "h": normal(4, 3, seed=2)}
    onnx.save(onnx_cases.model(nodes, {**constants, **fixed}, ("batch", 4)), folder / "small.onnx")
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.savez(folder / "x.npz", x=x, y=np.array([0, 1, 2, 0, 1, 2]))
    program = neurocompile.compile(folder / "small.onnx", calibration=x)
    program.save(folder / "small.nca")
    return Small(folder / "small.onnx", folder / "x.npz", folder / "small.nca", program)


def test_a_sweep_is_a_table_a_picture_and_json(cli: Callable, small: Small, tmp_path: Path) -> None:
    asked = ["sweep", small.model, "--data", small.data, "--calibration", small.data]
    asked += ["--T", "1, 4", "--fold", "none,9x9", "--jobs", "1", "--counted", "2"]
    asked += ["--out", tmp_path / "records"]
    told = cli(*asked, "--json").json
    assert [(p["T"], p["fold"]) for p in told["points"]] == [
        (1, "none"),
        (1, "9x9"),
        (4, "none"),
        (4, "9x9"),
    ]
    none, nine = told["points"][2:]
    run = small.program.run(np.load(small.data)["x"])
    assert none["accuracy"] == run.accuracy(np.load(small.data)["y"])
    assert none["placement"]["cores"] == small.program.mapping.cores_used
    problem = nine["placement"]["problem"]
    assert problem["code"].startswith("NC")
    drawn = find_spec("matplotlib") is not None
    shown = cli(*asked, *(["--plot", tmp_path / "fronts.svg"] if drawn else []))
    assert shown.code == 0 and (f"wrote {tmp_path / 'fronts.svg'}" in shown.out) == drawn
    assert not drawn or (tmp_path / "fronts.svg").read_text().count("<svg") == 1
    assert (
        "4 points on 6 samples" in shown.out and f"records in {tmp_path / 'records'}" in shown.out
    )
    assert f": {problem['code']} {problem['message'].splitlines()[0]}" in shown.out
    assert f"{none['accuracy']:.2%}" in shown.out
    assert "beaten by none in error, cores, steps and energy: " in shown.out
    assert all(name in shown.out for name in told["front"])


def test_a_sweep_refuses_what_is_no_number(cli: Callable, small: Small) -> None:
    found = cli("sweep", small.model, "--data", small.data, "--T", "1,two", "--json")
    assert found.code == 2 and found.json["error"]["code"] == "NC6002"
    assert "'1,two' is not numbers such as 1,2,4" in found.json["error"]["message"]


def test_a_build_stops_and_dumps_where_it_is_told(
    cli: Callable, small: Small, tmp_path: Path
) -> None:
    asked = ["build", small.model, "--calibration", small.data, "--no-cache"]
    told = cli(*asked, "--stop-after", "quantize", "--dump", tmp_path / "d", "--json").json
    assert told["stage"] == "quantize" and not list(tmp_path.glob("*.nca"))
    (graph,) = (tmp_path / "d").glob("*-quantize.txt")
    assert told["graph"] == read_graph(graph).text()
    wrong = cli(*asked, "--stop-after", "cooked", "--json").json["error"]
    assert wrong["code"] == "NC6002" and ", ".join(STAGES) in wrong["message"]
    for more in (["--stop-after", "quantize"], ["--dump", tmp_path / "e"]):
        refused = cli(*asked, "--estimate-only", *more, "--json").json["error"]
        assert (
            refused["code"] == "NC6002" and "--estimate-only writes nothing" in refused["message"]
        )


def test_an_estimate_is_told_in_words(cli: Callable, small: Small) -> None:
    asked = ["build", small.model, "--calibration", small.data, "--estimate-only"]
    told, shown = cli(*asked, "--json").json, cli(*asked)
    assert shown.code == 0 and "nothing rules it out; lower bounds" in shown.out
    assert f"at least {told['cores_at_least']:,} of 120 cores" in shown.out


def test_exports_say_what_they_wrote(cli: Callable, small: Small, tmp_path: Path) -> None:
    cores = cli("export", "cores", small.artifact, "-o", tmp_path / "net.nci", "--json").json
    assert cores["cores"] == small.program.mapping.cores_used
    assert cores["bytes"] == (tmp_path / "net.nci").stat().st_size
    lava = cli("export", "lava", small.artifact, "-o", tmp_path / "net.py")
    assert f"{small.artifact} -> {tmp_path / 'net.py'} and net.npz" in lava.out
    if find_spec("h5py") is not None:
        nir = cli("export", "nir", small.artifact, "-o", tmp_path / "net.nir", "--json").json
        assert (
            nir["discretize"] == EXPORTED and nir["bytes"] == (tmp_path / "net.nir").stat().st_size
        )
    asked = ["export", "sanafe", small.artifact, "--json"]
    assert cli(*asked).json["error"]["code"] == "NC6002"
    beyond = cli(*asked, "--input", small.data, "--sample", 6).json["error"]
    assert beyond["code"] == "NC1006" and "has 6 samples; --sample is 6" in beyond["message"]


def test_a_run_tells_predictions_labels_and_what_it_wrote(
    cli: Callable, small: Small, tmp_path: Path
) -> None:
    run = small.program.run(np.load(small.data)["x"])
    out = tmp_path / "out.npz"
    shown = cli("run", small.artifact, "--input", small.data, "-o", out, "--rasters")
    assert f"predictions  {' '.join(map(str, run.predictions))}\n" in shown.out
    assert f"wrote {out}" in shown.out and "accuracy" in shown.out
    with np.load(out) as file:
        assert set(file["layers"]) == set(run.spikes)
        np.testing.assert_array_equal(file["logits"], run.logits)
    np.savez(tmp_path / "bare.npz", x=np.zeros((50, 4), np.float32))
    shown = cli("run", small.artifact, "--input", tmp_path / "bare.npz")
    assert "accuracy     unknown: the file has no 'y'" in shown.out
    assert " ... (10 more: --json lists all)" in shown.out
    for wrong, why in (
        ((), "give samples or sentences"),
        (("--input", small.data, "--rasters"), "rasters are written to -o OUT.npz"),
        (("--input", small.data, "-o", "out.txt"), "does not end in .npz"),
    ):
        refused = cli("run", small.artifact, *wrong, "--json").json["error"]
        assert refused["code"] == "NC6002" and why in refused["message"]


def test_energy_refuses_what_needs_samples(cli: Callable, small: Small) -> None:
    for more, why in (
        (("--samples", 3), "--samples is given without --input"),
        (("--on-cores",), "--on-cores is given without --input"),
        (("--measured", "loihi"), "runs samples on the chip: give --input"),
    ):
        refused = cli("energy", small.artifact, *more, "--json").json["error"]
        assert refused["code"] == "NC1015" and why in refused["message"]


def test_passes_over_a_dump_or_the_model_give_what_a_build_lowers(
    cli: Callable, small: Small, tmp_path: Path
) -> None:
    given = ["--calibration", small.data]
    asked = ["build", small.model, *given, "--no-cache", "--stop-after", "lower"]
    built = cli(*asked, "--dump", tmp_path, "--json").json
    for graph in (tmp_path / "2-canonicalize.txt", small.model):
        made = cli("opt", graph, *given, "--json").json
        assert made["graph"] == built["graph"] and made["passes"]
    refused = cli("opt", small.model, "--rounding", "compensated", "--json").json["error"]
    assert refused["code"] == "NC1015" and "--rounding compensated" in refused["message"]
    (tmp_path / "2-canonicalize.safetensors").write_bytes(b"none")
    refused = cli("opt", tmp_path / "2-canonicalize.txt", "--json").json["error"]
    assert refused["code"] == "NC2005" and "is not safetensors" in refused["message"]
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    refused = cli("opt", tmp_path / "bytes.txt", "--json").json["error"]
    assert refused["code"] == "NC2005" and "is no text" in refused["message"]
    blocked = cli(*asked, "--dump", tmp_path / "bytes.txt" / "in").err
    assert "error: NC5005 cannot make the folder" in blocked


def test_verify_says_who_signed(cli: Callable, small: Small, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key, pem = Ed25519PrivateKey.generate(), Encoding.PEM
    (tmp_path / "k").write_bytes(key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "k.pub").write_bytes(public)
    path = tmp_path / "signed.nca"
    small.program.with_images().save(path, signing_key=tmp_path / "k")
    asked = cli("verify", path, "--trusted", tmp_path / "k.pub")
    assert (
        asked.code == 0
        and ", which is trusted" in asked.out
        and "core images are those" in asked.out
    )
    assert "which was not asked for (--trusted KEY.pub)" in cli("verify", path).out
    assert "  not signed" in cli("verify", small.artifact).out


def test_reproduce_refuses_before_it_works(cli: Callable, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    folder = ["--out", tmp_path / "file" / "figures"]
    for more, code, why in (
        (("statements", *folder), "NC5005", "cannot make the folder"),
        (("statements", "--format", "bmp"), "NC6002", "choose png or svg"),
        (("table4",), "NC6002", "table4 needs trained models' data"),
    ):
        refused = cli("reproduce", *more, "--json").json["error"]
        assert refused["code"] == code and why in refused["message"]


@pytest.mark.slow
def test_a_parity_tells_where_the_float_model_parts(cli: Callable, small: Small) -> None:
    asked = ["parity", small.artifact, "--input", small.data, "--against", "emulator"]
    asked += ["--reference", small.model]
    told, shown = cli(*asked, "--json").json, cli(*asked)
    half = told["reference"]
    assert shown.code == 0 and f"first to part  {half['parts'] or 'no layer'}" in shown.out
    assert f"predictions    {half['same_predictions']:.2%} the same" in shown.out
    assert f"accuracy       float {half['accuracy_reference']:.2%}" in shown.out
    assert json.dumps(told)  # plain values
    assert "the float half was left out" in cli(*asked[:-2]).out
