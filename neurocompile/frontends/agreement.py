"""Does the imported graph compute what the model computes? One batch through both."""

from __future__ import annotations

import numpy as np

from neurocompile.calibration import calibration_from_weights
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.model import FloatModel
from neurocompile.ir.evaluate import step_outputs, step_source
from neurocompile.ir.quick import evaluate_quickly

__all__ = ["check_import"]

_SAMPLES = 4
_LEAST = 0.98
"""Share of equal spikes below which an import is refused: rounding flips a spike in thousands, not
one in fifty.
"""


def check_import(model: FloatModel) -> float:
    """Share of equal spikes of the model and its imported graph, on the first calibration samples
    or on noise within the calibrated range; NC1011 if it is low.
    """
    graph, samples = model.graph, model.samples
    if samples is None:
        bounds = (model.statistics or calibration_from_weights(1)).input
        shape = (_SAMPLES, *graph.input.sample_shape)
        samples = np.random.default_rng(0).uniform(bounds.min, bounds.max, shape).astype(np.float32)
    x = samples[:_SAMPLES]
    reference = model.reference.run(x)
    steps, source = max(graph.exported_T, 1), step_source(graph)
    ours = evaluate_quickly(graph, x, steps, [*reference.layers, source, graph.output.name])
    original = model.reference.original(x)
    if original is not None:
        _check_outputs(model, original, reference.outputs, "once its neurons are recovered")
    equal = sum(int((ours[k] == v).sum()) for k, v in reference.layers.items())
    agreement = equal / max(sum(v.size for v in reference.layers.values()), 1)
    if agreement < _LEAST:
        raise NeurocompileError(
            "NC1011",
            f"{model.origin}: only {agreement:.2%} of the spikes agree with onnxruntime after import "
            f"({_LEAST:.0%} needed); please report the file",
        )
    if model.host is not None and agreement == 1.0:
        cut = step_outputs(graph, ours[source]) if model.host.stepwise else ours[graph.output.name]
        found = tuple(model.host.run(cut)[0].values())
        _check_outputs(model, reference.outputs, found, "once the host computes their last part")
    return float(f"{agreement:.9g}")


def _check_outputs(
    model: FloatModel, wanted: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...], when: str
) -> None:
    """NC1011 if outputs are others."""
    for a, b in zip(wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True):
        same = a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4)
        if not same:
            worst = float(np.abs(a - b).max()) if a.shape == b.shape else np.inf
            raise NeurocompileError(
                "NC1011",
                f"{model.origin}: its outputs change by up to {worst:.3g} {when}; please report the file",
            )
