"""Why a model does not compile: every reason at once, each with the place in the user's code and
what is supported.
"""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass, replace

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.known_modules import KNOWN

__all__ = [
    "MODULE_KEY",
    "OWN_TIME",
    "NotSupportedError",
    "Problem",
    "closest_form",
    "module_class",
    "module_path",
    "not_finite",
    "of_known_modules",
    "over_time",
    "problem_of",
    "unsupported",
]

MODULE_KEY = "neurocompile.module"
"""Metadata of a node in our files: the module path and class that it comes from, as 'path:Class'.
"""
OWN_TIME = (
    "nothing makes the axis of time that its neurons want first. Let the model take (B, ...) and repeat it, "
    "x.unsqueeze(0).repeat(T, ...), or take frames (B, T, ...) and move their time to the front, x.transpose(0, 1)"
)
"""Of a model whose axis of time is neither a repetition nor the input's own."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"

_LIF = "a LIF, whose spikes carry the signal on"
_OURS = "a neuron: LIFNode, IFNode or ParametricLIFNode in a module, ai.neurocompile::LIF in a file (neurocompile.export_onnx)"
_KERNEL = (
    "no file can hold this kernel of SpikingJelly 2: give the module itself, neurocompile.compile(module, x), or write "
    "its file with neurocompile.export_onnx(module, x, path)"
)
_HOST = "the host: give the model what this computes as its float32 input"
_LISTED = "docs/import.md lists what is understood"
_CLOSEST = {
    "LogSoftmax": "the host: logits are enough for the largest class",
    "PRelu": "LIF",
    "Selu": "LIF",
    "Log": f"no logarithm exists in spikes: {_LIF}",
    "Sqrt": f"no root exists in spikes: {_LIF}",
    "Reciprocal": "division by a constant",
    "Sign": _LIF,
    "Floor": _LIF,
    "Round": _LIF,
    "Ceil": _LIF,
    "RMSNormalization": "its parts, or opset 23",
    "DepthToSpace": "Reshape and Transpose",
    "SpaceToDepth": "Reshape and Transpose",
    "LpPool": "AveragePool",
    "LpNormalization": "BatchNormalization",
    "OneHot": f"token ids are looked up by {_HOST}",
    "Loop": _OURS,
    "Scan": _OURS,
    "Greater": _OURS,
    "GreaterOrEqual": _OURS,
    "Less": _OURS,
    "LessOrEqual": _OURS,
    "LSTM": f"no gated recurrence: {_LIF}",
    "GRU": f"no gated recurrence: {_LIF}",
    "RNN": f"no recurrence: {_LIF}",
    "CumSum": "no recurrence over tokens; only over the steps of time, in a LIF",
    "Max": "the largest of spikes (an OR), MaxPool",
    "Min": "the smallest of spikes (an AND), MaxPool",
    "ReduceMax": "MaxPool",
    "ReduceMin": "MaxPool",
    "ReduceL2": "BatchNormalization",
    "ArgMax": "the host: predictions are the largest logit",
    "TopK": "no choice of the largest: a threshold (LIF)",
    "Resize": "nearest interpolation by whole factors, or ConvTranspose",
    "GatherND": "a pool of a fixed kernel and stride (nn.AvgPool2d) for an adaptive pool whose sizes do not divide, or an index of one axis at a time",
    "GatherElements": "Gather (x.index_select(dim, index))",
    "ReduceProd": "no product over an axis: sums (ReduceSum, ReduceMean)",
    "Equal": _LIF,
}


@dataclass(frozen=True)
class Problem:
    """One reason."""

    code: str
    node: str
    """Of the ONNX graph, or "" for what concerns the whole model."""
    operator: str
    module: str
    """Path in the user's code, such as 'block.0.attn'; "" if the file does not say."""
    kind: str
    """Class of that module; "" if the file does not say."""
    why: str
    supported: str
    """The closest form that compiles; "" if nothing is close, or ``why`` alone says it."""

    @property
    def message(self) -> str:
        """One line."""
        where = f"node '{self.node}'" if self.node else ""
        if where and not self.why.startswith("operator "):  # which names it
            where += f" ({self.operator})"
        if self.module and self.module != self.node:
            kind = f", a {self.kind}" if self.kind else ""
            where += f"{' in ' if where else ''}module '{self.module}'{kind}"
        return f"{where}: {self.why}" if where else self.why


