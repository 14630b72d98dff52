"""A SpikingJelly module as a model to compile: exported to ONNX in passing, by :func:`export_onnx`."""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["exported", "is_factory", "load_factory"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@contextmanager
def exported(
    module: nn.Module, example_input: Any, calibration: np.ndarray | None, **options: Any
) -> Iterator[Path]:
    """Path of an ONNX file of ``module`` that exists for the length of the block.

    Args:
        example_input: float32 (samples, ...), to trace with and, without ``calibration``, for the
            statistics.
        options: of :func:`neurocompile.frontends.torch.export.export_onnx`.
    """
    from neurocompile.frontends.torch.export import export_onnx

    if example_input is None:
        raise NeurocompileError(
            "NC1014",
            f"to compile a {type(module).__name__}, give an example input: compile(model, x)",
        )
    with tempfile.TemporaryDirectory(prefix="neurocompile-") as folder:
        path = Path(folder) / f"{type(module).__name__.lower()}.onnx"
        export_onnx(module, example_input, path, calibration=calibration, **options)
        yield path


def is_factory(text: str) -> bool:
    """True for ``package.module:function``."""
    return _FACTORY.fullmatch(text) is not None


def load_factory(text: str) -> tuple[nn.Module, Any]:
    """Call ``package.module:function``, which returns (module, example input); NC1014 if that
    fails.

    Modules are found as by ``python -m``: in the current folder first. This runs the user's own
    code.
    """
    module_name, function_name = text.split(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        made = function()
    except Exception as error:  # whatever the user's code raises
        raise NeurocompileError(
            "NC1014", f"'{text}' failed: {type(error).__name__}: {error}{_advice(error)}"
        ) from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise NeurocompileError(
            "NC1014",
            f"'{text}' returned {type(made).__name__}; a tuple (module, example input) is needed",
        )
    return made


def _advice(error: Exception) -> str:
    """What to write where an author's file meets a SpikingJelly that it was not written for."""
    why = str(error)
    if "spikingjelly.clock_driven" in why or "CuPy" in why or "argument 'backend'" in why:
        return (
            ". It was written for another SpikingJelly, or for CuPy: import it and make the model inside of "
            "`with neurocompile.compat.spikingjelly():`"
        )
    return ""
