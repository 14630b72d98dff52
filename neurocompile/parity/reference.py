"""The float model that a program is compared with."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.errors import NeurocompileError, argument
from neurocompile.gpu.definition import Definition, definition_on
from neurocompile.ir.evaluate import step_outputs, step_source
from neurocompile.reference.base import ReferenceRun

if TYPE_CHECKING:
    from neurocompile.frontends.model import FloatModel
    from neurocompile.host.part import HostPart
    from neurocompile.ir.spiking import SpikingGraph
    from neurocompile.program import Program

__all__ = ["evaluated", "run_reference"]


def run_reference(
    program: Program, x: np.ndarray, source: Any, device: str, example_input: Any = None
) -> ReferenceRun:
    """The float model ``source`` on ``x``: SpikingJelly if it is installed, onnxruntime otherwise.

    onnxruntime knows only the T of the file; for another T without SpikingJelly neurocompile's own
    float evaluation runs. NC1006 if it is not the model that the program was compiled from.

    Args:
        source: whatever :func:`neurocompile.compile` takes; ``example_input`` as there, by default
            the first samples.
    """
    from neurocompile.frontends.door import open_model

    example = x[:2] if example_input is None else example_input
    asked = msgspec.structs.replace(program.manifest.options, per_sample_lif=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the build said already
        try:
            model = open_model(source, example, asked)
        except NeurocompileError:
            if asked.head is None:
                raise
            # a module's file has the head that was chosen alone
            model = open_model(source, example, msgspec.structs.replace(asked, head=None))
    if model.sha256 != program.manifest.source_sha256:
        _check_same(program, model)
    if model.graph.stage == "quantized":  # its own integers, of this very T
        return model.reference.run(x)
    steps, host = program.circuit.steps, model.host
    device = "cpu" if device == "torch-cpu" else device
    if device != "cpu" or (find_spec("torch") and find_spec("spikingjelly")):
        from neurocompile.reference.spikingjelly import run_spikingjelly

        stepwise = host is not None and host.stepwise
        found = run_spikingjelly(model.graph, x, steps, device, stepwise)
        if host is None:
            return found
        logits, *others = host.run(found.logits)[0].values()
        return replace(found, logits=logits, others=tuple(others))
    if steps == model.graph.exported_T:
        return model.reference.run(x)
    layers = [n.name for n in model.graph.spiking_layers]
    float_model = definition_on(model.graph, steps, "cpu")
    values, outputs = evaluated(model.graph, host, float_model, x, layers)
    spikes = {name: values[name].astype(np.uint8) for name in layers}
    return ReferenceRun("neurocompile's float evaluation, float32", outputs[0], spikes, outputs[1:])


def _check_same(program: Program, model: FloatModel) -> None:
    """NC1006 unless ``model``, in another file or with statistics of other data, has the integers
    of ``program`` when quantized with its calibration.
    """
    from neurocompile.build_steps import canonical_graph, integers_of
    from neurocompile.passes.quantize import Quantize
    from neurocompile.targets.fields import ChipFields

    options, mine = program.manifest.options, program.quantized
    if options.rounding != "nearest":
        raise NeurocompileError(
            "NC1006",
            f"{model.origin} is not the file that the program was compiled from, and the program's weights were rounded "
            f"with {argument('rounding', options.rounding)}, which another file's cannot be without its calibration data",
        )
    why = f"SHA-256 {model.sha256[:12]}, expected {program.manifest.source_sha256[:12]}"
    try:
        canonical = canonical_graph(model, program.target)
        quantize = Quantize(
            options.steps,
            program.calibration,
            options.bits,
            digits=options.digits,
            most_grids=options.grids,
            fields=ChipFields.of(program.target),
        )
        other = integers_of(canonical, quantize)
    except NeurocompileError as error:
        why, other = f"it is refused with the program's calibration: {error.message}", None
    same = (
        other is not None
        and model.host == program.host
        and other.nodes == mine.nodes
        and other.tensors.keys() == mine.tensors.keys()
        and all(np.array_equal(other.tensors[name], t) for name, t in mine.tensors.items())
    )
    if not same:
        raise NeurocompileError(
            "NC1006",
            f"{model.origin} is not the model that the program was compiled from: quantized with the "
            f"program's calibration it has other integers ({why})",
        )


def evaluated(
    graph: SpikingGraph,
    host: HostPart | None,
    definition: Definition,
    x: np.ndarray,
    layers: list[str],
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...]]:
    """Values of ``layers``, and the outputs, by the definition of ``graph``."""
    source = step_source(graph)
    stepwise = host is not None and host.stepwise
    names = [*layers, graph.output.name, *([source] if stepwise else [])]
    values = definition(x, names)
    cut = step_outputs(graph, values[source]) if stepwise else values[graph.output.name]
    return values, (cut,) if host is None else tuple(host.run(cut)[0].values())
