"""Modules whose neurons are not SpikingJelly's: of snnTorch, Norse or sinabs, or written by hand.

They are what their arithmetic says. torch writes it to a file in memory, all steps written out, and
:mod:`neurocompile.frontends.onnx.recover` reads the neurons off it, as for any file of others.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import warnings
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from neurocompile.calibration import CALIBRATION_KEY, calibrate_on
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.importer import import_onnx
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.onnx.load import load_onnx
from neurocompile.frontends.onnx.recover import recover_lif
from neurocompile.frontends.torch.explain import first_line
from neurocompile.frontends.torch.outputs import chosen, name_outputs
from neurocompile.frontends.torch.statistics import STEPS_KEY
from neurocompile.frontends.torch.strip import strip
from neurocompile.reference.runtime import open_session

__all__ = ["recovered"]

_LIBRARIES = ("snntorch", "norse", "sinabs")


def recovered(
    model: nn.Module,
    example: np.ndarray,
    calibration: np.ndarray | None,
    T: int | None,
    head: int | str | None,
    opset_version: int,
    *,
    compare: bool,
) -> bytes:
    """An ONNX file of ``model`` with a node of ours for each neuron, with statistics.

    Its batch is fixed. Arguments and errors are those of
    :func:`neurocompile.frontends.torch.export.export_onnx`; NC1010 if nothing in it is a neuron.
    """
    batch = np.concatenate([example, example])[:2] if len(example) == 1 else example[:2]
    samples = example if calibration is None else calibration
    if samples.shape[1:] != example.shape[1:]:
        raise NeurocompileError(
            "NC1006",
            f"calibration samples are {samples.shape[1:]}, those of the example input {example.shape[1:]}",
        )
    rested = _from_rest(model, batch, head)
    try:
        proto = _traced(rested, batch, head, opset_version)
        found = recover_lif(proto, T if len(proto.graph.output) > 1 else None)
    except NeurocompileError as error:
        if _known(model):
            raise NeurocompileError(error.code, f"{_what(model)}: {error.message}") from error
        raise _without_neuron(model, f": {error.message}") from error
    if not any(node.domain == DOMAIN for node in found.graph.node):
        raise _without_neuron(model, "")
    with tempfile.TemporaryDirectory(prefix="neurocompile-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(found, path)
        graph = import_onnx(load_onnx(path), "model").graph
    if compare:
        _compare(model, found, batch, head)
    steps = max(graph.exported_T, 1)
    known = {p.key: p.value for p in found.metadata_props}
    strip(found)
    statistics = msgspec.json.encode(calibrate_on(graph, samples, steps)).decode()
    onnx.helper.set_model_props(
        found, {**known, CALIBRATION_KEY: statistics, STEPS_KEY: str(steps)}
    )
    return found.SerializeToString(deterministic=True)


def _without_neuron(model: nn.Module, why: str) -> NeurocompileError:
    return NeurocompileError(
        "NC1010",
        f"{type(model).__name__} holds no neuron of SpikingJelly (LIFNode, IFNode, "
        f"ParametricLIFNode), and no other is seen in what it computes{why}",
    )


def _known(model: nn.Module) -> list[str]:
    """The neurons of other libraries that ``model`` holds, for messages."""
    kinds = {
        f"{type(m).__module__.split('.')[0]}.{type(m).__name__} '{path}'"
        for path, m in model.named_modules()
        if type(m).__module__.split(".")[0] in _LIBRARIES
    }
    return sorted(kinds)


def _what(model: nn.Module) -> str:
    return ", ".join(_known(model)[:4]) or type(model).__name__


def _from_rest(model: nn.Module, batch: np.ndarray, head: int | str | None) -> nn.Module:
    """A copy in eval mode whose neurons have states of the batch's shape, at rest; NC1013 if it
    fails, NC1009 if it returns no tensor.
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        try:
            returned = model(torch.from_numpy(batch))
        except Exception as error:  # whatever the user's code raises
            raise NeurocompileError(
                "NC1013",
                f"{type(model).__name__} itself fails on its example input {tuple(batch.shape)}: {_cause(error)}",
            ) from error
    chosen(returned, head)
    for module in model.modules():
        library = type(module).__module__.split(".")[0]
        reset = {"sinabs": "reset_states", "snntorch": "reset_mem"}.get(library, "")
        if hasattr(module, reset):
            getattr(module, reset)()
    return model


def _traced(
    model: nn.Module, batch: np.ndarray, head: int | str | None, opset_version: int
) -> onnx.ModelProto:
    silent, inner = io.StringIO(), model.forward
    names: list[str] = []

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = chosen(inner(x), head)
        names[:] = found
        return tuple(found.values())

    model.forward = forward
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(silent),
        contextlib.redirect_stderr(silent),
    ):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                model,
                (torch.from_numpy(batch),),
                dynamo=True,
                opset_version=opset_version,
                verbose=False,
            )
        except Exception as error:  # torch wraps what went wrong in types of its own
            raise NeurocompileError(
                "NC1013", f"torch.onnx cannot write {_what(model)}: {_cause(error)}"
            ) from error
    assert program is not None
    if len(names) > 1:
        name_outputs(program.model_proto, names)
    return program.model_proto


def _cause(error: BaseException) -> str:
    """What went wrong first, on one line; torch's exporter wraps it in a page of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _compare(
    model: nn.Module, found: onnx.ModelProto, batch: np.ndarray, head: int | str | None
) -> None:
    """NC1011 unless the file gives what the model gives."""
    session = open_session(found.SerializeToString())
    ours = session.run(None, {session.get_inputs()[0].name: batch})
    with torch.no_grad():
        tensors = chosen(_from_rest(model, batch, head)(torch.from_numpy(batch)), head)
    for mine, theirs in zip(ours, tensors.values(), strict=True):
        same = mine.shape == tuple(theirs.shape)
        if not same or not np.allclose(mine, theirs.numpy(), rtol=1e-3, atol=1e-4):
            worst = float(np.abs(mine - theirs.numpy()).max()) if same else np.inf
            raise NeurocompileError(
                "NC1011",
                f"{_what(model)}: outputs change by up to {worst:.3g} once the neurons are recovered; please report it",
            )
