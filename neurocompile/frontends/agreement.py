"""Does the imported graph compute what the model computes? One batch through both, layer by layer:
each is given the model's own spikes, so that a spike that rounding flips is one, and does not go on
to change what lies behind it.
"""

from __future__ import annotations

import numpy as np

from neurocompile.calibration import InputStatistics, calibration_from_weights
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.model import FloatModel
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, step_outputs, step_source
from neurocompile.ir.quick import evaluate_quickly

__all__ = ["check_import"]

_SAMPLES = 4
_LEAST = 0.98
"""Share of equal spikes below which an import is refused: rounding flips a spike in thousands, of
weights on a grid, whose sums lie at thresholds, one in hundreds.
"""
_OF_LAYER = 0.9
"""The same of one layer alone, which may be small; of :data:`_FEW` spikes at least."""
_FEW = 16


def check_import(model: FloatModel) -> float:
    """Share of spikes that the model and its imported graph have in common, each layer given the
    model's spikes of the layers before it, on the first calibration samples or on noise within the
    calibrated range; NC1011 if it is low, in all or in one layer.
    """
    graph, samples = model.graph, model.samples
    if samples is None:
        bounds = (model.statistics or calibration_from_weights(1)).input
        if graph.stage == "quantized":
            bounds = _whole_range(graph.input)
        shape = (_SAMPLES, *graph.input.sample_shape)
        samples = np.random.default_rng(0).uniform(bounds.min, bounds.max, shape).astype(np.float32)
    x = samples[:_SAMPLES]
    reference = model.reference.run(x)
    steps, source = max(graph.exported_T, 1), step_source(graph)
    others: dict[str, int] = {}

    def taught(node: s.Node, inputs: list[np.ndarray], value: np.ndarray) -> np.ndarray:
        theirs = reference.layers.get(node.name)
        if theirs is None:
            return value
        others[node.name] = int((value != theirs).sum())
        return theirs.astype(value.dtype)

    given = encode_input(graph.input, x) if graph.stage == "quantized" else x
    ours = evaluate_quickly(graph, given, steps, [source, graph.output.name], taught)
    original = model.reference.original(x)
    if original is not None:
        _check_outputs(model, original, reference.outputs, "once its neurons are recovered")
    sizes = {name: max(v.size, 1) for name, v in reference.layers.items()}
    for name, count in others.items():
        if count > max((1 - _OF_LAYER) * sizes[name], _FEW):
            _refuse(model, reference.what, f"of '{name}' ", 1 - count / sizes[name], _OF_LAYER)
    agreement = 1 - sum(others.values()) / max(sum(sizes.values()), 1)
    if agreement < _LEAST:
        _refuse(model, reference.what, "", agreement, _LEAST)
    if model.host is not None:
        cut = step_outputs(graph, ours[source]) if model.host.stepwise else ours[graph.output.name]
        found = tuple(model.host.run(cut)[0].values())
        _check_outputs(model, reference.outputs, found, "once the host computes their last part")
    return float(f"{agreement:.9g}")


def _refuse(model: FloatModel, what: str, where: str, share: float, needed: float) -> None:
    raise NeurocompileError(
        "NC1011",
        f"{model.origin}: only {share:.2%} of the spikes {where}agree with {what} after import, given the "
        f"spikes before them ({needed:.0%} needed); please report the file",
    )


def _whole_range(node: s.Input) -> InputStatistics:
    """Of an integer model's input, at most that of images of 0 to 1 and of their standardized form."""
    low, high = node.low * node.unit, node.high * node.unit
    return InputStatistics(max(low, -4.0), min(high, 4.0))


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
