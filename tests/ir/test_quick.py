"""The quick evaluation: integers of the definition, and floats within rounding of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import neurocompile.models.zoo as zoo
import numpy as np
import pytest

from neurocompile import pipeline
from neurocompile.calibration import calibrate_on, calibration_from_metadata
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import DEFINITIONS, encode_input, evaluate
from neurocompile.ir.quick import evaluate_quickly, for_samples
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.quantize import Quantize

MODELS = sorted(Path(zoo.__file__).parent.glob("*digits/*.onnx"))
DIGITS = next(path for path in MODELS if "qkformer" in path.stem)


@pytest.fixture(scope="module")
def digits():
    loaded, imported = pipeline.import_model(str(DIGITS))
    canonical = canonicalize(imported.graph)
    steps = max(imported.graph.exported_T, 1)
    statistics = calibration_from_metadata(loaded.metadata)
    return imported.graph, canonical, Quantize(steps, statistics)(canonical), steps


def images(graph: s.SpikingGraph, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 17, (count, *graph.input.sample_shape)).astype(np.float32) / 16


def test_integers_are_those_of_the_definition(digits):
    _, _, quantized, steps = digits
    x = encode_input(quantized.input, images(quantized, 6))
    wanted, found = evaluate(quantized, x, steps), evaluate_quickly(quantized, x, steps)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert value.dtype == found[name].dtype and np.array_equal(value, found[name]), name


@pytest.mark.parametrize("which", [0, 1], ids=["imported", "canonical"])
def test_floats_are_within_rounding_of_the_definition(digits, which):
    graph, steps = digits[which], digits[3]
    x = images(graph, 6)
    wanted, found = evaluate(graph, x, steps), evaluate_quickly(graph, x, steps)
    spikes = [n.name for n in graph.spiking_layers]
    assert np.mean([np.mean(wanted[k] == found[k]) for k in spikes]) > 0.9999
    out = graph.output.name
    assert np.allclose(wanted[out], found[out], atol=1e-4)


def test_statistics_do_not_depend_on_the_threads(digits):
    _, canonical, _, steps = digits
    x = images(canonical, 9)
    names = [n.name for n in canonical.spiking_layers]
    runs = [
        [part for _, part in for_samples(canonical, x, steps, names, lambda f: f, threads)]
        for threads in (1, 3)
    ]
    for a, b in zip(*runs, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in names)
    told = []
    found = calibrate_on(canonical, x, steps, done=lambda now, of: told.append((now, of)))
    assert told == [(4, 9), (8, 9), (9, 9)]
    spikes = {k: np.concatenate([part[k] for part in runs[0]]) for k in names}
    for name in names:
        assert found.rate(name) == pytest.approx(spikes[name].mean(), rel=1e-6)


RNG = np.random.default_rng(3)
SPIKES = (RNG.random((2, 3, 5, 9, 8)) < 0.2).astype(np.float32)
CASES = {
    "stride and padding": (s.Conv2d(name="y", x="x", weight="w", stride=(2, 1), padding=(1, 2)), 3),
    "dilation": (s.Conv2d(name="y", x="x", weight="w", dilation=(2, 2)), 3),
    "one pixel": (s.Conv2d(name="y", x="x", weight="w"), 1),
    "groups": (s.Conv2d(name="y", x="x", weight="w", groups=5), 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("outputs", [5, 35])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_convolutions_of_every_form(case, outputs, dtype):
    from neurocompile.ir.quick import _quick

    node, kernel = CASES[case]
    inputs = 1 if node.groups > 1 else 5
    weight = RNG.integers(-9, 10, (outputs, inputs, kernel, kernel))
    weight = weight.astype(np.int16 if dtype == np.int64 else np.float32)
    x = SPIKES.astype(dtype)
    wanted = DEFINITIONS.of(node)(node, [x], [weight], 3)
    found = _quick(node)(node, [x], [weight], 3)
    assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
    as_laid_out = np.ascontiguousarray(np.moveaxis(x, 2, -1))
    assert np.array_equal(
        _quick(node)(node, [np.moveaxis(as_laid_out, -1, 2)], [weight], 3), wanted
    )


def test_integers_beyond_float32_take_the_definition():
    from neurocompile.ir.quick import _quick

    node = replace(CASES["one pixel"][0])
    x = np.full((1, 1, 5, 2, 2), 0, np.int64)
    x[..., 0, 0] = (1 << 22) + 1
    weight = np.full((3, 5, 1, 1), 127, np.int16)
    found = _quick(node)(node, [x], [weight], 1)
    assert np.array_equal(found, DEFINITIONS.of(node)(node, [x], [weight], 1))
