"""The quantized model's integers on a GPU (torch, Triton), bit for bit those of
:mod:`neurocompile.ir.evaluate`."""

from __future__ import annotations

from neurocompile.gpu.evaluator import Evaluator, Totals

__all__ = ["Evaluator", "Totals"]
