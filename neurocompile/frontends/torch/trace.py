"""Trace a module with markers in place of its neurons, and find out how it runs over time.

Three forms are known: neurons that take all steps in one call; neurons called once a step by the
model's own loop; and a model of one step, which its caller calls T times. In the last, the T steps
are rows beside the batch: every layer but a neuron treats them alike, and a neuron takes them
apart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.diagnosis import OWN_TIME
from neurocompile.frontends.torch.membranes import Membrane, is_membrane
from neurocompile.frontends.torch.neurons import (
    LIF_MARKERS,
    STEP_MARKERS,
    LIFMarker,
    PerSample,
    find_neurons,
    path_of,
)
from neurocompile.frontends.torch.outputs import chosen, returned

__all__ = ["UNTRACED", "Plan", "Trace", "prepared", "samples_first", "trace"]

UNTRACED = "torch.export"
"""Kind of an NC1013 where tracing failed: perhaps the model itself does not run."""


@dataclass(frozen=True)
class Plan:
    """How a model runs over time."""

    steps: int
    one_step: bool = False
    """The forward takes one step."""
    leaking: frozenset[str] = frozenset()
    """Neurons whose leading axis is time and batch; run for each sample alone."""
    mixed: bool = False
    """Some neurons take all steps in one call, others are called once a step: the former are traced
    step by step, too.
    """


@dataclass(frozen=True)
class Trace:
    """An exported program, and its neurons."""

    program: torch.export.ExportedProgram
    plan: Plan
    paths: set[str]
    """Neurons that the forward calls."""
    names: dict[str, str] = field(default_factory=dict)
    """Module path by the name of a multi-step neuron's value."""
    stepwise: bool = False
    """The program holds ``neurocompile::step``."""
    outputs: tuple[str, ...] = ()
    """Names of what the forward returns, if that is several tensors."""


def trace(
    model: nn.Module,
    example: np.ndarray,
    T: int | None,
    per_sample_lif: bool,
    head: int | str | None,
) -> Trace:
    """Trace ``model`` (which is copied); see
    :func:`neurocompile.frontends.torch.export.export_onnx` for arguments and errors.
    """
    import copy

    first, outputs = _program(_marked(copy.deepcopy(model), Plan(0)), example, head, 0)
    lifs, steps = _calls(first)
    if not lifs and not steps:
        raise NeurocompileError("NC1010", "no neuron of the model is called in its forward")
    if not lifs and all(len(nodes) == 1 for nodes in steps.values()):
        timed = {
            path: n.meta["val"].shape
            for path, (n,) in steps.items()
            if isinstance(n.meta["val"].shape[0], int)
        }
        if timed:
            raise ViolationList(
                "NC1008",
                [
                    f"neuron '{path}' is in single-step mode, and gets {list(shape)}, whose leading axis is no batch: call "
                    "spikingjelly.activation_based.functional.set_step_mode(model, 'm')"
                    for path, shape in timed.items()
                ],
            )
        if T is None:
            raise NeurocompileError(
                "NC1007",
                f"{type(model).__name__} takes one step: neuron '{next(iter(steps))}' is in single-step mode and called once. "
                "Say how many steps to run it for: T",
            )
        plan = Plan(T, one_step=True)
        program, outputs = _program(_marked(copy.deepcopy(model), plan), example, head, T)
        lifs, _ = _calls(program)
        names = {node.name: path for path, node in lifs.items()}
        return Trace(program, plan, set(lifs), names, outputs=outputs)
    count, leaking = _length(lifs, steps, per_sample_lif)
    plan = Plan(count, leaking=frozenset(leaking), mixed=bool(lifs and steps))
    if leaking or plan.mixed:
        first, _ = _program(_marked(copy.deepcopy(model), plan), example, head, 0)
        lifs, steps = _calls(first)
    for nodes in steps.values():
        for index, node in enumerate(nodes):  # or equal calls of two steps would be taken for one
            node.args = (*node.args[:-1], index)
    names = {n.name: path for path, n in lifs.items()}
    return Trace(first, plan, {*lifs, *steps}, names, bool(steps), outputs)


def samples_first(model: nn.Module) -> nn.Module:
    """``model``, which takes (T, B, ...), made to take (B, T, ...). Copies of it do, too."""

    def forward(self: nn.Module, x: torch.Tensor) -> Any:
        return type(self).forward(self, x.transpose(0, 1))

    model.forward = MethodType(forward, model)
    return model


