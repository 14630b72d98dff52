"""Quantization-aware fine-tuning: training with the compiler's own rounding inside.

    model = neurocompile.qat.prepare("qkformer.onnx", bits=4, calibration=x)   # a torch module
    for x, y in batches:                                                      # any loop of yours
        F.cross_entropy(model(x), y).backward(); optimizer.step(); optimizer.zero_grad()
    program = neurocompile.compile(model.eval(), x, calibration=x, weight_bits=4)

:func:`finetune` is such a loop, with the unrounded model as teacher.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocompile.qat.grid import FakeQuantizer
    from neurocompile.qat.model import TrainableModel, prepare
    from neurocompile.qat.training import Finetuned, finetune

__all__ = ["FakeQuantizer", "Finetuned", "TrainableModel", "finetune", "prepare"]

_WHERE = {
    "FakeQuantizer": "grid",
    "Finetuned": "training",
    "TrainableModel": "model",
    "finetune": "training",
    "prepare": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'neurocompile.qat' has no attribute {name!r}")
    return getattr(import_module(f"neurocompile.qat.{_WHERE[name]}"), name)
