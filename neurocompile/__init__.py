"""neurocompile takes a trained spiking transformer to neuromorphic hardware, spike for spike.

    program = neurocompile.compile("qkformer.onnx", target="loihi2", T=4)
    program.save("qkformer.nca")
    program = neurocompile.load("qkformer.nca")
    program.run(x).predictions
    program.parity(x, y, against=("emulator", "lava"))

Names are imported when first used, so that ``import neurocompile`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocompile.artifact.store import load_program as load
    from neurocompile.errors import NeurocompileError
    from neurocompile.frontends.torch.export import export_onnx
    from neurocompile.pipeline import compile_model as compile
    from neurocompile.pipeline import folds
    from neurocompile.program import Program

__all__ = ["NeurocompileError", "Program", "compile", "export_onnx", "folds", "load"]

_WHERE = {
    "compile": ("neurocompile.pipeline", "compile_model"),
    "load": ("neurocompile.artifact.store", "load_program"),
    "folds": ("neurocompile.pipeline", "folds"),
    "export_onnx": ("neurocompile.frontends.torch.export", "export_onnx"),
    "NeurocompileError": ("neurocompile.errors", "NeurocompileError"),
    "Program": ("neurocompile.program", "Program"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'neurocompile' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)