def prepared(model: nn.Module, plan: Plan, head: int | str | None) -> nn.Module:
    """``model`` with its own neurons, as its exported file runs: for all steps, each sample alone."""
    for path, neuron in find_neurons(model):
        if path in plan.leaking:
            model.set_submodule(path, PerSample(neuron, plan.steps))
    inner, steps = model.forward, plan.steps if plan.one_step else 0

    def forward(x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        calls = [chosen(inner(x), head) for _ in range(max(steps, 1))]
        if steps < 2:
            return returned(calls[0])
        return returned({k: torch.stack([c[k] for c in calls]) for k in calls[0]})

    model.forward = forward
    return model


def _marked(model: nn.Module, plan: Plan) -> nn.Module:
    """``model`` itself, with a marker in place of every neuron."""
    for path, module in list(model.named_modules()):
        if path and is_membrane(type(module)):
            model.set_submodule(path, Membrane(module))
    markers: dict[nn.Module, LIFMarker] = {}
    for path, neuron in find_neurons(model):
        rows = plan.steps if plan.one_step or path in plan.leaking else 0
        # A neuron under two names stays one marker, so that a second call of it is seen as such.
        marker = markers.setdefault(neuron, LIFMarker(neuron, path, rows, plan.mixed))
        model.set_submodule(path, marker)
    if not markers:
        raise NeurocompileError(
            "NC1010",
            f"{type(model).__name__} holds no neuron of SpikingJelly (LIFNode, IFNode, "
            "ParametricLIFNode). Neurons written by hand, or of other libraries, are read from ONNX: give the file that "
            "torch.onnx.export makes of the module",
        )
    return model


def _program(
    model: nn.Module, example: np.ndarray, head: int | str | None, repeats: int
) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Export, and the names of several outputs; with ``repeats``, the input stands so many times
    beside itself, and outputs get an axis of time.
    """
    # torch.export takes a batch of one for a constant.
    batch = torch.from_numpy(np.concatenate([example, example]) if len(example) == 1 else example)
    inner = model.forward
    names: list[str] = []

    def forward(x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        given = x.unsqueeze(0).repeat(repeats, *[1] * x.ndim).flatten(0, 1) if repeats else x
        found = chosen(inner(given), head)
        names[:] = found if len(found) > 1 else []
        if repeats > 1:
            found = {k: y.unflatten(0, (repeats, -1)) for k, y in found.items()}
        return returned(found)

    model.forward = forward
    try:
        return _exported(model, batch), tuple(names)
    except NeurocompileError:
        raise
    except Exception as error:  # torch.export lets any exception of the model's forward through
        raise NeurocompileError(
            "NC1013",
            f"torch.export could not trace {type(model).__name__} on {tuple(batch.shape)}: {_reason(error)}",
            kind=UNTRACED,
        ) from error


def _exported(model: nn.Module, batch: torch.Tensor) -> torch.export.ExportedProgram:
    """``model`` for any number of samples.

    Some releases of torch (2.11) cannot prove conditions that hold for every number, and take the number
    for a fixed one; left to the run of the program, these conditions stop nobody. What really
    needs a fixed number fails again.
    """
    options: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "strict": False}
    with torch.no_grad(), _without_warnings():
        try:
            return torch.export.export(model, (batch,), **options)
        except Exception as error:
            if "satisfy the generated guard" not in str(error):
                raise
        return torch.export.export(
            model, (batch,), prefer_deferred_runtime_asserts_over_guards=True, **options
        )


def _reason(error: Exception) -> str:
    """What stops the trace, in the words of who wrote the forward."""
    reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    if "Constraints violated" in reason or "specializ" in reason:
        return (
            "the forward makes a fixed number of the number of samples, as len(x), int(x.shape[0]) and a Python loop over samples do. "
            "Write x.shape[0], or -1 in a reshape, and compute samples together. The leading axis of the input must be the batch, of "
            "any length; frames are (B, T, ...)"
        )
    if "data-dependent" in reason:
        return f"the forward decides by values that it computes, as .item() or an if over a tensor do ({reason})"
    return f"{reason}. The leading axis of the input must be the batch, of any length"


@contextmanager
def _without_warnings() -> Iterator[None]:
    """SpikingJelly's ``reset_net`` warns of every marker that it resets."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _calls(program: torch.export.ExportedProgram) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Calls of multi-step neurons, one each, and those of single-step neurons, in order, by module
    path.
    """
    lifs: dict[str, Any] = {}
    steps: dict[str, list[Any]] = {}
    for node in program.graph.nodes:
        if node.target in LIF_MARKERS:
            path = path_of(node.args)
            if path in lifs:
                raise NeurocompileError(
                    "NC1013",
                    f"neuron '{path}' is called twice in one forward, and would keep its potential between",
                )
            lifs[path] = node
        elif node.target in STEP_MARKERS:
            steps.setdefault(path_of(node.args), []).append(node)
    return lifs, steps


def _length(
    lifs: dict[str, Any], steps: dict[str, list[Any]], per_sample_lif: bool
) -> tuple[int, list[str]]:
    """T, and the neurons whose leading axis depends on the batch."""
    lengths = {path: node.meta["val"].shape[0] for path, node in lifs.items()}
    known = {path: n for path, n in lengths.items() if isinstance(n, int)} | {
        p: len(nodes) for p, nodes in steps.items()
    }
    leaking = [path for path in lengths if path not in known]
    if (
        leaking and not known and str(lengths[leaking[0]]).isidentifier()
    ):  # the batch itself, not steps times batch
        more = f" and {len(leaking) - 1} more get" if len(leaking) > 1 else " gets"
        shape = ", ".join(map(str, lifs[leaking[0]].meta["val"].shape[1:]))
        why = f"neuron '{leaking[0]}'{more} the input's leading axis for time, (input, {shape}): {OWN_TIME}"
        raise NeurocompileError("NC1020", why)
    if leaking and not (per_sample_lif and known):
        choice = (
            " Or compile it as it runs on a batch of one, each sample alone: `per_sample_lif`"
            if known
            else ""
        )
        raise ViolationList(
            "NC1008",
            [
                f"the leading axis of neuron '{path}' depends on the batch, so samples would follow each other in time: its input "
                f"must be (T, B, ...) with a fixed T.{choice}"
                for path in leaking
            ],
        )
    (first, count), *_ = known.items()
    wrong = [
        f"neuron '{path}' runs for {n} steps, '{first}' for {count}"
        for path, n in known.items()
        if n != count
    ]
    if wrong:
        raise ViolationList("NC1008", wrong)
    return count, leaking
