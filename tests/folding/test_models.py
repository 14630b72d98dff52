"""Folded models: the trained digits, and the tiny model of every family, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folded import assert_law

from neurocompile.backends import get_backend
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.errors import NeurocompileError
from neurocompile.folding.policy import fold_graph
from neurocompile.folding.schedules import Fold
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s

FOLDS = {
    "qkformer-tiny": ("4x16", "16x16", "1x16", "1x4", "1x16s"),
    "spikformer-tiny": ("4x16", "16x16", "1x16", "1x4", "1x16s"),
    "spike-driven-transformer-tiny": ("4x16", "16x16", "1x16", "1x4"),
    "meta-spikeformer-tiny": ("8x32", "32x32", "1x32"),
    "spiking-resformer-tiny": ("2x8", "8x8", "1x8", "1x2", "1x8s"),
}


@pytest.mark.parametrize("fold", ["2x8c", "1x4s"])
def test_folded_digits_give_the_logits_of_the_unrolled_model(fold, digits_program, digits_data):
    x = digits_data.x[:60]
    circuit = fold_graph(digits_program.quantized, 4, Fold.parse(fold))
    trace = Emulator().open(circuit).run(encode(circuit, x), {str(circuit.readouts[0].src)})
    np.testing.assert_array_equal(decode(circuit, trace), digits_program.run(x).logits)


def test_lava_runs_a_folded_model_without_a_difference(digits_program, digits_data):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    circuit = fold_graph(digits_program.quantized, 4, Fold.parse("4x8c"))
    assert_lava_agrees("lava", circuit, encode(circuit, digits_data.x[:2]))


@pytest.mark.nightly
@pytest.mark.parametrize("name", FOLDS)
def test_lava_runs_a_fold_of_every_family_without_a_difference(name, tmp_path):
    """Each population, step for step, the samples one after the other in the cycle-accurate run."""
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    circuit = fold_graph(quantized(name, 2, tmp_path), 2, Fold.parse(FOLDS[name][0]))
    assert_lava_agrees("lava", circuit, random_samples(circuit))


@pytest.mark.slow
def test_lava_s_processes_run_a_folded_model_without_a_difference(digits_program):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    circuit = fold_graph(digits_program.quantized, 2, Fold.parse("4x8"))
    assert_lava_agrees("lava-runtime", circuit, random_samples(circuit))


def random_samples(circuit: c.CircuitGraph, count: int = 2) -> np.ndarray:
    """Integers of the input, the sample's own shape."""
    source = next(p for p in circuit.inputs if p.pattern is None)
    channels_first = (*source.sample_shape[2:], *source.sample_shape[:2])
    drawn = np.random.default_rng(0).integers(source.low, source.high + 1, (count, *channels_first))
    return encode(circuit, (drawn * source.scale).astype(np.float32))


def assert_lava_agrees(backend: str, circuit: c.CircuitGraph, x: np.ndarray) -> None:
    with get_backend(backend).open(circuit) as executor:
        found = executor.run(x)
    expected = Emulator().open(circuit).run(x)
    assert set(found) == set(expected) and sum(np.count_nonzero(v) for v in found.values())
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def at_length(steps: int):
    """A number of steps for the nightly run."""
    return pytest.param(steps, marks=pytest.mark.nightly)


def quantized(name: str, steps: int, folder: Path) -> s.SpikingGraph:
    """A tiny model with random weights, normalizations calibrated on a few images."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("spikingjelly")
    from neurocompile.models.random_weights import calibrated
    from neurocompile.models.registry import MODELS

    import neurocompile
    from neurocompile.calibration import calibrate_on
    from neurocompile.frontends.onnx.frontend import import_model
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.compose_convolutions import ComposeConvolutions
    from neurocompile.passes.quantize import Quantize

    config = MODELS[name].config
    shape = (8, config.in_channels, config.image_size, config.image_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(7))
    path = folder / "model.onnx"
    neurocompile.export_onnx(calibrated(name, images), images, path, calibration=images.numpy())
    _, imported = import_model(path, steps)
    canonical = canonicalize(imported.graph, ComposeConvolutions("auto", 8192, 16000))
    return Quantize(steps, calibrate_on(canonical, images.numpy(), steps), 8)(canonical)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, at_length(2), at_length(3), 4, at_length(5), at_length(8)])
@pytest.mark.parametrize("name, fold", [(n, f) for n, found in FOLDS.items() for f in found])
def test_every_family_folds_exactly(name, fold, steps, tmp_path):
    graph = quantized(name, steps, tmp_path)
    assert_law(graph, fold_graph(graph, steps, Fold.parse(fold)))


@pytest.mark.nightly
@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("name", FOLDS)
def test_every_other_fold_is_exact_or_refused_by_name(name, steps, tmp_path):
    """All rows and parts of a row that divide the input, one buffer and two, clocks of both kinds."""
    graph = quantized(name, steps, tmp_path)
    _, height, width = graph.input.shape
    folds = [f"{n}x{width}" for n in range(1, height + 1) if height % n == 0]
    folds += [f"1x{n}" for n in range(1, width) if width % n == 0]
    exact = 0
    for fold in (f + more for f in folds for more in ("", "s", "c")):
        try:
            circuit = fold_graph(graph, steps, Fold.parse(fold))
        except NeurocompileError as error:
            assert error.code == "NC3104" and "layer '" in str(error), error
            continue
        assert_law(graph, circuit)
        exact += 1
    assert exact >= 2 * len(FOLDS[name])
