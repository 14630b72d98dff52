"""The float half of parity: a reference against the quantized model, a layer at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.gpu.definition import Definition
from neurocompile.ir.evaluate import encode_input
from neurocompile.parity.counter import Counter
from neurocompile.parity.reference import evaluated, run_reference
from neurocompile.parity.report import FloatParity, HeadParity, LayerParity
from neurocompile.progress import chunks
from neurocompile.run_result import classes_of, is_classifier

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["CHUNK", "float_half"]

CHUNK = 30
"""Samples whose full traces are held at once."""


def float_half(
    program: Program,
    x: np.ndarray,
    y: np.ndarray | None,
    reference: Any,
    definition: Definition,
    device: str,
    example_input: Any,
) -> FloatParity:
    """How many spikes agree by layer, and what that does to the outputs."""
    run = run_reference(program, x, reference, device, example_input)
    counter = Counter()
    equal: dict[str, float] = {}
    rates: dict[str, Any] = {}
    parts: list[dict[str, np.ndarray]] = []
    layers = [v.layer for v in program.circuit.views]
    for chunk in chunks(len(x), CHUNK, "float model", False):
        first, part = chunk.start, x[chunk]
        integers = encode_input(program.quantized.input, part)
        ours, outputs = evaluated(program.quantized, program.host, definition, integers, layers)
        parts.append(dict(zip(program.output_names, outputs, strict=True)))
        for layer in layers:
            theirs = run.layers[layer][first : first + len(part)].reshape(ours[layer].shape)
            counter.add(layer, layer, theirs, ours[layer], first)
            sums = equal.get(layer, 0) + int((theirs == ours[layer]).sum())
            totals = rates.get(layer, np.zeros(3)) + (theirs.sum(), ours[layer].sum(), theirs.size)
            equal[layer], rates[layer] = sums, totals
    wanted = dict(zip(program.output_names, run.outputs, strict=True))
    found = {name: np.concatenate([p[name] for p in parts]) for name in wanted}
    heads = tuple(_head(name, wanted[name], found[name]) for name in wanted)
    main = heads[program.output_names.index(program.main)]
    quantized, float_model = classes_of(found[main.name]), classes_of(wanted[main.name])
    labelled = y is not None and is_classifier(found[main.name])
    return FloatParity(
        reference=run.what,
        samples=len(x),
        layers=tuple(
            LayerParity(
                k,
                float(equal[k] / rates[k][2]),
                float(rates[k][0] / rates[k][2]),
                float(rates[k][1] / rates[k][2]),
            )
            for k in layers
        ),
        parts=counter.first,
        same_predictions=main.same_predictions,
        accuracy_reference=float((float_model == y).mean()) if labelled else None,
        accuracy_quantized=float((quantized == y).mean()) if labelled else None,
        output_error=main.output_error,
        heads=heads,
    )


def _head(name: str, wanted: np.ndarray, found: np.ndarray) -> HeadParity:
    if found.shape != wanted.shape:
        shapes = f"{found.shape} and {wanted.shape}"
        raise NeurocompileError("NC9001", f"the shapes of output '{name}' differ: {shapes}")
    ours, theirs = classes_of(found), classes_of(wanted)
    return HeadParity(
        name,
        list(found.shape[1:]),
        _rms(found - wanted) / max(_rms(wanted), 1e-12),
        float((ours == theirs).mean()) if len(ours) else None,
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
