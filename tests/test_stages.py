"""The stages of a build: each computes what the next does, prints and dumps its graph, and all of
them are compile.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.dumps import read_graph, write_graph
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.stages import STAGES, Imported, Stage, stages_from


@pytest.fixture(scope="module")
def images(digits_data) -> np.ndarray:
    return digits_data.x[:6]


@pytest.fixture(scope="module")
def stages(digits_model) -> list[Stage]:
    return list(stages_from(neurocompile.open(digits_model)))


def test_stages_come_in_order_each_with_text_costs_and_reprs(stages) -> None:
    assert tuple(stage.name for stage in stages) == STAGES
    for number, stage in enumerate(stages, 1):
        assert stage.number == number
        assert stage.text().startswith("circuit" if stage.name == "lower" else "spiking")
        costs = stage.costs()
        assert costs.figures["neurons"] > 0 and costs.stage == stage.name
        assert f"{costs.figures['neurons']:,}" in repr(stage) + repr(costs)
        assert "<table>" in stage._repr_html_()
    imported, canonical, quantized, lowered = (stage.costs().figures for stage in stages)
    assert imported["layers"] == canonical["layers"] == quantized["layers"]
    assert lowered["cores at least"] >= 1 and lowered["steps a sample"] == 4


def test_neighbours_compute_the_same(stages, images) -> None:
    imported, canonical, quantized, lowered = stages
    np.testing.assert_allclose(canonical.logits(images), imported.logits(images), atol=1e-3)
    np.testing.assert_allclose(lowered.logits(images), quantized.logits(images), atol=1e-9)
    meant, found = quantized.spikes(images), lowered.spikes(images)
    assert meant.keys() == found.keys() and all((meant[k] == found[k]).all() for k in meant)
    before, after = imported.spikes(images), canonical.spikes(images)
    assert all((before[k] == after[k]).all() for k in before if k in after)


@pytest.mark.slow
def test_all_stages_are_compile(stages, digits_program, tmp_path) -> None:
    stages[-1].map().save(tmp_path / "staged.nca")
    digits_program.save(tmp_path / "compiled.nca")
    staged, compiled = (Path(tmp_path / f"{n}.nca").read_bytes() for n in ("staged", "compiled"))
    assert staged == compiled
    assert digits_program.text() == stages[-1].text()


def test_a_stage_is_made_again_with_other_options(stages) -> None:
    canonical = stages[1]
    four = canonical.quantize(weight_bits=4, T=2)
    assert four.options.weight_bits == 4 and four.steps == 2
    assert four.lower().graph.steps == 2
    with pytest.raises(NeurocompileError, match="NC2003 weight_bits is 40"):
        canonical.quantize(weight_bits=40)
    with pytest.raises(NeurocompileError, match="NC3001"):
        four.lower("nowhere")
    with pytest.raises(NeurocompileError, match="NC1006|NC1012"):
        canonical.logits(np.zeros((2, 3)))


def test_dumped_graphs_read_back(stages, tmp_path) -> None:
    for stage in stages:
        path = stage.dump(tmp_path / "new" / "folder")
        assert path.name == f"{stage.number}-{stage.name}.txt"
        found = read_graph(path)
        assert type(found) is (CircuitGraph if stage.name == "lower" else SpikingGraph)
        assert found.text() == stage.text()
        assert all((found.tensors[k] == v).all() for k, v in stage.graph.tensors.items())


def test_files_that_are_no_graphs_are_refused(tmp_path, stages) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(NeurocompileError, match="NC1001"):
        read_graph(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NeurocompileError, match="NC2005 .* is no text"):
        read_graph(path)
    path.write_text("spiking nonsense")
    with pytest.raises(NeurocompileError, match="NC2005"):
        read_graph(path)
    path = write_graph(stages[0].graph, tmp_path, "b")
    path.with_suffix(".safetensors").write_bytes(b"no tensors")
    with pytest.raises(NeurocompileError, match="NC2005 .*b.safetensors' is not safetensors"):
        read_graph(path)
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(NeurocompileError, match="NC2004|NC2005"):
        read_graph(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NeurocompileError, match="NC5005"):
        write_graph(stages[0].graph, tmp_path / "file" / "folder", "c")


def test_open_does_not_hide_the_builtin_inside_of_the_package() -> None:
    assert neurocompile.open.__name__ == "open_staged"
    assert "open" not in vars(neurocompile)  # it is found by __getattr__, and bound nowhere
    assert isinstance(neurocompile.open, type(neurocompile.compile)) and Imported is not None
