"""Export a SpikingJelly model to an ONNX file in which every neuron is one ``ai.neurocompile::LIF``
node.

A neuron's forward keeps state in attributes and loops over time, which ``torch.export`` either
refuses or unrolls. So a copy of the model gets a marker in place of every neuron, a custom operator
that torch carries through as it is, and the translation table turns it into the node of
:mod:`neurocompile.frontends.onnx.lif`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from neurocompile.calibration import CALIBRATION_KEY
from neurocompile.errors import NeurocompileError, not_importable
from neurocompile.files import as_path, check_writable, write_output
from neurocompile.frontends.diagnosis import not_finite
from neurocompile.frontends.onnx import lif as onnx_lif
from neurocompile.frontends.onnx.general import PREVIOUS
from neurocompile.frontends.torch.statistics import STEPS_KEY, calibrate, spikes_of
from neurocompile.frontends.torch.strip import strip

try:
    import onnxscript
    import torch
    from torch import nn
except ImportError as error:
    raise not_importable("exporting a model", error, "torch") from error

from neurocompile.frontends.torch.copy import copied  # noqa: E402
from neurocompile.frontends.torch.example import check_values, in_float32, own_steps, samples_of  # noqa: E402
from neurocompile.frontends.torch.explain import check_random, explained, first_line, operator_of  # noqa: E402
from neurocompile.frontends.torch.neurons import find_neurons  # noqa: E402
from neurocompile.frontends.torch.outputs import name_outputs  # noqa: E402
from neurocompile.frontends.torch.recognize import is_module, refused  # noqa: E402
from neurocompile.frontends.torch.trace import UNTRACED, Trace, prepared, samples_first, trace  # noqa: E402
from neurocompile.guard import guarded  # noqa: E402
from neurocompile.options import BuildOptions  # noqa: E402
from neurocompile.reference.runtime import open_session  # noqa: E402

__all__ = ["CALIBRATION_KEY", "STEPS_KEY", "export_onnx"]

_LEAST_AGREEMENT = 0.98
"""Share of equal spikes of model and file: rounding flips a spike in thousands, not one in fifty.
"""


@guarded
def export_onnx(
    model: nn.Module,
    example_input: torch.Tensor | np.ndarray,
    path: str | os.PathLike[str],
    *,
    calibration: np.ndarray | None = None,
    opset_version: int = 18,
    T: int | None = None,
    per_sample_lif: bool = False,
    head: int | str | None = None,
    compare: bool = True,
    ranges: bool = True,
) -> None:
    """Write ``model`` to ``path`` as ONNX. The model is not modified; the same call writes the same
    bytes again.

    Nodes and values of neurons carry the neuron's module path as their name, initializers the
    parameter's; other nodes have their module's path in their metadata. The leading axis of the
    input is ``batch``, of any length. BatchNormalization after a convolution is folded into it by
    torch's exporter. The file holds no path of this machine, and is either written completely or
    not at all.

    ``metadata_props`` holds ``neurocompile.T``, the number of steps, and
    ``neurocompile.calibration``, one JSON object described at
    :func:`neurocompile.frontends.torch.statistics.calibrate`. What onnxruntime makes of the file is
    compared with the model on two samples.

    Args:
        model: a module that takes (B, ...) float32. Either it repeats its input over time, its
            neurons in multi-step mode or called once a step; or it takes one step, its neurons in
            single-step mode, and is called ``T`` times from reset neurons: then the file has the
            outputs of all steps. Or it takes frames, (B, T, ...) or (T, B, ...), T of them: the
            file takes (B, T, ...). It is exported in eval mode, from reset neurons.
        example_input: what the model takes, float32, to trace with; its values matter only when
            there is no ``calibration``.
        path: the file to write.
        calibration: float32 (N, ...) for the statistics, or (N, T, ...) of frames whatever the
            model takes; default the example input.
        opset_version: version of the default ONNX domain, at least 18.
        T: steps, for a model of one step; by default what an attribute of the model says (``T``,
            ``num_steps``, ...). Others know their own.
        per_sample_lif: a neuron whose leading axis is time and batch runs for each sample alone, as
            it does in a batch of one; otherwise it is refused.
        head: which of several tensors that the forward returns, by name or number; by default
            all of them.
        compare: False leaves the comparison out, where only the size of a network is asked.
        ranges: False leaves out the ranges of real values (LayerNorm, GELU, softmax of a step), where
            they are measured later.

    Raises:
        NeurocompileError: NC1013 neurons without a marker (all named), or torch cannot trace the
            model; NC1004 a parameter that is not finite (named); NC1006, NC1012 unusable inputs;
            NC1007 a model of one step without T; NC1008 a neuron whose leading axis is not time;
            NC1009 a head that is not there; NC1010 no neuron; NC1011 the file computes something else;
            NC5005 it cannot be written.
    """
    if not is_module(model):
        raise NeurocompileError("NC1014", refused(model))
    check_values(model)
    options = BuildOptions(T=T, head=head)
    example = samples_of(example_input, "example_input")
    given = None if calibration is None else samples_of(calibration, "calibration")
    target = check_writable(as_path(path, "NC5005"))
    with explained(model, example):
        content = _exported(model, example, given, options, opset_version, per_sample_lif, compare)
    if ranges:
        from neurocompile.frontends.torch.real_ranges import with_ranges

        content = with_ranges(content, example if given is None else given)
    write_output(target, content)


def _exported(
    model: nn.Module,
    example: np.ndarray,
    given: np.ndarray | None,
    options: BuildOptions,
    opset_version: int,
    per_sample_lif: bool,
    compare: bool,
) -> bytes:
    """The file's bytes."""
    head, steps = options.head, options.T or own_steps(model)
    model = in_float32(copied(model))
    if not find_neurons(model):
        from neurocompile.frontends.torch.plain import recovered

        return recovered(model, example, given, steps, head, opset_version, compare=compare)
    model, example, found = _traced(model, example, steps, per_sample_lif, head)
    samples = example if given is None else given
    if samples.shape[1:] != example.shape[1:]:
        raise NeurocompileError(
            "NC1006",
            f"calibration samples are {samples.shape[1:]}, those of the example input {example.shape[1:]}",
        )
    _check_finite(found.program)
    check_random(found.program)
    # Calibration runs the neurons themselves, in a copy of its own: it must not leave potentials in
    # the traced one.
    runnable = prepared(copy.deepcopy(model), found.plan, head)
    try:
        statistics = calibrate(
            runnable,
            find_neurons(runnable),
            found.paths,
            samples,
            found.plan.steps,
            source=None if given is not None else "example",
        )
    except Exception as error:  # whatever the user's code or SpikingJelly raises
        raise NeurocompileError(
            "NC1013", f"{type(model).__name__} cannot run in eval mode: {first_line(error)}"
        ) from error
    with _quiet():
        proto = _translate(found.program, opset_version)
    if found.stepwise:
        from neurocompile.frontends.recover.marked import roll_marked

        proto = roll_marked(proto)
    else:
        _rename(proto, found.names)
    if found.outputs:
        name_outputs(proto, found.outputs)
    strip(proto)
    onnx.helper.set_model_props(
        proto, {CALIBRATION_KEY: statistics, STEPS_KEY: str(found.plan.steps)}
    )
    if not any(f.domain == onnx_lif.DOMAIN for f in proto.functions):
        proto.functions.extend(onnx_lif.lif_functions(proto.graph.node, opset_version))
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString(deterministic=True)
    if compare:
        _compare(content, runnable, found, samples[:2])
    return content


