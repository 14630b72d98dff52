"""Spike rasters: what the panels hold."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.program import Program
from neurocompile.report.raster import binned, draw_raster


@pytest.mark.parametrize("neurons", [1, 511, 512, 513, 700, 1024, 4099])
def test_binning_keeps_spikes_and_place(neurons: int) -> None:
    spikes = (np.random.default_rng(0).random((3, neurons)) < 0.2).astype(np.uint8)
    columns = binned(spikes)
    assert columns.shape == (3, min(neurons, 512)) and columns.min() >= 0 and columns.max() <= 1
    edges = np.append(np.arange(columns.shape[1]) * neurons // columns.shape[1], neurons)
    assert np.allclose((columns * np.diff(edges)).sum(axis=1), spikes.sum(axis=1))
    single = np.zeros((1, neurons), np.uint8)
    single[0, -1] = 1
    assert np.flatnonzero(binned(single)[0]).tolist() == [columns.shape[1] - 1]


def test_a_panel_a_layer_with_its_rate(digits: Program) -> None:
    x = np.random.default_rng(0).random(digits.input_shape).astype(np.float32)
    figure = draw_raster(digits, x, "a test")
    run = digits.run(x[None])
    panels = figure.axes[:-1]
    assert len(panels) == len(digits.circuit.views) == len(run.spikes)
    for panel, view in zip(panels, digits.circuit.views, strict=True):
        name, rate = (text.get_text() for text in panel.texts)
        spikes = run.spikes[view.layer]
        assert name == view.layer
        assert rate == f"{spikes / run.neuron_steps[view.layer]:.1%}  ({spikes:,} spikes)"
        assert panel.images[0].get_array().shape[0] == digits.circuit.steps
    title = figure.texts[0].get_text()
    assert "qkformer" in title and "a test" in title and "T = 4" in title


def test_text_does_not_overlap(digits: Program) -> None:
    figure = draw_raster(digits, np.zeros(digits.input_shape, np.float32), "silence")
    figure.canvas.draw()
    boxes = [t.get_window_extent() for axes in figure.axes for t in axes.texts] + [
        t.get_window_extent() for t in figure.texts
    ]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 for b in boxes)
