"""``neurocompile opt``, and ``build`` with --dump and --stop-after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import neurocompile
from neurocompile.stages import stages_from


@pytest.fixture(scope="module")
def dumped(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    for stage in stages_from(neurocompile.open(model)):
        stage.dump(folder)
    return folder


def test_opt_runs_passes_and_prints_after_each(cli, dumped, tmp_path) -> None:
    graph = str(dumped / "1-import.txt")
    called = cli("opt", graph, "--passes", "sink-time-mean,fold-batch-norm")
    assert called.code == 0 and called.out.startswith('spiking "')
    called = cli(
        "opt",
        graph,
        "--passes",
        "sink-time-mean,slice-layers",
        "--print-after-all",
        "--dump",
        str(tmp_path / "passes"),
    )
    assert called.code == 0 and called.out.count("; after ") == 2
    assert sorted(p.name for p in (tmp_path / "passes").glob("*.txt")) == [
        "0.txt",
        "1-sink-time-mean.txt",
        "2-slice-layers.txt",
    ]
    called = cli("opt", graph, "--passes", "sink-time-mean", "--json")
    assert json.loads(called.out)["passes"] == ["sink-time-mean"]


def test_opt_runs_what_is_left_to_do(cli, dumped) -> None:
    called = cli("opt", str(dumped / "3-quantize.txt"))
    assert called.code == 0 and called.out.rstrip("\n") == (
        dumped / "4-lower.txt"
    ).read_text().rstrip("\n")
    called = cli("opt", str(dumped / "4-lower.txt"), "--json")
    assert called.code == 0 and json.loads(called.out)["passes"] == []


def test_opt_refuses_a_wrong_order_and_an_unknown_pass(cli, dumped) -> None:
    called = cli("opt", str(dumped / "1-import.txt"), "--passes", "lower")
    assert (
        called.code == 2
        and "NC2014 pass 'lower' requires" in called.err
        and "run quantize before it" in called.err
    )
    called = cli("opt", str(dumped / "1-import.txt"), "--passes", "fold-scal")
    assert called.code == 2 and "NC1015" in called.err and "did you mean fold-scale?" in called.err


def test_build_stops_after_a_stage_and_dumps(cli, model, tmp_path) -> None:
    folder = tmp_path / "stages"
    called = cli("build", str(model), "--stop-after", "canonicalize", "--dump", str(folder))
    assert called.code == 0 and 'stage = "canonical"' in called.out
    assert sorted(p.name for p in folder.glob("*.txt")) == ["1-import.txt", "2-canonicalize.txt"]
    assert not list(tmp_path.glob("*.nca"))
    called = cli("build", str(model), "--stop-after", "nowhere")
    assert (
        called.code == 2 and "NC6002 --stop-after is 'nowhere'; import, canonicalize" in called.err
    )
