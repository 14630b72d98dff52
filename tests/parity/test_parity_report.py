"""What a parity report shows of a comparison: the first difference, and layers by agreement."""

from __future__ import annotations

import pytest

from neurocompile.parity.report import (
    BackendParity,
    Difference,
    FloatParity,
    LayerParity,
    ParityReport,
)

FIRST = Difference("conv1", "conv1.sum", 3, 1, (0, 2), 5, -1)
BACKENDS = (BackendParity("emulator", "numba", "the model", 8, 12, 4096, 1, FIRST, 0.5),)
LAYERS = (LayerParity("conv1", 0.99, 0.2, 0.25), LayerParity("conv2", 0.75, 0.5, 0.4))
FLOATS = FloatParity("onnxruntime", 8, LAYERS, None, 1.0, 0.9, 0.8)


def test_a_difference_names_its_population_where_that_is_not_the_layer() -> None:
    place = "neuron [0, 2], sample 3, step 1: expected 5, found -1"
    assert str(FIRST) == f"layer 'conv1', population 'conv1.sum', {place}"
    own = Difference("conv1", "conv1", 3, 1, (0, 2), 5, -1, "core 7")
    assert str(own) == f"layer 'conv1', {place} (core 7)"


def test_layers_are_listed_from_the_least_agreement() -> None:
    pytest.importorskip("pandas")
    report = ParityReport("net", 4, BACKENDS, FLOATS)
    table = report.to_pandas()
    assert list(table.index) == ["conv2", "conv1"]
    assert list(table["rate_error"].round(6)) == [-0.1, 0.05]
    backends = ParityReport("net", 4, BACKENDS, None).to_pandas()
    assert backends.loc["emulator", "first"] == str(FIRST)


def test_both_halves_are_tables_of_a_notebook() -> None:
    report = ParityReport("<net>", 4, BACKENDS, FLOATS)
    shown = report._repr_html_()
    assert shown.count("<table>") == 2 and "against onnxruntime" in shown
    assert shown.index("conv2") < shown.rindex("conv1") and "<net>" not in shown
    assert ParityReport("net", 4, BACKENDS, None)._repr_html_().count("<table>") == 1
    assert repr(report).endswith("NOT exact; emulator 1 of 4,096>") and not report.exact


@pytest.mark.parametrize("reference", [None, FLOATS])
def test_bars_of_what_differs(reference: FloatParity | None) -> None:
    pytest.importorskip("matplotlib")
    axes = ParityReport("net", 4, BACKENDS, reference).plot().axes[0]
    wide = sorted(max(p.get_width(), p.get_height()) if not reference else 0 for p in axes.patches)
    assert len(axes.patches) == (2 if reference else 1), wide
