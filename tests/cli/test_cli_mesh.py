"""``--buffer``: finite queues of routers in every command that plays messages on the mesh."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx_cases import small

import neurocompile
from neurocompile.energy.mesh import MeshReport, mesh_of
from neurocompile.energy.profile import load_profile
from neurocompile.errors import NeurocompileError
from neurocompile.program import Program


@pytest.mark.slow
def test_energy_report_and_plot_take_finite_queues(cli, tmp_path: Path) -> None:
    """The same run on the mesh: figures of the function, in JSON, text and page."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    model, artifact, samples = (tmp_path / name for name in ("m.onnx", "m.nca", "x.npz"))
    model.write_bytes(small().SerializeToString())
    x = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    np.savez(samples, x=x)
    program = neurocompile.compile(model, calibration=x)
    program.save(artifact)
    wanted, _ = mesh_of(program, x, load_profile("davies2018"), buffer=2)
    assert wanted.buffer == 2 and wanted.step_ns > wanted.barrier_ns

    given = (artifact, "--input", samples)
    told = cli("energy", *given, "--on-cores", "--buffer", 2, "--json").json["mesh"]
    assert msgspec.convert(told, MeshReport) == wanted
    assert program.energy(x, on_cores=True, buffer=2).mesh == wanted
    assert (
        "queues of 2 messages (assumed)" in cli("energy", *given, "--on-cores", "--buffer", 2).out
    )
    assert "queues of any length" in cli("energy", *given, "--on-cores").out
    page = tmp_path / "r.html"
    assert cli("report", *given, "--on-cores", "--buffer", 2, "-o", page).code == 0
    for _, value, remark in wanted.rows():
        assert value in page.read_text() and remark in page.read_text()
    pictures = [tmp_path / "endless.svg", tmp_path / "small.svg"]
    for path, more in zip(pictures, ([], ["--buffer", 2]), strict=True):
        assert cli("plot", *given, "--kind", "mesh", "-o", path, *more).code == 0
    assert pictures[0].read_bytes() != pictures[1].read_bytes()  # the title tells queues


def test_queues_need_messages(cli, program: Program, artifact: Path, data: Path, tmp_path) -> None:
    page = tmp_path / "r.html"
    for command in (["energy"], ["report", "-o", page]):
        found = cli(*command, artifact, "--input", data, "--buffer", 4)
        assert found.code == 2 and found.err.startswith("error: NC1015 --buffer 4 holds messages")
        assert "give --on-cores too" in found.err
    assert cli("energy", artifact, "--buffer", 0).code == 2
    assert (
        cli("plot", artifact, "--kind", "cores", "--buffer", 4, "-o", tmp_path / "a.png").code == 2
    )
    with pytest.raises(NeurocompileError, match="NC1015.*`buffer=0`"):
        program.energy(np.zeros((1, *program.input_shape), np.float32), on_cores=True, buffer=0)
    with pytest.raises(NeurocompileError, match="NC1015.*give x"):
        program.energy(on_cores=True)


def test_too_few_samples_are_told(cli, artifact: Path, data: Path) -> None:
    told = cli("energy", artifact, "--input", data, "--on-cores", "--json").json
    assert told["mesh"] is None and "no time on the mesh: 3 samples never fill" in told["notes"][0]
