"""What lies between a float model and a circuit, as build, check, estimate, theory and verify do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from neurocompile.advice import warn
from neurocompile.calibration import (
    Calibration,
    calibrate_on,
    calibration_from_weights,
    real_values,
)
from neurocompile.errors import NeurocompileError, ViolationList, argument
from neurocompile.frontends.known_modules import KNOWN
from neurocompile.frontends.model import FloatModel
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.significance import bits_needed
from neurocompile.ir.spiking import Conv2d, Linear, SpikingGraph
from neurocompile.moments import input_covariances
from neurocompile.pass_order import circuit_passes, compose_for
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.quantize import Quantize
from neurocompile.targets.schema import Target

__all__ = [
    "build_circuit",
    "canonical_graph",
    "covariances_of",
    "integers_of",
    "located",
    "statistics_of",
]


@contextmanager
def located(model: FloatModel) -> Iterator[None]:
    """Errors of layers, which later stages know by the names of nodes alone, get the module of the
    user's that the layer comes from.
    """
    try:
        yield
    except ViolationList:
        raise
    except NeurocompileError as error:
        path, kind = model.modules.get(error.layer, ("", ""))
        if not path:
            raise
        where = f"in module '{path}'{f', a {kind}' if kind else ''}"
        why, instead = KNOWN.get(kind, ("", ""))
        advice = f". The module {why}; write instead: {instead}" if why else ""
        raise NeurocompileError(
            error.code, f"{error.message} ({where}){advice}", kind=error.kind, layer=error.layer
        ) from error


_FEW_SAMPLES = 16
"""Of an example input, below which it may well be a placeholder."""


def canonical_graph(model: FloatModel, target: Target) -> SpikingGraph:
    """Canonicalize, convolutions merged or kept by the cores of ``target``. A model that comes in
    integers stays as it is.
    """
    if model.graph.stage == "quantized":
        return model.graph
    return canonicalize(model.graph, compose_for(model.options, target))


def integers_of(canonical: SpikingGraph, quantize: Quantize) -> SpikingGraph:
    """What ``quantize`` makes of a canonical graph; one that came in integers keeps them all.

    Raises:
        NeurocompileError: NC2003 where its weights need more bits than ``quantize`` was asked for.
    """
    if canonical.stage != "quantized":
        return quantize(canonical)
    for node in canonical.nodes:
        if isinstance(node, (Conv2d, Linear)):
            needed = bits_needed(canonical.tensors[node.weight], "mixed")
            if needed > quantize.weight_bits:
                raise NeurocompileError(
                    "NC2003",
                    f"layer '{node.name}' comes in integers of {needed} bits, and {quantize.weight_bits} are asked for, or are "
                    "what the target has: nothing is quantized again; export the model with fewer",
                    layer=node.name,
                )
    return canonical


def statistics_of(
    model: FloatModel,
    canonical: SpikingGraph,
    device: str = "cpu",
    done: Callable[[int, int], object] = lambda now, of: None,
) -> Calibration:
    """Measured on the model's samples, else what it brings, else the weights alone with a warning.

    Inputs that are all one number are no data, and a few that a model was traced with are named.
    ``done`` is called with how many samples are measured, and of how many.
    """
    T, found, why = model.options.steps, model.statistics, "and no statistics in the file"
    if model.samples is not None:
        found = calibrate_on(canonical, model.samples, T, device, done)
    if found is not None and found.degenerate:
        why = f"but inputs that are all {found.input.min:g}, which say nothing of data"
        found = None
    if found is None:
        warn(
            f"no calibration data {why}: rates are taken to be typical; give `calibration` for true ones"
            if canonical.stage == "quantized"
            else f"no calibration data {why}: quantizing from the weights alone, with inputs taken to lie "
            "within -4..4; give `calibration` for better accuracy and true rates"
        )
        return calibration_from_weights(T)
    if not found.values and (real := real_values(canonical)):
        warn(
            f"no calibrated range of the real values of {len(real)} operators such as '{real[0]}': their worst case takes "
            "bits that usual values then lack; give `calibration`"
        )
    if found.source == "example" and found.samples < _FEW_SAMPLES:
        inputs = f"{found.samples} example inputs" if found.samples > 1 else "one example input"
        warn(
            f"input range and rates are those of the {inputs} that the model was traced with; give "
            "`calibration` if it is no real data"
        )
    return found


def covariances_of(
    model: FloatModel,
    canonical: SpikingGraph,
    done: Callable[[int, int], object] = lambda now, of: None,
) -> dict[str, np.ndarray]:
    """Of the inputs of the layers of ``model``, whose options ask for compensated rounding; empty
    where they do not. NC1012 without samples.
    """
    if model.options.rounding != "compensated":
        return {}
    if model.samples is None or model.samples.min() == model.samples.max():
        raise NeurocompileError(
            "NC1012",
            f"{argument('rounding', 'compensated')} needs samples of data, whose spikes tell which errors make up "
            "for each other: give `calibration`",
        )
    found = input_covariances(canonical, model.samples, model.options.steps, done)
    if not found:
        warn(
            f"{argument('rounding', 'compensated')} rounds every weight to the nearest: no layer reads spikes "
            "or counts of them"
        )
    return found


def build_circuit(
    quantized: SpikingGraph, T: int, weight_bits: int, target: Target
) -> CircuitGraph:
    """Lower a quantized graph and schedule it for ``target``, weights of circuits in its bits."""
    graph: Any = quantized
    for one in circuit_passes(T, weight_bits, target):
        graph = one(graph)
    return graph