def _traced(
    model: nn.Module,
    example: np.ndarray,
    T: int | None,
    per_sample_lif: bool,
    head: int | str | None,
) -> tuple[nn.Module, np.ndarray, Trace]:
    """The trace; the model and its example with samples first where their time was."""
    try:
        return model, example, trace(model, example, T, per_sample_lif, head)
    except NeurocompileError as error:
        if error.kind == UNTRACED:
            _check_runs(model, example, error)
        if error.code != "NC1020" or example.ndim < 3 or example.shape[0] < 2:
            raise
        turned, frames = samples_first(model), np.ascontiguousarray(example.swapaxes(0, 1))
        try:  # perhaps it takes (T, B, ...), frames that a sample brings
            return turned, frames, trace(turned, frames, T, per_sample_lif, head)
        except NeurocompileError:
            raise error from None


def _check_runs(model: nn.Module, example: np.ndarray, traced: NeurocompileError) -> None:
    """NC1013 if it is the model itself that fails on its example input, not the trace of it."""
    try:
        with torch.no_grad():
            copied(model)(torch.from_numpy(example))
    except Exception as error:  # whatever the user's code raises
        raise NeurocompileError(
            "NC1013",
            f"{type(model).__name__} itself fails on its example input {tuple(example.shape)}: {first_line(error)}",
        ) from traced


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of torch's exporter, which tells of outputs that are None."""
    import logging

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _compare(content: bytes, model: nn.Module, found: Trace, x: np.ndarray) -> None:
    """NC1011 unless the file gives the spikes and outputs of ``model``, but for spikes that
    rounding flips. Each neuron of the file is given the module's spikes of those before it, so that
    a flipped one is one.
    """
    proto = onnx.ModelProto.FromString(content)
    lifs = {
        node.name: node.output[0]
        for node in proto.graph.node
        if node.domain == onnx_lif.DOMAIN and node.op_type != PREVIOUS
    }
    outputs, spikes = spikes_of(model, x)
    known = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=v) for v in lifs.values() if v not in known)
    values = _values(proto, {proto.graph.input[0].name: x})
    ours = [list(y.shape) for y in outputs]
    theirs = [list(values[o.name].shape) for o in proto.graph.output][: len(known)]
    shaped = {v: spikes[name].size == values[v].size for name, v in lifs.items()}
    if theirs == ours and all(shaped.values()):
        given = {v: spikes[name].reshape(values[v].shape) for name, v in lifs.items()}
        if not all(np.array_equal(given[v], values[v]) for v in given):
            values = _taught(proto, x, given)
        equal = sum(int((given[v] == values[v]).sum()) for v in given)
        total = sum(v.size for v in given.values())
    else:
        equal, total = 0, max(sum(values[v].size for v in lifs.values()), 1)
    if theirs != ours or equal < _LEAST_AGREEMENT * total:
        raise NeurocompileError(
            "NC1011",
            f"{type(model).__name__} gives {', '.join(map(str, ours))}; its exported file {', '.join(map(str, theirs))}, "
            f"and {equal / total:.2%} of the spikes agree ({_LEAST_AGREEMENT:.0%} needed). A forward that depends on "
            "values or on the batch size is traced wrongly",
        )


