"""Which module a failure comes from, in the words of who wrote the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.diagnosis import NotSupportedError, Problem
from neurocompile.frontends.known_modules import RANDOM, known
from neurocompile.frontends.torch.copy import copied
from neurocompile.frontends.torch.example import in_float32

__all__ = ["check_random", "explained", "first_line", "operator_of"]

_OF_THE_WHOLE = frozenset({"NC1003", "NC1008", "NC1009", "NC1011", "NC1013"})
"""Codes of errors that say what a trace met, not which module is to blame."""
_RANDOM = frozenset(
    {
        "bernoulli",
        "multinomial",
        "normal",
        "poisson",
        "rand",
        "rand_like",
        "randint",
        "randint_like",
        "randn",
        "randn_like",
        "randperm",
    }
)


@contextmanager
def explained(model: nn.Module, example: np.ndarray) -> Iterator[None]:
    """Errors within the block that blame the whole model name the first module that it calls and
    that is known not to compile.
    """
    try:
        yield
    except Exception as error:  # whatever the user's code, torch and its exporter raise
        if isinstance(error, NeurocompileError) and (
            error.code not in _OF_THE_WHOLE
            or isinstance(error, NotSupportedError)
            and any(p.node or p.module for p in error.problems)
        ):
            raise
        for path, module in _called(model, example):
            found = known(type(module))
            if found is not None:
                raise NotSupportedError([_problem(path, type(module).__name__, *found)]) from error
        raise


def _called(model: nn.Module, example: np.ndarray) -> list[tuple[str, nn.Module]]:
    """Modules that a forward calls, in order, up to where it fails."""
    paths = {module: path for path, module in model.named_modules() if known(type(module))}
    if not paths:
        return []
    called: list[tuple[str, nn.Module]] = []
    with suppress(Exception), torch.no_grad():
        twin = in_float32(copied(model))
        for path in paths.values():
            twin.get_submodule(path).register_forward_pre_hook(
                lambda module, _, path=path: called.append((path, module))
            )
        twin(torch.from_numpy(example))
    return called


def _problem(path: str, kind: str, why: str, instead: str) -> Problem:
    return Problem("NC1003", "", "", path, kind, f"{why}. Write instead: {instead}", instead)


def check_random(program: torch.export.ExportedProgram) -> None:
    """NC1003 for a forward that draws random numbers, with its modules."""
    problems: dict[str, Problem] = {}
    for node in program.graph.nodes:
        packet = getattr(node.target, "overloadpacket", None)
        if packet is None or getattr(packet, "__name__", "") not in _RANDOM:
            continue
        path, kind = _module(node)
        problems.setdefault(path, _problem(path or "(the model's own forward)", kind, *RANDOM))
    if problems:
        raise NotSupportedError(list(problems.values()))


def _module(node: Any) -> tuple[str, str]:
    """Path and class of the innermost module that a node of the trace comes from."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    name = kind if isinstance(kind, str) else kind.__qualname__
    return path, name.rpartition(".")[2]


def operator_of(error: BaseException) -> str:
    """What torch's exporter could not write: the operator, and the reason at the root; "" if it
    does not say.
    """
    operator, cause = "", error
    while cause.__cause__ is not None:
        cause = cause.__cause__
        found = re.search(r"target=torch\.ops\.([\w.]+?)(?:\.default)?\]", str(cause))
        operator = found[1] if found else operator
    return f"operator {operator}: {first_line(cause)}" if operator else ""


def first_line(error: BaseException) -> str:
    """Of an exception's text; its type where it has none."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
