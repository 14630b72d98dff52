"""neurocompile takes a trained spiking transformer to neuromorphic hardware, spike for spike.

    program = neurocompile.compile("qkformer.onnx", target="loihi2", T=4)
    program.save("qkformer.nca")
    program = neurocompile.load("qkformer.nca")
    program.run(x).predictions
    program.parity(x, y, against=("emulator", "lava"))

    neurocompile.open("qkformer.onnx").canonical().quantize().lower().map()  # the same, by stages

Names are imported when first used, so that ``import neurocompile`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from neurocompile.checkout import find_beside

if TYPE_CHECKING:
    from neurocompile.artifact.store import load_program as load
    from neurocompile.artifact.verify import verify
    from neurocompile.check import check_model as check
    from neurocompile.doctor import diagnose
    from neurocompile.errors import NeurocompileError, explain
    from neurocompile.events import frames_from_events, load_events
    from neurocompile.frontends.torch.export import export_onnx
    from neurocompile.gate import gate
    from neurocompile.options import BuildOptions
    from neurocompile.pipeline import compile_model as compile
    from neurocompile.pipeline import estimate_model as estimate
    from neurocompile.pipeline import folds
    from neurocompile.program import Program
    from neurocompile.qat import finetune
    from neurocompile.stage_cache import clear_cache, list_cache
    from neurocompile.stages import open_staged as open
    from neurocompile.submission.sending import fetch, submit
    from neurocompile.submission.ticket import Ticket
    from neurocompile.sweeping.sweep import sweep
    from neurocompile.targets.loader import list_targets, load_target
    from neurocompile.theory.measure.deff import deff
    from neurocompile.theory.measure.model_budget import budget
    from neurocompile.zoo import find_model, list_models

__all__ = [
    "BuildOptions",
    "NeurocompileError",
    "Program",
    "Ticket",
    "check",
    "clear_cache",
    "budget",
    "compile",
    "deff",
    "diagnose",
    "estimate",
    "explain",
    "export_onnx",
    "fetch",
    "find_model",
    "finetune",
    "folds",
    "frames_from_events",
    "gate",
    "list_cache",
    "list_models",
    "list_targets",
    "load",
    "load_events",
    "load_target",
    "open",
    "submit",
    "sweep",
    "verify",
]

find_beside()

_WHERE = {
    "budget": ("neurocompile.theory.measure.model_budget", "budget"),
    "BuildOptions": ("neurocompile.options", "BuildOptions"),
    "check": ("neurocompile.check", "check_model"),
    "deff": ("neurocompile.theory.measure.deff", "deff"),
    "clear_cache": ("neurocompile.stage_cache", "clear_cache"),
    "diagnose": ("neurocompile.doctor", "diagnose"),
    "explain": ("neurocompile.errors", "explain"),
    "find_model": ("neurocompile.zoo", "find_model"),
    "finetune": ("neurocompile.qat", "finetune"),
    "frames_from_events": ("neurocompile.events", "frames_from_events"),
    "list_cache": ("neurocompile.stage_cache", "list_cache"),
    "list_models": ("neurocompile.zoo", "list_models"),
    "load_events": ("neurocompile.events", "load_events"),
    "estimate": ("neurocompile.pipeline", "estimate_model"),
    "gate": ("neurocompile.gate", "gate"),
    "list_targets": ("neurocompile.targets.loader", "list_targets"),
    "load_target": ("neurocompile.targets.loader", "load_target"),
    "verify": ("neurocompile.artifact.verify", "verify"),
    "compile": ("neurocompile.pipeline", "compile_model"),
    "open": ("neurocompile.stages", "open_staged"),
    "submit": ("neurocompile.submission.sending", "submit"),
    "fetch": ("neurocompile.submission.sending", "fetch"),
    "Ticket": ("neurocompile.submission.ticket", "Ticket"),
    "sweep": ("neurocompile.sweeping.sweep", "sweep"),
    "load": ("neurocompile.artifact.store", "load_program"),
    "folds": ("neurocompile.pipeline", "folds"),
    "export_onnx": ("neurocompile.frontends.torch.export", "export_onnx"),
    "NeurocompileError": ("neurocompile.errors", "NeurocompileError"),
    "Program": ("neurocompile.program", "Program"),
}


class _Package(ModuleType):
    """Functions stay where a submodule has the same name (``check``, ``gate``), which importing
    it would put in their place.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


_MODULES = ("compat", "qat")
"""Documented as attributes: ``neurocompile.compat.spikingjelly()``."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"neurocompile.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'neurocompile' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
