"""What fine-tuning gained: accuracy of the compiled model before and after, and whether the file that
was written keeps what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from neurocompile.files import write_output
from neurocompile.frontends.torch.export import export_onnx
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.quick import evaluate_quickly
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.quantize import Quantize
from neurocompile.qat.model import TrainableModel, prepare
from neurocompile.qat.packing import pack_integers

__all__ = ["Gain", "gain_of", "write"]

_BATCH = 64
_COMPARED = 16
"""Samples whose spikes are compared."""


@dataclass(frozen=True)
class Gain:
    """Correct predictions among ``samples``."""

    samples: int
    float: int
    """Of the model as it came."""
    rounded: int
    """Of what compiles from it."""
    finetuned: int
    """Of what compiles from the trained one."""


def gain_of(model: TrainableModel, x: np.ndarray, y: np.ndarray) -> Gain:
    """Of samples ``x``, float32, and their classes ``y``; all by the definition of what compiles
    (``ir/evaluate.py``).
    """
    return Gain(
        len(x),
        _correct(model.graph, model.T, x, y),
        _correct(_quantized(model, model.graph), model.T, x, y),
        _correct(_quantized(model, model.trained_graph()), model.T, x, y),
    )


def write(model: TrainableModel, path: Path, x: np.ndarray) -> str | None:
    """Export ``model`` with the statistics of ``x``, weights as int8 and a DequantizeLinear, read the file again as a build does, and say
    which layer's spikes compile to others than those that were trained; None if all are the same.
    """
    model.eval()
    export_onnx(model, x[:2], path, calibration=x, T=model.T)
    packed = onnx.load(path)
    if pack_integers(packed, steps_of(model)):
        write_output(path, packed.SerializeToString())
    again = prepare(path, bits=model.bits, calibration=x)
    graphs = _quantized(model, model.trained_graph()), _quantized(again, again.graph)
    names = [n.name for n in graphs[0].spiking_layers]
    if names != [n.name for n in graphs[1].spiking_layers]:
        return "layers have other names"
    mine, found = (
        evaluate_quickly(g, encode_input(g.input, x[:_COMPARED]), model.T, names) for g in graphs
    )
    return next((name for name in names if not np.array_equal(mine[name], found[name])), None)


def steps_of(model: TrainableModel) -> list[float]:
    """Of the grids that its weights lie on."""
    return [float(quantizer.step) for quantizer in model.quantizers.values()]


def _quantized(model: TrainableModel, graph: SpikingGraph) -> SpikingGraph:
    return Quantize(model.T, model.statistics, model.bits, fields=model.fields)(graph)


def _correct(graph: SpikingGraph, T: int, x: np.ndarray, y: np.ndarray) -> int:
    name, found = graph.output.name, 0
    for start in range(0, len(x), _BATCH):
        part = x[start : start + _BATCH]
        given = encode_input(graph.input, part) if graph.stage == "quantized" else part
        logits = evaluate(graph, given, T, [name])[name]
        found += int((logits.argmax(-1) == y[start : start + _BATCH]).sum())
    return found
