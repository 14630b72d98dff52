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
    x = encode(circuit, digits_data.x[:2])
    with get_backend("lava").open(circuit) as executor:
        found = executor.run(x)
    for name, values in Emulator().open(circuit).run(x).items():
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
