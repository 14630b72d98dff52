"""ONNX files that torch's exporters write of modules without a library of neurons."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

__all__ = ["exported"]


def exported(model: torch.nn.Module, path: Path, dynamo: bool, x: np.ndarray) -> Path:
    """What torch's exporter writes; skipped where this torch cannot."""
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                model.eval(), (torch.from_numpy(x),), str(path), dynamo=dynamo, opset_version=18
            )
        except Exception as error:
            pytest.skip(f"torch.onnx.export: {type(error).__name__}")
    return path
