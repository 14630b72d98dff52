"""A SpikingJelly module as a model to compile: exported to ONNX in passing, by :func:`export_onnx`."""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile import compat
from neurocompile.advice import warn
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.model import FloatModel
from neurocompile.frontends.torch.recognize import is_module
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TorchFrontEnd", "is_factory", "load_factory"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class TorchFrontEnd:
    """Modules: exported to a file in passing, and read as such."""

    def reads(self, model: Any) -> bool:
        """Whether ``model`` is a module; torch is not imported for the answer."""
        return is_module(model)

    def open(
        self,
        model: nn.Module,
        example_input: Any,
        options: BuildOptions,
        *,
        samples: np.ndarray | None,
        compare: bool,
        stages: Stages,
    ) -> FloatModel:
        """See :class:`neurocompile.frontends.model.FrontEnd`."""
        if example_input is None:
            raise NeurocompileError(
                "NC1014",
                f"to compile a {type(model).__name__}, give an example input: compile(model, x)",
            )
        from neurocompile.frontends.onnx.frontend import OnnxFrontEnd
        from neurocompile.frontends.torch.example import own_steps, samples_of
        from neurocompile.frontends.torch.explain import explained
        from neurocompile.frontends.torch.export import export_onnx

        model = _unwrapped(model)
        kind = type(model).__name__
        with tempfile.TemporaryDirectory(prefix="neurocompile-") as folder:
            path = Path(folder) / f"{kind.lower()}.onnx"
            with stages("export"):
                export_onnx(
                    model,
                    example_input,
                    path,
                    calibration=samples,
                    T=options.T,
                    per_sample_lif=options.per_sample_lif,
                    head=options.head,
                    compare=compare,
                    ranges=samples is None,
                )
            # the file has the head alone, and neurons over the batch run per sample in it
            plain = msgspec.structs.replace(options, head=None, per_sample_lif=False)
            with explained(model, samples_of(example_input, "example_input")):
                found = OnnxFrontEnd().open(
                    path, None, plain, samples=None, compare=compare, stages=stages
                )
        # a model of one step was exported with as many as the options say, whatever it says itself
        asked = options.T is not None and found.own_T == options.T
        return replace(found, origin=kind, own_T=(asked and own_steps(model)) or found.own_T)


def _unwrapped(model: nn.Module) -> nn.Module:
    """Without what torch wraps around a module to train it: nothing of what it computes."""
    inner = {"DataParallel": "module", "DistributedDataParallel": "module"}
    inner["OptimizedModule"] = "_orig_mod"  # of torch.compile
    while type(model).__name__ in inner and type(model).__module__.startswith("torch."):
        model = getattr(model, inner[type(model).__name__])
    return model


def is_factory(text: str) -> bool:
    """True for ``package.module:function``."""
    return _FACTORY.fullmatch(text) is not None


def load_factory(text: str) -> tuple[nn.Module, Any]:
    """Call ``package.module:function``, which returns (module, example input); NC1014 if that
    fails.

    Modules are found as by ``python -m``: in the current folder first. This runs the user's own
    code. An author's file that asks for ``spikingjelly.clock_driven`` or CuPy where there is none
    is run again inside of :func:`neurocompile.compat.spikingjelly`, with a warning.
    """
    module_name, function_name = text.split(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        made = _made(module_name, function_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises, sys.exit among it
        raise NeurocompileError(
            "NC1014", f"'{text}' failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise NeurocompileError(
            "NC1014",
            f"'{text}' returned {type(made).__name__}; a tuple (module, example input) is needed",
        )
    return made


def _made(module_name: str, function_name: str) -> Any:
    try:
        return getattr(importlib.import_module(module_name), function_name)()
    except Exception as error:
        if not _of_authors(error):
            raise
    with compat.spikingjelly():
        made = getattr(importlib.import_module(module_name), function_name)()
    warn(
        f"'{module_name}' was written for another SpikingJelly, or for CuPy: it was run inside of "
        "`with neurocompile.compat.spikingjelly():`, as your own code has to"
    )
    return made


def _of_authors(error: Exception) -> bool:
    """Whether an author's file meets a SpikingJelly that it was not written for."""
    why = str(error)
    return "spikingjelly.clock_driven" in why or "CuPy" in why or "argument 'backend'" in why
