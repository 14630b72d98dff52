"""What a notebook and a prompt show: short, escaped, and complete names."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

import neurocompile
from neurocompile.notebook import html_table


def test_every_public_name_is_there_and_listed():
    assert dir(neurocompile) == sorted(neurocompile.__all__)
    for name in neurocompile.__all__:
        if name in ("export_onnx", "finetune"):
            pytest.importorskip("torch")
        assert getattr(neurocompile, name) is not None


def test_representations_are_short(digits_program, digits_data):
    result = digits_program.run(digits_data.x[:2])
    report = digits_program.parity(digits_data.x[:2], against=("emulator",))
    energy = digits_program.energy(digits_data.x[:2])
    for value in (digits_program, result, report, energy):
        assert len(repr(value)) < 250, type(value)
    assert "of 120 cores" in repr(digits_program) and "exact" in repr(report)


def test_tables_of_a_notebook(digits_program, digits_data):
    report = digits_program.parity(digits_data.x[:2], against=("emulator",))
    for value in (digits_program, digits_program.summary(), report, digits_program.energy()):
        html = value._repr_html_()
        assert html.startswith("<table>") and html.endswith("</table>") and len(html) < 20_000


def test_names_of_strangers_are_escaped():
    html = html_table("<script>", ("<b>",), [("<img src=x>", 1, 2.5, None, True)])
    assert "<script>" not in html and "<img" not in html and "<b>" not in html
    assert "<td>1</td><td>2.5</td><td>None</td><td>True</td>" in html


def test_deff_of_an_array():
    x = np.random.default_rng(0).standard_normal((200, 3)) @ np.eye(3, 8)
    assert neurocompile.deff(x).full == 3


def test_results_are_tables_of_pandas(digits_program, digits_data):
    pytest.importorskip("pandas", reason="needs the extra notebook")
    x = digits_data.x[:2]
    result, energy = digits_program.run(x), digits_program.energy(x)
    table = result.to_pandas()
    assert list(table.index) == list(result.spikes) and table.index.name == "layer"
    assert table.spikes.to_dict() == result.spikes and table.dtypes["spikes"] == np.int64
    assert (table.per_inference * 2 == table.spikes).all() and table.rate.between(0, 1).all()
    parity = digits_program.parity(x, against=("emulator",)).to_pandas()
    assert parity.differences.to_dict() == {"emulator": 0}
    priced = energy.to_pandas()
    assert priced["pJ davies2018"].sum() == pytest.approx(energy.energies[0].dynamic_pj, rel=1e-6)
    assert digits_program.summary().to_pandas().index.name == "layer"


def test_results_draw_themselves(digits_program, digits_data, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    x = digits_data.x[:2]
    result = digits_program.run(x)
    for value in (result, digits_program.energy(), digits_program.summary()):
        axes = value.plot().axes[0]
        assert axes.get_xlabel() and axes.get_title()
    assert [bar.get_width() for bar in result.plot().axes[0].patches] == [
        row["rate"] for row in result.layers
    ]
    parity = digits_program.parity(x, against=("emulator",))
    assert [bar.get_width() for bar in parity.plot().axes[0].patches] == [0.0]
    digits_program.plot("raster", tmp_path / "a.png", x=x)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("chart",), "raster, cores, schedule, mesh"),
        (("raster",), "needs samples"),
        (("schedule",), "is not folded"),
        (("cores", "a.jpeg"), "neither .png nor .svg"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(digits_program, arguments, words):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    with pytest.raises(neurocompile.NeurocompileError, match=f"NC1015.*{words}"):
        digits_program.plot(*arguments)


def test_a_run_is_kept_whole(digits_program, digits_data, tmp_path):
    x = digits_data.x[:2]
    result = digits_program.run(x, rasters=True)
    result.save(tmp_path / "a.npz")
    result.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as kept:
        assert (kept["logits"] == result.logits).all()
        assert (kept["predictions"] == result.predictions).all()
        assert dict(zip(kept["layers"].tolist(), kept["spikes"].tolist())) == result.spikes
        for layer, spikes in result.spikes.items():
            raster = kept[f"raster.{layer}"]
            assert raster.dtype == np.uint8 and raster.shape[:2] == (2, 4)
            assert np.count_nonzero(raster) == spikes
    with pytest.raises(neurocompile.NeurocompileError, match=r"NC1015.*does not end in \.npz"):
        result.save(tmp_path / "a.csv")
    with pytest.raises(neurocompile.NeurocompileError, match="NC1015.*rasters are not read back"):
        digits_program.run(x, device="torch-cpu", rasters=True)


def test_the_page_of_a_program(digits_program, digits_data, tmp_path):
    pytest.importorskip("jinja2", reason="needs the extra report")
    x = digits_data.x[:2]
    parity = digits_program.parity(x, against=("emulator",))
    digits_program.report(tmp_path / "a.html", x, parity=parity)
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "23" in page
    other = msgspec.structs.replace(parity, program="0" * 64)
    with pytest.raises(neurocompile.NeurocompileError, match="NC7008 the parity report"):
        digits_program.report(tmp_path / "b.html", parity=other)
    assert not (tmp_path / "b.html").exists()


def test_labels_of_other_samples_are_refused(digits_program, digits_data):
    result = digits_program.run(digits_data.x[:3])
    assert 0 <= result.accuracy(digits_data.y[:3].tolist()) <= 1
    for labels in (digits_data.y[:2], digits_data.y[:3] + 0.5, None, "abc"):
        with pytest.raises(neurocompile.NeurocompileError, match="NC1006"):
            result.accuracy(labels)