def _values(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs by name."""
    session = open_session(proto.SerializeToString())
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds)))


def _taught(
    proto: onnx.ModelProto, x: np.ndarray, given: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All outputs, with the values ``given`` in place of those that the file's nodes read."""
    feeds = {proto.graph.input[0].name: x}
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            if name in given:
                node.input[i] = f"{name} given"
    for name, value in given.items():
        proto.graph.input.append(
            onnx.helper.make_tensor_value_info(
                f"{name} given", onnx.TensorProto.FLOAT, list(value.shape)
            )
        )
        feeds[f"{name} given"] = value.astype(np.float32)
    return _values(proto, feeds)


def _check_finite(program: torch.export.ExportedProgram) -> None:
    """NC1004 for a parameter, buffer or constant that is not finite, if the forward reads it."""
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    tensors = {**program.constants, **program.state_dict}
    for spec in program.graph_signature.input_specs:
        tensor = tensors.get(spec.target) if spec.arg.name in used else None
        if tensor is None or not tensor.is_floating_point():
            continue
        # a mask of a softmax may hold minus infinity: the import tells where it is none
        if not (torch.isfinite(tensor) | torch.isneginf(tensor)).all():
            values = tensor.detach().cpu().float().numpy()
            raise NeurocompileError("NC1004", f"'{spec.target}' {not_finite(values)}")


def _translate(program: torch.export.ExportedProgram, opset_version: int) -> onnx.ModelProto:
    onnx_lif.register_schema()
    onnx_lif.register_step_schema()
    opset = onnxscript.values.Opset(onnx_lif.DOMAIN, onnx_lif.VERSION)

    def translator(kind: str) -> Any:
        def translate(*arguments: Any) -> Any:
            names = ["tau", "v_threshold", "v_reset", "decay_input", "soft_reset"]
            inputs, (path, *values) = [arguments[0]], arguments[1:]
            if kind.startswith("Channel"):
                inputs, (path, *values), names = [*arguments[:2]], arguments[2:], names[1:]
            fields = {
                name: int(v) if name in ("decay_input", "soft_reset") else v
                for name, v in zip(names, values)
            }
            if kind in onnx_lif.STEPS:
                fields |= {"path": path, "index": values[-1]}
            return getattr(opset, kind)(*inputs, **fields)

        return translate

    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset_version,
            custom_translation_table={
                torch.ops.neurocompile.lif.default: translator("LIF"),
                torch.ops.neurocompile.step.default: translator("Step"),
                torch.ops.neurocompile.channel_lif.default: translator("ChannelLIF"),
                torch.ops.neurocompile.channel_step.default: translator("ChannelStep"),
            },
            optimize=True,
            verbose=False,
        )
    except (
        Exception
    ) as error:  # the exporter wraps failures of its translations in several unrelated types
        reason = operator_of(error) or first_line(error)
        raise NeurocompileError(
            "NC1013", f"torch.onnx could not translate the model: {reason}"
        ) from error
    return exported.model_proto


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give every LIF node and its value the module path that ``names`` has for the value, and fused
    biases theirs.
    """
    graph = proto.graph
    for node in graph.node:
        if node.domain == onnx_lif.DOMAIN:
            if node.output[0] not in names:
                raise NeurocompileError(
                    "NC9001", f"the exporter renamed the value '{node.output[0]}' of a neuron"
                )
            node.name = names[node.output[0]]
    # The exporter calls the bias that comes of folding a normalization 'conv.weight_bias'.
    taken = {tensor.name for tensor in graph.initializer}
    fused = {
        name: name.replace(".weight_bias", ".bias")
        for name in taken
        if name.endswith(".weight_bias")
    }
    names = {**names, **{old: new for old, new in fused.items() if new not in taken}}
    for node in graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    for value in (*graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