class NotSupportedError(ViolationList):
    """Several :class:`Problem` at once, each line with its own code; ``details`` has them as dicts."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(
            problems[0].code, [p.message for p in problems], [p.code for p in problems]
        )
        self.problems = tuple(problems)
        self.details = [asdict(p) for p in problems]


def closest_form(operator: str) -> str:
    """What to use in place of ``operator``; "" if nothing is close."""
    return _CLOSEST.get(operator, "")


def unsupported(node: onnx.NodeProto, why: str = "is not supported") -> Problem:
    """Of an operator that no rule knows."""
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    # TorchScript's exporter writes these, or stops at them: "unrecognized namespace sj_lif::forward"
    closest = _KERNEL if node.domain.startswith("sj_") else closest_form(node.op_type)
    if closest.startswith("no "):
        advice = closest
    elif closest.startswith("the host"):
        advice = f"it is for {closest}"
    else:
        advice = (
            f"closest supported form: {closest}"
            if closest
            else f"no supported form is close to it; {_LISTED}"
        )
    name = node.name or next(filter(None, node.output), "")
    why = f"operator {operator} {why}; {advice}"
    return Problem("NC1003", name, operator, module_path(node), module_class(node), why, closest)


def module_path(node: onnx.NodeProto) -> str:
    """Path of the module in the user's code that ``node`` comes from: from its metadata, or its
    name as exporters write it.
    """
    found = {entry.key: entry.value for entry in node.metadata_props}
    if MODULE_KEY in found:
        return found[MODULE_KEY].partition(":")[0]
    scopes = _listed(found.get(_SCOPES, ""))
    if len(scopes) > 1 and scopes[-2]:
        return scopes[-2]
    # TorchScript: '/block/0/q_lif/Sub'
    path = node.name.strip("/").split("/")[:-1] if node.name.startswith("/") else []
    return ".".join(part for part in path if part)


def module_class(node: onnx.NodeProto) -> str:
    """Short class name of that module; "" if the file does not say."""
    found = {entry.key: entry.value for entry in node.metadata_props}
    if MODULE_KEY in found:
        return found[MODULE_KEY].partition(":")[2]
    classes = _listed(found.get(_CLASSES, ""))
    return classes[-2].rpartition(".")[2] if len(classes) > 1 else ""


def _listed(text: str) -> list[str]:
    """A list of strings, as torch writes it into metadata; empty for anything else."""
    if len(text) > 1 << 14:
        return []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(part) for part in value] if isinstance(value, (list, tuple)) else []


def over_time(node: onnx.NodeProto) -> Problem:
    """Of a maximum or minimum over the leading axis."""
    why = f"operator {node.op_type} over time is not supported; closest supported form: the mean over time (y.mean(0))"
    return replace(unsupported(node), why=why, supported="the mean over time (y.mean(0))")


def of_known_modules(problems: list[Problem]) -> list[Problem]:
    """``problems``, of which those within a module that is known not to compile are one, which says
    so.
    """
    blamed = {p.module: p for p in problems if p.module and p.kind in KNOWN}
    found: dict[str, Problem] = {}
    for i, problem in enumerate(problems):
        path = next(
            (m for m in blamed if problem.module == m or problem.module.startswith(f"{m}.")), None
        )
        if path is None:
            found[str(i)] = problem
            continue
        why, instead = KNOWN[blamed[path].kind]
        text = f"{why}. Write instead: {instead}"
        found.setdefault(
            path,
            replace(blamed[path], code="NC1003", node="", operator="", why=text, supported=instead),
        )
    return list(found.values())


def not_finite(values: np.ndarray) -> str:
    """What is wrong with a constant of NaN or infinity."""
    bad = int((~np.isfinite(values)).sum())
    if bad == int(np.isneginf(values).sum()):
        return (
            f"has {bad:,} of {values.size:,} values that are -inf: a mask of attention scores? Masks of -inf have no integer "
            "form; let every token attend to all others, or leave tokens out on the host"
        )
    return f"has {bad:,} of {values.size:,} values that are NaN or infinite"


def problem_of(error: NeurocompileError, node: onnx.NodeProto, where: str) -> Problem:
    """``error``, raised by the rule of ``node`` with the prefix ``where``, as a problem."""
    why = error.message.removeprefix(f"{where}: ")
    name = node.name or next(filter(None, node.output), "")
    closest = "" if error.code == "NC1009" else closest_form(node.op_type)  # else ``why`` has it
    return Problem(
        error.code, name, node.op_type, module_path(node), module_class(node), why, closest
    )
