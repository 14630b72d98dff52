"""What a notebook and a prompt show: short, escaped, and complete names."""

from __future__ import annotations

import numpy as np
import pytest

import neurocompile
from neurocompile.notebook import html_table


def test_every_public_name_is_there_and_listed():
    assert dir(neurocompile) == sorted(neurocompile.__all__)
    for name in neurocompile.__all__:
        if name == "export_onnx":
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
