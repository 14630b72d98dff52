"""Export a SpikingJelly model to an ONNX file in which every neuron is one ``ai.neurocompile::LIF`` node.

A neuron's forward keeps state in attributes and loops over time, which ``torch.export`` either refuses or unrolls. So a
copy of the model gets a marker in place of every neuron, a custom operator that torch carries through as it is, and
the translation table turns it into the node of :mod:`neurocompile.frontends.onnx_lif`.
"""

from __future__ import annotations

import copy
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends import onnx_lif
from neurocompile.frontends.calibration import CALIBRATION_KEY, STEPS_KEY, calibrate

try:
    import onnxscript
    import torch
    from torch import nn
except ImportError as error:
    raise NeurocompileError(
        "NC4001", f"exporting a model needs the package {error.name}: pip install 'neurocompile[torch]'"
    ) from error

from neurocompile.frontends.torch_neurons import LIFMarker, find_neurons

__all__ = ["CALIBRATION_KEY", "STEPS_KEY", "export_onnx"]


def export_onnx(
    model: nn.Module,
    example_input: torch.Tensor | np.ndarray,
    path: str | os.PathLike[str],
    *,
    calibration: np.ndarray | None = None,
    opset_version: int = 18,
) -> None:
    """Write ``model`` to ``path`` as ONNX. The model is not modified; the same call writes the same bytes again.

    Nodes and values of neurons carry the neuron's module path as their name, initializers the parameter's. The leading
    axis of the input is ``batch``, of any length. BatchNormalization after a convolution is folded into it by torch's
    exporter. The file holds no path of this machine, and is either written completely or not at all.

    ``metadata_props`` holds ``neurocompile.T``, the number of steps, and ``neurocompile.calibration``, one JSON object
    described at :func:`neurocompile.frontends.calibration.calibrate`.

    Args:
        model: a module that takes (B, ...) float32, and repeats it over time itself; neurons in multi-step mode. It is
            exported in eval mode, from reset neurons.
        example_input: (B, ...) float32, to trace with; its values matter only when there is no ``calibration``.
        path: the file to write.
        calibration: (N, ...) float32 samples for the statistics; default the example input.
        opset_version: version of the default ONNX domain, at least 18.

    Raises:
        NeurocompileError: NC1013 a neuron without a marker (named), or torch cannot trace the model; NC1004 a parameter
            that is not finite (named); NC1006, NC1012 unusable inputs; NC1008 a neuron whose leading axis is not time;
            NC1010 no neuron; NC5005 the file cannot be written.
    """
    example = _as_array(example_input, "example_input")
    samples = example if calibration is None else _as_array(calibration, "calibration")
    if samples.shape[1:] != example.shape[1:]:
        raise NeurocompileError(
            "NC1006", f"calibration samples are {samples.shape[1:]}, the example input's {example.shape[1:]}"
        )
    try:
        model = copy.deepcopy(model).cpu().eval()
    except RuntimeError as error:
        raise NeurocompileError(
            "NC1013",
            f"{type(model).__name__} cannot be copied: {_first_line(error)}. After a forward pass in training, call "
            "spikingjelly.activation_based.functional.reset_net(model) first",
        ) from error

    # Calibration runs the neurons themselves, in a copy of its own: it must not leave potentials in the traced one.
    program = _trace(_with_markers(copy.deepcopy(model)), example)
    _check_finite(program)
    steps, names = _marked_nodes(program)
    statistics = calibrate(model, find_neurons(model), set(names.values()), samples, steps)
    proto = _translate(program, opset_version)
    _rename(proto, names)
    _strip(proto)
    onnx.helper.set_model_props(proto, {CALIBRATION_KEY: statistics, STEPS_KEY: str(steps)})
    proto.functions.append(onnx_lif.lif_function(opset_version))
    onnx.checker.check_model(proto, full_check=True)
    _write(Path(path), proto.SerializeToString(deterministic=True))


def _as_array(values: torch.Tensor | np.ndarray, name: str) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if array.dtype != np.float32 or array.ndim < 2 or not len(array):
        raise NeurocompileError("NC1006", f"{name} is {array.dtype} {array.shape}, needed is float32 (samples, ...)")
    if not np.isfinite(array).all():
        raise NeurocompileError("NC1012", f"{name} holds NaN or infinity")
    return array


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _with_markers(model: nn.Module) -> nn.Module:
    """``model`` itself, with a marker in place of every neuron."""
    markers: dict[nn.Module, LIFMarker] = {}
    for path, neuron in find_neurons(model):
        # A neuron under two names stays one marker, so that a second call of it is seen as such.
        marker = markers.setdefault(neuron, LIFMarker(neuron, path))
        model.set_submodule(path, marker)
    if not markers:
        raise NeurocompileError("NC1010", f"{type(model).__name__} holds no neuron of SpikingJelly")
    return model


