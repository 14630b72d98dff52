"""ONNX files that torch's exporters write of modules with SpikingJelly's neurons."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from spikingjelly.activation_based import functional

__all__ = ["export"]


def export(
    network: torch.nn.Module, example: torch.Tensor, path: Path, **options: object
) -> onnx.ModelProto:
    """What ``torch.onnx.export`` writes; the test is skipped where this torch cannot write it."""
    functional.reset_net(network)
    options.setdefault("training", torch.onnx.TrainingMode.PRESERVE) if not options.get(
        "dynamo"
    ) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network, (example,), str(path), input_names=["x"], verbose=False, **options
            )
        except Exception as error:  # SpikingJelly and torch do not fit together in every version
            pytest.skip(f"torch.onnx.export: {type(error).__name__}")
    return onnx.load(path)
