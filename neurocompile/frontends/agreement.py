"""Does the imported graph compute what the model computes? One batch through both."""

from __future__ import annotations

import numpy as np

from neurocompile.calibration import calibration_from_weights
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.model import FloatModel
from neurocompile.ir.evaluate import evaluate

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
    ours = evaluate(graph, x, max(graph.exported_T, 1), list(reference.layers))
    original = model.reference.original(x)
    if original is not None and not np.allclose(original, reference.logits, rtol=1e-3, atol=1e-4):
        worst = float(np.abs(original - reference.logits).max())
        raise NeurocompileError(
            "NC1011",
            f"{model.origin}: its outputs change by up to {worst:.3g} once its neurons are recovered; please "
            "report the file",
        )
    equal = sum(int((ours[k] == v).sum()) for k, v in reference.layers.items())
    agreement = equal / max(sum(v.size for v in reference.layers.values()), 1)
    if agreement < _LEAST:
        raise NeurocompileError(
            "NC1011",
            f"{model.origin}: only {agreement:.2%} of the spikes agree with onnxruntime after import "
            f"({_LEAST:.0%} needed); please report the file",
        )
    return float(f"{agreement:.9g}")