def _trace(model: nn.Module, example: np.ndarray) -> torch.export.ExportedProgram:
    # torch.export takes a batch of one for a constant.
    batch = torch.from_numpy(np.concatenate([example, example]) if len(example) == 1 else example)
    try:
        with torch.no_grad():
            return torch.export.export(
                model, (batch,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
            )
    except Exception as error:  # torch.export lets any exception of the model's forward through
        raise NeurocompileError(
            "NC1013",
            f"torch.export could not trace {type(model).__name__} on {tuple(batch.shape)}: {_first_line(error)}. The "
            "leading axis of the input must be the batch, of any length",
        ) from error


def _check_finite(program: torch.export.ExportedProgram) -> None:
    """NC1004 for a parameter, buffer or constant that is not finite, if the forward reads it."""
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    tensors = {**program.constants, **program.state_dict}
    for spec in program.graph_signature.input_specs:
        tensor = tensors.get(spec.target) if spec.arg.name in used else None
        if tensor is None or not tensor.is_floating_point():
            continue
        wrong = int((~torch.isfinite(tensor)).sum())
        if wrong:
            raise NeurocompileError(
                "NC1004", f"'{spec.target}' holds NaN or infinity in {wrong} of {tensor.numel()} values"
            )


def _marked_nodes(program: torch.export.ExportedProgram) -> tuple[int, dict[str, str]]:
    """The number of steps, and the module path of every neuron in the program by the name of its value."""
    names: dict[str, str] = {}
    steps: dict[str, Any] = {}
    for node in program.graph.nodes:
        if node.target is torch.ops.neurocompile.lif.default:
            path = node.args[1]
            if path in steps:
                raise NeurocompileError(
                    "NC1013", f"neuron '{path}' is called twice in one forward, and would keep its potential between"
                )
            names[node.name] = path
            steps[path] = node.meta["val"].shape[0]
    if not steps:
        raise NeurocompileError("NC1010", "no neuron of the model is called in its forward")
    (first, count), *_ = steps.items()
    for path, length in steps.items():
        if not isinstance(length, int):
            raise NeurocompileError(
                "NC1008",
                f"the leading axis of neuron '{path}' depends on the batch, so samples would follow each other in "
                "time: its input must be (T, B, ...) with a fixed T",
            )
        if length != count:
            raise NeurocompileError("NC1008", f"neuron '{path}' runs for {length} steps, '{first}' for {count}")
    return count, names


def _translate(program: torch.export.ExportedProgram, opset_version: int) -> onnx.ModelProto:
    onnx_lif.register_schema()
    opset = onnxscript.values.Opset(onnx_lif.DOMAIN, onnx_lif.VERSION)

    def translate(
        x: Any, path: str, tau: float, v_threshold: float, v_reset: float, decay_input: bool, soft_reset: bool
    ) -> Any:
        return opset.LIF(
            x,
            tau=tau,
            v_threshold=v_threshold,
            v_reset=v_reset,
            decay_input=int(decay_input),
            soft_reset=int(soft_reset),
        )

    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset_version,
            custom_translation_table={torch.ops.neurocompile.lif.default: translate},
            optimize=True,
            verbose=False,
        )
    except Exception as error:  # the exporter wraps failures of its translations in several unrelated types
        raise NeurocompileError("NC1013", f"torch.onnx could not translate the model: {_first_line(error)}") from error
    return exported.model_proto


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give every LIF node and its value the module path that ``names`` has for the value, and fused biases theirs."""
    graph = proto.graph
    for node in graph.node:
        if node.domain == onnx_lif.DOMAIN:
            if node.output[0] not in names:
                raise NeurocompileError("NC9001", f"the exporter renamed the value '{node.output[0]}' of a neuron")
            node.name = names[node.output[0]]
    # The exporter calls the bias that comes of folding a normalization 'conv.weight_bias'.
    taken = {tensor.name for tensor in graph.initializer}
    fused = {name: name.replace(".weight_bias", ".bias") for name in taken if name.endswith(".weight_bias")}
    names = {**names, **{old: new for old, new in fused.items() if new not in taken}}
    for node in graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    for value in (*graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def _strip(proto: onnx.ModelProto) -> None:
    """Remove what differs between machines (stack traces, versions), and call the symbolic axis ``batch``.

    Shapes of constants are stored with the constants.
    """
    graph = proto.graph
    proto.producer_name, proto.producer_version, proto.doc_string = "neurocompile", "", ""
    for part in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    constants = {tensor.name for tensor in graph.initializer}
    shapes = [value for value in graph.value_info if value.name not in constants]
    graph.ClearField("value_info")
    graph.value_info.extend(shapes)
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dim.dim_param)


def _write(path: Path, content: bytes) -> None:
    """Write a neighbour and move it over ``path``, so that a reader never sees half a file."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise NeurocompileError("NC5005", f"cannot write '{path}': {error.strerror}") from error
